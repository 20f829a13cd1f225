"""Records keep their form: every kind survives its encoding and refuses a foreign field."""

import pytest

from swarm.errors import BadEncoding
from swarm.ledger.state.records import (
    Account,
    ChainState,
    CheckPhase,
    Contribution,
    Council,
    DueQueue,
    RoundInfo,
    Run,
    RunHead,
    RunPhase,
    RunQueue,
    SegmentPhase,
    SegmentRecord,
    StageSeats,
    StartKind,
    Verdicts,
)
from swarm.primitives.codec import decode, encode
from swarm.testing.ledger import InMemoryLedger, small_run_spec


def test_every_entry_of_a_lived_in_state_survives_its_encoding() -> None:
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(small_run_spec()), 1)
    stage.block(*stage.commit_all(run, 0))
    stage.empty_blocks(20)
    kinds = {type(entry) for _, entry in stage.state.entries.items()}
    work = {SegmentRecord, Contribution, Verdicts}
    parts = {RunHead, RunQueue, StageSeats, RoundInfo}
    assert kinds == {ChainState, Council, Account, DueQueue} | parts | work
    for key, entry in stage.state.entries.items():
        assert decode(type(entry), encode(entry)) == entry, key


def test_a_phase_outside_its_closed_list_is_refused() -> None:
    stage = InMemoryLedger()
    data = encode(stage.open_run(small_run_spec()))
    assert data.count(RunPhase.OPEN.encode()) == 1
    with pytest.raises(BadEncoding):
        decode(Run, data.replace(RunPhase.OPEN.encode(), b"lost"))


def test_names_of_phases_are_final() -> None:
    assert [*map(str, RunPhase)] == [
        *("open", "training", "paused", "cooling", "finished", "settled")
    ]
    assert [*map(str, StartKind)] == ["continued", "adopted", "inherited", "checkpoint", "initial"]
    before = ["posted", "sampled", "sealed", "revealed", "disputed"]
    judged = ["verified", "unsampled", "silent", "guilty"]
    tolerance = ["doubted", "within", "rejected"]
    assert [*map(str, SegmentPhase)] == before + judged + tolerance
    assert [*map(str, CheckPhase)] == [
        *("requested", "sealed", "agreed", "differed", "missed", "spared"),
        *("found", "passed", "jackpot", "fooled"),
    ]
