"""Set a stage back to a checkpoint from before a proven fraud, in runs that ask for it.

Core: a handler on a draft, and questions about a run. Raises ``InvalidStatement``.

    ... C ... fraud ... verdict ... | boundary: every seat of the stage restarts from C

C is the newest valid checkpoint from before the segment that was proven false. Checkpoints posted in between
stay listed, as anchors of segments that can still be checked, and are not canonical any more. Other stages
continue: a conviction shows nothing about their windows.

Source: docs/spec/protocol.md section 6.
"""

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import Rollback, Run, RunPhase, Seat, SegmentRecord
from swarm.ledger.transactions import CommitSegment, PostCheckpoint
from swarm.primitives.codec import replace
from swarm.types import RoundIndex

ROLLBACK = "rollback"
"""Value of ``CheckSpec.on_fraud`` of runs that are set back; the others only evict."""


def set_back(draft: Draft, record: SegmentRecord) -> None:
    """Let the stage of a guilty segment restart at the next boundary, unless the run is past training.

    No effect if an earlier rollback undid the segment already.
    """
    run = draft.run(record.run)
    is_over = run.phase in {RunPhase.COOLING, RunPhase.FINISHED, RunPhase.SETTLED}
    old = run.rollbacks[record.stage]
    is_undone = old.to_round <= record.round < old.boundary
    if run.spec.checks.on_fraud != ROLLBACK or is_over or is_undone:
        return
    earlier = [c.round for c in run.standing(record.stage) if c.round <= record.round]
    new = Rollback(max(earlier, default=0), run.next_round)
    rollbacks = tuple(
        new if stage == record.stage else back for stage, back in enumerate(run.rollbacks)
    )
    draft.put_run(replace(run, rollbacks=rollbacks))


def is_set_back(run: Run, seat: Seat, stage: int, round_: RoundIndex) -> bool:
    """Return True if a segment of ``round_`` is the first of its seat since its stage was set back."""
    boundary = run.rollbacks[stage].boundary
    return seat.last_commit_round < boundary <= round_


def check_not_behind(run: Run, body: PostCheckpoint) -> None:
    """Raise ``InvalidStatement`` for a checkpoint that a rollback undid."""
    back = run.rollbacks[body.stage]
    if back.to_round < body.round <= back.boundary:
        raise InvalidStatement(Reason.WRONG_ROUND, "the stage was set back behind this checkpoint")


def check_restart(run: Run, seat: Seat, body: CommitSegment, *, is_known_end: bool) -> None:
    """Raise ``InvalidStatement`` if a segment continues from an undone state instead of restarting."""
    if is_set_back(run, seat, body.stage, body.round) and is_known_end:
        to_round = run.rollbacks[body.stage].to_round
        raise InvalidStatement(
            Reason.WRONG_START, f"the stage begins again from the checkpoint of round {to_round}"
        )
