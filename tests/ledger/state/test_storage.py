"""An entry of storage is one of a kind, and survives a snapshot."""

from swarm.ledger.state.draft import Draft
from swarm.ledger.state.state import decode_entry
from swarm.ledger.state.storage import (
    NO_STORAGE,
    Holder,
    Storage,
    is_asked,
    receipts,
    storage_key,
)
from swarm.primitives.codec import encode, replace
from swarm.testing.ledger import InMemoryLedger, numbered_key
from swarm.types import Height, RoundIndex, RunIndex, StageIndex

HOLDER = Holder(numbered_key(1).peer, Height(5), Height(9), Height(0))
STORAGE = replace(NO_STORAGE, holders=(HOLDER,), asked=Height(10), due=Height(12))


def test_an_entry_is_read_by_its_key() -> None:
    key = storage_key(1, 2, 8)
    assert decode_entry(key, encode(STORAGE)) == STORAGE
    keys = {storage_key(1, 2, 8), storage_key(1, 8, 2), storage_key(2, 2, 8)}
    assert len(keys) == 3


def test_a_receipt_is_asked_for_until_it_is_shown() -> None:
    cases = ((0, 0, False), (9, 0, True), (10, 0, False), (9, 10, False), (9, 11, False))
    for receipt, proven, wanted in cases:
        holder = replace(HOLDER, receipt=Height(receipt), proven=Height(proven))
        assert is_asked(STORAGE, holder) is wanted
    assert receipts(replace(STORAGE, holders=(HOLDER, replace(HOLDER, receipt=Height(0))))) == (
        HOLDER,
    )


def test_a_draft_schedules_a_storage_once_for_each_date_and_forgets_it() -> None:
    ledger = InMemoryLedger()
    draft = Draft(ledger.state, ledger.keys[0].peer)
    place = RunIndex(1), StageIndex(2), RoundIndex(8)
    draft.put_storage(*place, STORAGE)
    draft.put_storage(*place, replace(STORAGE, unheld=Height(4)))
    assert draft.due_queue(12).storages == (place,)
    draft.put_storage(*place, replace(STORAGE, due=Height(14)))
    assert draft.due_queue(14).storages == (place,)
    found = draft.storage(*place)
    assert isinstance(found, Storage)
    draft.drop_storage(*place)
    assert draft.storage(*place) is None
