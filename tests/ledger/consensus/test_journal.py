"""A journal with a gap, a change or an addition is refused; a sound one says all that was said."""

import pytest

from swarm.errors import Corrupt
from swarm.ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Certificate
from swarm.ledger.consensus.journal import (
    BASE_KEY,
    HEAD_KEY,
    Journal,
    VoteLog,
    VoteRecord,
    load_journal,
    unsettled,
)
from swarm.ledger.consensus.votes import Vote
from swarm.primitives.crypto import digest
from swarm.types import NO_DIGEST, View

BLOCK = digest("block", b"one")


def a_vote(view: int, kind: int = NOTARIZE, voter: int = 2) -> Vote:
    return Vote(kind, View(view), NO_DIGEST if kind == NULLIFY else BLOCK, voter, bytes(64))


def written(num_views: int, *, pruned: int = 0) -> dict[bytes, bytes]:
    journal, disk = Journal.empty(), dict[bytes, bytes]()
    changes = journal.opening()
    for view in range(1, num_views + 1):
        changes += journal.append(VoteRecord(0, a_vote(view), None))
        changes += journal.append(VoteRecord(0, a_vote(view, FINALIZE), None))
    changes += journal.prune(0, View(pruned))
    for _, key, value in changes:
        if value is None:
            del disk[key]
        else:
            disk[key] = value
    return disk


def test_what_was_recorded_is_read_back_in_order() -> None:
    journal = load_journal(sorted(written(3, pruned=1).items()))
    votes = [record.vote for record in journal.records if isinstance(record, VoteRecord)]
    assert [(vote.view, vote.kind) for vote in votes] == [(2, 0), (2, 2), (3, 0), (3, 2)]
    assert journal.head.number == 6
    left, proposals, blocks = unsettled(journal.records, 0, View(2))
    assert ([vote.view for vote in left], proposals, blocks) == ([3, 3], {}, [])


def test_a_loaded_journal_goes_on_where_it_ended() -> None:
    disk = written(2)
    journal = load_journal(sorted(disk.items()))
    disk |= {key: value or b"" for _, key, value in journal.append(VoteRecord(0, a_vote(3), None))}
    assert load_journal(sorted(disk.items())).head.number == 5


def test_no_rows_are_an_empty_journal() -> None:
    assert load_journal([]).records == []


@pytest.mark.rule("L32")
@pytest.mark.parametrize("row", range(6))
def test_a_missing_row_is_corruption(row: int) -> None:
    disk = written(3, pruned=1)
    del disk[sorted(disk)[row]]
    with pytest.raises(Corrupt):
        load_journal(sorted(disk.items()))


@pytest.mark.rule("L32")
@pytest.mark.parametrize("row", range(6))
@pytest.mark.parametrize("where", [0, 9, -1])
def test_one_turned_bit_or_a_torn_row_is_corruption(row: int, where: int) -> None:
    for cut in (False, True):
        disk = written(3, pruned=1)
        key = sorted(disk)[row]
        value = bytearray(disk[key])
        value[where] ^= 1
        disk[key] = disk[key][:-1] if cut else bytes(value)
        with pytest.raises(Corrupt):
            load_journal(sorted(disk.items()))


def test_an_old_head_does_not_hide_newer_votes() -> None:
    disk, older = written(3), written(2)
    disk[HEAD_KEY] = older[HEAD_KEY]
    with pytest.raises(Corrupt):
        load_journal(sorted(disk.items()))
    disk = written(3, pruned=1)
    disk[BASE_KEY] = older[BASE_KEY]
    with pytest.raises(Corrupt):
        load_journal(sorted(disk.items()))


@pytest.mark.rule("L31")
@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        ([], {NOTARIZE, NULLIFY, FINALIZE}),
        ([NOTARIZE], {NULLIFY, FINALIZE}),
        ([NULLIFY], {NOTARIZE}),
        ([NOTARIZE, FINALIZE], set[int]()),
        ([NOTARIZE, NULLIFY], set[int]()),
    ],
)
def test_one_vote_of_a_kind_and_never_both_nullify_and_finalize(
    said: list[int], allowed: set[int]
) -> None:
    vote_log = VoteLog()
    for kind in said:
        vote_log.add(a_vote(5, kind))
    assert {kind for kind in range(3) if vote_log.allow(kind, View(5))} == allowed
    assert all(vote_log.allow(kind, View(6)) for kind in range(3))
    vote_log.prune(View(5))
    assert vote_log.views() == []


def test_a_certificate_with_a_vote_we_do_not_remember_shows() -> None:
    vote_log = VoteLog()
    vote_log.add(a_vote(5))
    assert not vote_log.lack(Certificate(NOTARIZE, View(5), BLOCK, 0b110, ()), 2)
    assert not vote_log.lack(Certificate(FINALIZE, View(5), BLOCK, 0b011, ()), 2)
    assert vote_log.lack(Certificate(NOTARIZE, View(5), digest("block", b"two"), 0b110, ()), 2)
    assert vote_log.lack(Certificate(FINALIZE, View(5), BLOCK, 0b110, ()), 2)
