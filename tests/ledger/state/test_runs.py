"""A run is put together from its entries as it was, and each of them is as small as what it says."""

import pytest

from swarm.config.spec import NANO, CheckSpec
from swarm.ledger.state.records import RunHead, RunPhase
from swarm.ledger.state.runs import (
    changed_entries,
    checkpoint_key,
    find_run,
    head_of,
    queue_key,
    run_key,
    stage_key,
)
from swarm.ledger.state.state import State, decode_state, encode_state
from swarm.ledger.transactions import Join, PauseRun, PostCheckpoint
from swarm.ledger.transition.seats import with_seat
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest
from swarm.primitives.merkle import merkle_proof, merkle_root
from swarm.primitives.state_parts import COMPONENTS as NUM_PARTS
from swarm.primitives.state_parts import PHI
from swarm.testing.ledger import InMemoryLedger, numbered_key, small_run_spec
from swarm.types import Digest, RoundIndex, StageIndex

COMPONENTS = [digest("component", bytes([i])) for i in range(NUM_PARTS)]


def a_life() -> InMemoryLedger:
    """A run with joiners, one that waits, commits, and a checkpoint."""
    ledger = InMemoryLedger(8)
    run = ledger.open_run(small_run_spec(replicas_max=2, checkpoint_rounds=2, rounds=20))
    ledger.block(*(ledger.sign(ledger.keys[i], Join(run.index)) for i in range(1, 7)))
    run = ledger.reach_round(run, 1)
    ledger.block(*ledger.commit_all(run, 0))
    run = ledger.reach_round(run, 2)
    drawn = run.rounds[-1].drawn[0]
    key = ledger.key_of(next(seat.peer for seat in run.seats[0] if seat.index == drawn))
    end = merkle_root(COMPONENTS)
    ledger.block(ledger.sign(key, ledger.commit(run, 1, 0, drawn, end_root=end)))
    body = PostCheckpoint(
        run=run.index,
        round=RoundIndex(2),
        stage=StageIndex(0),
        seat=drawn,
        phi_root=COMPONENTS[PHI],
        phi_bytes=4,
        proof=tuple(merkle_proof(COMPONENTS, PHI)),
    )
    ledger.block(ledger.sign(key, body))
    return ledger


def alone(state: State) -> State:
    """The same entries, without any run that was put together before."""
    return State(state.entries)


def test_a_run_is_put_together_as_it_was() -> None:
    state = a_life().state
    (run,) = state.runs()
    assert run.waiting
    assert run.checkpoints[0]
    assert find_run(state.get, run.index) == run
    (again,) = decode_state(encode_state(state)).runs()
    assert again == run
    other = alone(state)
    assert other.find_run(run.index) is other.find_run(run.index), "once per state"


def test_only_what_has_changed_is_written() -> None:
    state = a_life().state
    (run,) = state.runs()
    index = run.index
    assert changed_entries(run, run) == {}
    assert list(changed_entries(run, replace(run, escrow=run.escrow - 1))) == [run_key(index)]
    assert list(changed_entries(run, replace(run, waiting=()))) == [queue_key(index)]
    seat = replace(run.seats[1][0], last_tokens=7)
    seated = replace(run, seats=(run.seats[0], (seat, *run.seats[1][1:])))
    assert list(changed_entries(run, seated)) == [stage_key(index, 1)]
    (kept,) = run.checkpoints[0]
    void = replace(run, checkpoints=((replace(kept, is_void=True),), ()))
    assert list(changed_entries(run, void)) == [checkpoint_key(index, 0, kept.round)]
    gone = changed_entries(run, replace(run, checkpoints=((), ())))
    assert gone.keys() == {stage_key(index, 0), checkpoint_key(index, 0, kept.round)}
    assert gone[checkpoint_key(index, 0, kept.round)] is None
    everything = changed_entries(None, run)
    assert {key: state.get(key) for key in everything} == everything


@pytest.mark.rule("L18")
def test_a_pause_longer_than_the_challenge_window_forgets_no_round_that_the_run_lists() -> None:
    ledger = a_life()
    (run,) = ledger.state.runs()
    ledger.block(ledger.sign(ledger.keys[0], PauseRun(run.index)))
    ledger.empty_blocks(3 * run.spec.checks.challenge_window_blocks)
    (run,) = alone(ledger.state).runs()
    assert run.phase is RunPhase.PAUSED
    assert run.rounds == ledger.state.run(run.index).rounds != ()


def test_the_head_of_a_run_of_1024_seats_is_a_few_kilobytes() -> None:
    spec = small_run_spec(num_stages=64, replicas_max=16, checks=CheckSpec(NANO, 10, 8))
    spec = replace(spec, model=replace(spec.model, num_layers=64))
    run = InMemoryLedger().open_run(spec)
    for stage in range(64):
        for number in range(15):
            run = with_seat(run, stage, numbered_key(number).peer, RoundIndex(0))
    assert sum(map(len, run.seats)) == 1_024
    head = head_of(run)
    assert isinstance(head, RunHead)
    assert len(encode(head)) <= 8_192
    assert len(encode(replace(head, spec_digest=Digest(bytes(32))))) == len(encode(head))
