"""Keep a run as entries of their own: its head, its queue, and per stage its seats and each checkpoint.

Core: pure functions between a ``Run``, which the rules work with, and the entries of the map.

A commit changes the head and the seats of one stage, and a proof of a checkpoint holds nothing but that
checkpoint, however many seats a run has. The rounds that a run lists are entries already.
"""

from collections.abc import Callable

from swarm.ledger.state.records import (
    Checkpoint,
    Entry,
    RoundInfo,
    Run,
    RunHead,
    RunQueue,
    StageSeats,
)
from swarm.types import RoundIndex, RunIndex

Lookup = Callable[[bytes], Entry | None]
"""Lookup of an entry by key."""


def run_key(run: RunIndex) -> bytes:
    """Return the key of a run's head."""
    return b"r" + run.to_bytes(8, "big")


def queue_key(run: RunIndex) -> bytes:
    """Return the key of a run's queue for seats."""
    return b"q" + run.to_bytes(8, "big")


def stage_key(run: RunIndex, stage: int) -> bytes:
    """Return the key of the seats of a stage."""
    return b"t" + run.to_bytes(8, "big") + stage.to_bytes(8, "big")


def checkpoint_key(run: RunIndex, stage: int, round_: int) -> bytes:
    """Return the key of a canonical checkpoint, while the run lists it."""
    return b"k" + b"".join(part.to_bytes(8, "big") for part in (run, stage, round_))


def round_key(run: RunIndex, round_: RoundIndex) -> bytes:
    """Return the key of the frozen roster and beacon of a round."""
    return b"b" + run.to_bytes(8, "big") + round_.to_bytes(8, "big")


def find_run(get: Lookup, index: RunIndex) -> Run | None:
    """Return a run put together from its entries, or None if there is none."""
    head, queue = get(run_key(index)), get(queue_key(index))
    if not isinstance(head, RunHead) or not isinstance(queue, RunQueue):
        return None
    stages = [get(stage_key(index, stage)) for stage in range(len(head.next_seats))]
    seated = [stage for stage in stages if isinstance(stage, StageSeats)]
    checkpoints = [
        tuple(_checkpoint(get, index, number, round_) for round_ in stage.checkpoint_rounds)
        for number, stage in enumerate(seated)
    ]
    return Run(
        index=head.index,
        owner=head.owner,
        spec=head.spec,
        spec_digest=head.spec_digest,
        escrow=head.escrow,
        opened_height=head.opened_height,
        start_height=head.start_height,
        start_round=head.start_round,
        end_round=head.end_round,
        consensus_rounds=head.consensus_rounds,
        phase=head.phase,
        is_pausing=head.is_pausing,
        paused_height=head.paused_height,
        waiting=queue.waiting,
        leaving=queue.leaving,
        seats=tuple(stage.seats for stage in seated),
        next_seats=head.next_seats,
        rounds=tuple(_round(get, index, round_) for round_ in head.kept_rounds),
        checkpoints=tuple(checkpoints),
        rollbacks=head.rollbacks,
        num_segments=head.num_segments,
        tokens=head.tokens,
    )


def changed_entries(old: Run | None, new: Run) -> dict[bytes, Entry | None]:
    """Return the entries that differ between two versions of a run, all of them for a new one.

    Rounds are left out: they are written when they are frozen, and forgotten when nobody needs them.
    """
    index, changes = new.index, dict[bytes, Entry | None]()
    if old is None or head_of(old) != head_of(new):
        changes[run_key(index)] = head_of(new)
    if old is None or (old.waiting, old.leaving) != (new.waiting, new.leaving):
        changes[queue_key(index)] = RunQueue(new.waiting, new.leaving)
    for stage, (seats, kept) in enumerate(zip(new.seats, new.checkpoints, strict=True)):
        if old is not None and seats is old.seats[stage] and kept is old.checkpoints[stage]:
            continue  # a commit changes one stage of many
        before = () if old is None else old.checkpoints[stage]
        rounds = tuple(checkpoint.round for checkpoint in kept)
        is_new = old is None or old.seats[stage] != seats
        if is_new or rounds != tuple(checkpoint.round for checkpoint in before):
            changes[stage_key(index, stage)] = StageSeats(seats, rounds)
        for gone in (checkpoint.round for checkpoint in before):
            if gone not in rounds:
                changes[checkpoint_key(index, stage, gone)] = None
        for checkpoint in kept:
            if checkpoint not in before:
                changes[checkpoint_key(index, stage, checkpoint.round)] = checkpoint
    return changes


def head_of(run: Run) -> RunHead:
    """Return the part of a run that is no longer than its spec, however many seats it has."""
    return RunHead(
        index=run.index,
        owner=run.owner,
        spec=run.spec,
        spec_digest=run.spec_digest,
        escrow=run.escrow,
        opened_height=run.opened_height,
        start_height=run.start_height,
        start_round=run.start_round,
        end_round=run.end_round,
        consensus_rounds=run.consensus_rounds,
        phase=run.phase,
        is_pausing=run.is_pausing,
        paused_height=run.paused_height,
        next_seats=run.next_seats,
        kept_rounds=tuple(info.round for info in run.rounds),
        rollbacks=run.rollbacks,
        num_segments=run.num_segments,
        tokens=run.tokens,
    )


def _checkpoint(get: Lookup, run: RunIndex, stage: int, round_: int) -> Checkpoint:
    found = get(checkpoint_key(run, stage, round_))
    assert isinstance(found, Checkpoint), "a checkpoint that is listed is there"
    return found


def _round(get: Lookup, run: RunIndex, round_: RoundIndex) -> RoundInfo:
    found = get(round_key(run, round_))
    assert isinstance(found, RoundInfo), "a round that is listed is not forgotten"
    return found
