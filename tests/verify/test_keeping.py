"""A log stays as long as anybody may ask for it: from before its commit to the end of its challenge window."""

import pytest

from swarm.ledger.state.records import SegmentPhase
from swarm.primitives.commitments import tensor_hash
from swarm.types import RunIndex
from swarm.verify import log_store
from swarm.verify.answers import key_of
from swarm.verify.log_store import is_needed
from tests.ledger.checking import a_case


@pytest.mark.rule("V23")
def test_what_is_on_the_ledger_is_kept_until_the_ledger_forgets_it() -> None:
    case = a_case()
    segment_id, last = key_of(case.record), case.record.height + 60
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)
    for is_own in (True, False):
        assert is_needed(case.ledger.state, segment_id, is_own=is_own)
    case.ledger.empty_blocks(last + 1 - case.ledger.state.height)
    for is_own in (True, False):
        assert not is_needed(case.ledger.state, segment_id, is_own=is_own)


@pytest.mark.rule("V23")
def test_a_segment_of_ours_may_still_be_on_its_way_to_the_ledger() -> None:
    case = a_case()
    run, round_, stage, seat = key_of(case.record)
    segment_id = (run, type(round_)(2), stage, seat)
    assert is_needed(case.ledger.state, segment_id, is_own=True)
    assert not is_needed(case.ledger.state, segment_id, is_own=False)
    case.ledger.reach_round(case.run, 4)
    assert is_needed(case.ledger.state, segment_id, is_own=True)
    case.ledger.reach_round(case.run, 5)
    assert not is_needed(case.ledger.state, segment_id, is_own=True)


def test_a_run_the_state_has_not_come_to_yet_is_not_forgotten() -> None:
    case = a_case()
    _, round_, stage, seat = key_of(case.record)
    assert is_needed(case.ledger.state, (RunIndex(9), round_, stage, seat), is_own=False)


def test_a_long_window_has_the_root_of_its_blob(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_store, "SLICE_BYTES", 2 << 20)
    for raw in (b"short", bytes(range(256)) * (5 << 12) + b"end"):
        assert log_store.root_of_bytes(raw) == tensor_hash("uint8", (len(raw),), raw)
