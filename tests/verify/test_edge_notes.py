"""What others have signed waits on the disk until it is compared, and is bounded."""

from pathlib import Path

import pytest

from swarm.errors import Corrupt, DiskFull
from swarm.ledger.edges import EdgeMessage, sender_of
from swarm.primitives.codec import replace
from swarm.store import Store
from swarm.types import RoundIndex, RunIndex, StageIndex
from swarm.verify import edge_notes
from swarm.verify.edge_notes import TABLE, EdgeNotes, packed, unpacked
from tests.ledger.edges import ACTIVATION, GRADIENT, OFFER

pytestmark = pytest.mark.usefixtures("inline_threads")


def numbered(message: EdgeMessage, number: int) -> EdgeMessage:
    return replace(message, signature=number.to_bytes(64, "big"))


KINDS: tuple[EdgeMessage, ...] = (ACTIVATION, GRADIENT, OFFER)
MESSAGES = [numbered(message, number) for number, message in enumerate(KINDS)]


@pytest.mark.rule("V24", "V59")
async def test_messages_survive_a_restart_until_they_are_compared(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    notes = EdgeNotes(store)
    await notes.add(MESSAGES)
    await notes.add(MESSAGES)
    again = EdgeNotes(store)
    assert again.count == notes.count == 3
    (key,) = again.segments()
    assert key == sender_of(ACTIVATION)
    assert sorted(again.of(key), key=lambda m: m.signature) == MESSAGES
    await again.forget(key)
    await again.forget(key)
    assert (again.count, again.of(key), again.segments()) == (0, [], [])
    assert EdgeNotes(store).count == 0


async def test_the_messages_that_wait_are_bounded_and_the_oldest_segments_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_notes, "NOTES_MAX", 20)
    store = Store.open(tmp_path / "store.sqlite")
    notes = EdgeNotes(store)
    for round_ in range(5):
        of_round = replace(GRADIENT, round=RoundIndex(round_))
        await notes.add(numbered(of_round, 8 * round_ + at) for at in range(8))
    assert notes.count == 16
    assert [key[1] for key in notes.segments()] == [3, 4]
    assert EdgeNotes(store).count == 16


async def test_a_full_disk_keeps_them_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = EdgeNotes(Store.open(tmp_path / "store.sqlite"))

    def full(*_: object) -> None:
        raise DiskFull("no room")

    monkeypatch.setattr(Store, "write", full)
    await notes.add(MESSAGES)
    assert notes.count == 3


def test_a_damaged_table_is_said_to_be(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    store.put(TABLE, b"x" * 96, b"nonsense")
    with pytest.raises(Corrupt, match="is damaged"):
        EdgeNotes(store)


def test_a_segment_has_one_name() -> None:
    key = (RunIndex(1), RoundIndex(2), StageIndex(3), 4)
    assert unpacked(packed(key)) == key
