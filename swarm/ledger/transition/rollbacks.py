"""Set a stage back after a proven fraud, in runs that ask for it, and a seat after what it did not show.

Core: handlers on a draft, and questions about a run. Raises ``InvalidStatement``.

    ... C ... fraud ... verdict ... | boundary: every seat of the stage restarts from C
    ... segment ... not shown ...   | boundary: its seat begins with something else than its own end

C is the newest valid checkpoint from before the segment that was proven false. Checkpoints posted in between
stay listed, as anchors of segments that can still be checked, and are not canonical any more. Other stages
continue: a conviction shows nothing about their windows.

Of a segment that was not shown nobody knows what its end is. Its pay is gone, but who wants to put weights into
a model would give that for it, and the segments that go on from it are computed rightly. So nothing goes on
from there after the next boundary: not the seat, nobody who adopts, and no checkpoint of it stands. Only the
seat itself is set back, or a vandal could set back a stage for the price of a fine.

Source: docs/spec/protocol.md sections 5 and 6.
"""

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import (
    Checkpoint,
    Rollback,
    Run,
    RunPhase,
    Seat,
    SegmentRecord,
    StartKind,
)
from swarm.ledger.transactions import CommitSegment, PostCheckpoint
from swarm.ledger.transition.seats import with_changed_seat, with_void
from swarm.primitives.codec import replace
from swarm.types import RoundIndex

OVER = frozenset({RunPhase.COOLING, RunPhase.FINISHED, RunPhase.SETTLED})
"""Phases in which nobody begins again: there is no more training."""
ROLLBACK = "rollback"
"""Value of ``CheckSpec.on_fraud`` of runs that are set back; the others only evict."""


def set_back(draft: Draft, record: SegmentRecord) -> None:
    """Let the stage of a guilty segment restart at the next boundary, unless the run is past training.

    No effect if an earlier rollback undid the segment already.
    """
    run = draft.run(record.run)
    is_over = run.phase in OVER
    old = run.rollbacks[record.stage]
    is_undone = old.to_round <= record.round < old.boundary
    if run.spec.checks.on_fraud != ROLLBACK or is_over or is_undone:
        return
    earlier = [c.round for c in run.standing(record.stage) if c.round <= record.round]
    new = Rollback(max(earlier, default=0), run.next_round)
    rollbacks = tuple(
        new if stage == record.stage else back for stage, back in enumerate(run.rollbacks)
    )
    run = replace(run, rollbacks=rollbacks)
    # Void for good: the next rollback of the stage is the only one that its record has then.
    draft.put_run(with_void(run, record.stage, lambda c: new.to_round < c.round <= new.boundary))


def is_set_back(run: Run, seat: Seat, stage: int, round_: RoundIndex) -> bool:
    """Return True if a segment of ``round_`` is the first of its seat since its stage was set back."""
    boundary = run.rollbacks[stage].boundary
    return seat.last_commit_round < boundary <= round_


def set_adrift(draft: Draft, record: SegmentRecord) -> None:
    """Let nothing go on from a segment that was not shown, and from those that went on from it before.

    No later boundary if the segment goes back to another one that was not shown: each would put it off.
    """
    run = draft.run(record.run)
    last = _last_after(draft, record, run.next_round)

    def goes_back(c: Checkpoint) -> bool:
        is_its = (c.peer, c.seat) == (record.peer, record.seat)
        return is_its and record.round < c.round <= last + 1

    run = with_void(run, record.stage, goes_back)
    seat = next((s for s in run.seats[record.stage] if s.index == record.seat), None)
    goes_on = (
        seat is not None and seat.anew_round <= record.round and seat.last_commit_round <= last
    )
    if seat is not None and goes_on and run.phase not in OVER:
        run = with_changed_seat(run, replace(seat, anew_round=run.next_round))
    draft.put_run(run)


def _last_after(draft: Draft, record: SegmentRecord, stop: int) -> int:
    """Return the last round before ``stop`` whose segment goes on, through others, from one of its seat."""
    last = record.round
    for round_ in range(record.round + 1, stop):
        found = draft.segment(record.run, RoundIndex(round_), record.stage, record.seat)
        if found is None:
            continue
        if found.start_kind is not StartKind.CONTINUED:
            break
        last = RoundIndex(round_)
    return last


def anew_round(run: Run, stage: int, index: int) -> int:
    """Return the round from which on nothing goes on from earlier ends of a seat; -1 if all may."""
    seats = (seat for seat in run.seats[stage] if seat.index == index)
    return max((run.rollbacks[stage].boundary, *(seat.anew_round for seat in seats)))


def is_adrift(seat: Seat, round_: int) -> bool:
    """Return True if a segment of ``round_`` is the first of its seat since one was not shown."""
    return seat.last_commit_round < seat.anew_round <= round_


def check_not_behind(run: Run, body: PostCheckpoint) -> None:
    """Raise ``InvalidStatement`` for a checkpoint that a rollback undid."""
    back = run.rollbacks[body.stage]
    if back.to_round < body.round <= back.boundary:
        raise InvalidStatement(Reason.WRONG_ROUND, "the stage was set back behind this checkpoint")
    seats = (seat for seat in run.seats[body.stage] if seat.index == body.seat)
    if any(body.round <= seat.anew_round for seat in seats):
        raise InvalidStatement(
            Reason.WRONG_ROUND, "it goes back to a segment of its seat that was not shown"
        )


def check_restart(run: Run, seat: Seat, body: CommitSegment, *, is_known_end: bool) -> None:
    """Raise ``InvalidStatement`` if a segment continues from an undone state instead of restarting."""
    if is_set_back(run, seat, body.stage, body.round) and is_known_end:
        to_round = run.rollbacks[body.stage].to_round
        raise InvalidStatement(
            Reason.WRONG_START, f"the stage begins again from the checkpoint of round {to_round}"
        )
