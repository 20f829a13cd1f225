"""Set a stage back behind a proven fraud, in runs that ask for it.

Core: functions on a draft and a run.

    ... C ... lie ... verdict ... | boundary: every seat of the stage begins again from C

C is the newest checkpoint that stands from before the segment that was proven false. What was posted in
between stays listed, as anchor of segments that can still be checked, and is canonical no more. Other stages go
on: they have learned nothing but what their own windows show. Source: docs/spec/protocol.md section 6.
"""

from swarm.codec import replace
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.draft import Draft
from swarm.ledger.records import Rollback, Run, RunPhase, Seat, SegmentRecord
from swarm.ledger.transactions import CommitSegment, PostCheckpoint
from swarm.types import RoundIndex

ROLLBACK = "rollback"
"""``CheckSpec.on_fraud`` of runs that go back; the others only evict."""


def set_back(draft: Draft, record: SegmentRecord) -> None:
    """Have the stage of a guilty segment begin again at the next boundary, if there is one to train after."""
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
    """Whether a segment of ``round_`` is the first of its seat since its stage was set back."""
    boundary = run.rollbacks[stage].boundary
    return seat.last_commit_round < boundary <= round_


def check_not_behind(run: Run, body: PostCheckpoint) -> None:
    """Raise for a checkpoint of what was undone."""
    back = run.rollbacks[body.stage]
    if back.to_round < body.round <= back.boundary:
        raise InvalidStatement(Reason.WRONG_ROUND, "the stage was set back behind this checkpoint")


def check_restart(run: Run, seat: Seat, body: CommitSegment, *, is_known_end: bool) -> None:
    """Raise when a segment goes on from what was undone instead of beginning again."""
    if is_set_back(run, seat, body.stage, body.round) and is_known_end:
        to_round = run.rollbacks[body.stage].to_round
        raise InvalidStatement(
            Reason.WRONG_START, f"the stage begins again from the checkpoint of round {to_round}"
        )
