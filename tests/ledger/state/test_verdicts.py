"""Every judged segment of a run is counted once, by its last verdict, also when its record is forgotten."""

import pytest

from swarm.ledger.state.draft import JUDGED, is_confirmed, recounted
from swarm.ledger.state.records import (
    CONVICTIONS_KEPT,
    Check,
    CheckPhase,
    SegmentPhase,
    SegmentRecord,
    Verdicts,
)
from swarm.primitives.codec import replace
from swarm.types import NO_DIGEST, Amount, Height, PeerId, RoundIndex
from tests.ledger.checking import EXACT, a_case

NOTHING = Verdicts(verified=0, unsampled=0, silent=0, guilty=0, confirmed=0, convictions=())


def a_record(phase: SegmentPhase, *checks: CheckPhase) -> SegmentRecord:
    made = tuple(
        Check(
            peer=PeerId(bytes(32)),
            window=0,
            phase=c,
            height=Height(1),
            commitment=NO_DIGEST,
            commit_height=Height(2),
            is_report=False,
            bond=Amount(0),
        )
        for c in checks
    )
    return replace(a_case().record, phase=phase, checks=made)


def test_a_count_bears_the_name_of_its_phase() -> None:
    posted = a_record(SegmentPhase.POSTED)
    for phase in JUDGED:
        after = recounted(NOTHING, posted, replace(posted, phase=phase), Height(9))
        assert getattr(after, phase.value) == 1
        counts = (after.verified, after.unsampled, after.silent)
        others = (after.guilty, after.within, after.rejected)
        assert sum((*counts, *others)) == 1
    for phase in {*SegmentPhase} - JUDGED:
        assert recounted(NOTHING, posted, replace(posted, phase=phase), Height(9)) == NOTHING


def test_who_is_accused_again_is_counted_again_by_the_next_verdict() -> None:
    posted = a_record(SegmentPhase.REVEALED)
    verified = a_record(SegmentPhase.VERIFIED, CheckPhase.AGREED)
    disputed = replace(verified, phase=SegmentPhase.DISPUTED)
    verdicts = recounted(NOTHING, posted, verified, Height(5))
    assert (verdicts.verified, verdicts.confirmed) == (1, 1)
    verdicts = recounted(verdicts, verified, disputed, Height(6))
    assert verdicts == NOTHING
    assert recounted(verdicts, disputed, verified, Height(7)) == replace(
        NOTHING, verified=1, confirmed=1
    )
    verdicts = recounted(
        verdicts, disputed, replace(disputed, phase=SegmentPhase.GUILTY), Height(8)
    )
    (found,) = verdicts.convictions
    assert (verdicts.guilty, verdicts.verified, verdicts.confirmed) == (1, 0, 0)
    assert (found.peer, found.round, found.height) == (verified.peer, verified.round, 8)


def test_only_the_replay_of_another_peer_confirms() -> None:
    agreed, missed = CheckPhase.AGREED, CheckPhase.MISSED
    assert is_confirmed(a_record(SegmentPhase.VERIFIED, missed, agreed))
    assert is_confirmed(a_record(SegmentPhase.VERIFIED, agreed, CheckPhase.DIFFERED))
    assert not is_confirmed(a_record(SegmentPhase.UNSAMPLED, missed))
    assert not is_confirmed(a_record(SegmentPhase.REVEALED, agreed))
    assert not is_confirmed(a_record(SegmentPhase.GUILTY, agreed))


@pytest.mark.rule("L47")
def test_the_list_of_convictions_is_bounded_and_keeps_the_newest() -> None:
    verdicts, before = NOTHING, a_record(SegmentPhase.DISPUTED)
    for number in range(CONVICTIONS_KEPT + 5):
        before = replace(before, round=RoundIndex(number))
        guilty = replace(before, phase=SegmentPhase.GUILTY)
        verdicts = recounted(verdicts, before, guilty, Height(number))
    assert verdicts.guilty == CONVICTIONS_KEPT + 5
    assert [found.round for found in verdicts.convictions] == [*range(5, CONVICTIONS_KEPT + 5)]


@pytest.mark.rule("L47")
def test_the_counts_outlive_the_records() -> None:
    case = a_case()
    case.show(case.up_to_reveal())
    wanted = replace(NOTHING, verified=1, confirmed=1)
    assert case.ledger.state.verdicts(case.run.index) == wanted
    case.ledger.empty_blocks(EXACT.checks.challenge_window_blocks + 1)
    assert case.ledger.state.live_segments() == ()
    assert case.ledger.state.verdicts(case.run.index) == wanted
