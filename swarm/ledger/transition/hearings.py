"""Keep the clocks of a dispute that arithmetic decides, and carry out what the court finds.

Core: handlers on a draft. Raises ``InvalidStatement``.

    JUDGES --its accuser opens--> SOLVER <--moves--> ACCUSER
       '-----its solver demands it--------------------^
    SOLVER --out of time--> SILENT --judges clear it--> as if they had before | else: GUILTY
    ACCUSER --out of time, or refuted--> the accusation is gone
    any --not decided by arithmetic--> JUDGES, for good

Each side has a time for each move, and a clock for all of them, so a dispute ends, however both play. A stake
that its solver withdraws stays until then.
"""

from swarm.errors import InvalidStatement, PeerFault, Reason
from swarm.ledger.check_statements import DisputeMove
from swarm.ledger.state.accusations import Accusation, Dispute, Turn
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import SegmentRecord
from swarm.ledger.transition.court import Outcome, Ruling, refusal, the_court
from swarm.ledger.transition.payments import count, is_exact
from swarm.ledger.transition.phases import DISPUTE_ROUNDS
from swarm.primitives.codec import replace
from swarm.types import Height, PeerId

CLOCK_BLOCKS_MIN = 120
"""Blocks that each side has for all its moves, at least: a dozen moves, each answered when it is final."""
MOVE_BLOCKS_MIN = 10
"""Blocks that a side has for one move, at least."""
ASKING_BLOCKS_MIN = 3
"""Blocks in which a side may ask to be heard, at least."""


def clock_blocks(round_blocks: int) -> int:
    """Return the blocks that each side of a dispute has for all its moves together."""
    return max(DISPUTE_ROUNDS * round_blocks, CLOCK_BLOCKS_MIN)


def move_blocks(round_blocks: int) -> int:
    """Return the blocks that a side has for one move: a liar that has none to make gains no more."""
    return max(round_blocks, MOVE_BLOCKS_MIN)


def asking_end(dispute: Dispute, round_blocks: int) -> Height:
    """Return the height from which on a verdict of the judges counts: before, a side may ask to be heard.

    Without that a majority that is bought could convict before its solver can answer.
    """
    if dispute.turn != Turn.JUDGES or dispute.is_tried:
        return Height(0)
    asking = max(round_blocks // 2, ASKING_BLOCKS_MIN)
    return Height(dispute.deadline - DISPUTE_ROUNDS * round_blocks + asking)


def in_hearing(dispute: Dispute) -> bool:
    """Return True while two sides move, and judges are not asked."""
    return dispute.turn in {Turn.ACCUSER, Turn.SOLVER}


def hear(
    draft: Draft,
    sender: PeerId,
    body: DisputeMove,
    record: SegmentRecord,
    accusation: Accusation,
) -> tuple[SegmentRecord, Outcome]:
    """Return a disputed segment after a move, and what follows from it.

    Raises ``InvalidStatement`` for a move of somebody else, out of turn, or that is none.
    """
    dispute = record.dispute
    assert dispute is not None, "a disputed segment has a dispute"
    _check_open(draft, record, dispute, body)
    is_solver = sender == record.peer
    if not is_solver and sender != accusation.peer:
        raise InvalidStatement(Reason.WRONG_PEER, "only the two sides of a dispute move")
    if dispute.turn == Turn.JUDGES:
        dispute = _begun(draft, record, replace(dispute, accuser=accusation.peer))
        if is_solver:
            if body.move:
                raise InvalidStatement(Reason.BAD_FIELD, "who demands a hearing has no move yet")
            return replace(record, dispute=dispute), Outcome.OPEN
    elif is_solver != (dispute.turn == Turn.SOLVER):
        raise InvalidStatement(Reason.WRONG_PEER, "the other side moves")
    ruling = _rule(draft, record, dispute, accusation, body.move)
    limit = move_blocks(draft.run(record.run).spec.round_blocks)
    return replace(record, dispute=_moved(dispute, ruling, draft.height, limit)), ruling.outcome


def _check_open(draft: Draft, record: SegmentRecord, dispute: Dispute, body: DisputeMove) -> None:
    if body.window != dispute.window:
        raise InvalidStatement(Reason.WRONG_PHASE, f"window {dispute.window} is disputed now")
    if not is_exact(draft, record):
        raise InvalidStatement(Reason.WRONG_PHASE, "honest machines differ in a run like this")
    if dispute.turn == Turn.SILENT:
        raise InvalidStatement(Reason.EXPIRED, "the solver was silent for too long")
    if dispute.turn == Turn.JUDGES and dispute.is_tried:
        raise InvalidStatement(Reason.WRONG_PHASE, "arithmetic does not decide it: its judges do")


def _begun(draft: Draft, record: SegmentRecord, dispute: Dispute) -> Dispute:
    """Return the dispute with both clocks full, and hold the solver's stake until they have run out."""
    round_blocks = draft.run(record.run).spec.round_blocks
    clock = clock_blocks(round_blocks)
    ends = draft.height + 2 * clock + DISPUTE_ROUNDS * round_blocks + 1
    draft.hold_unbonding(record.peer, Height(ends))
    return replace(
        dispute,
        ballots=(),
        turn=Turn.ACCUSER,
        since=draft.height,
        accuser_left=clock,
        solver_left=clock,
        deadline=Height(draft.height + move_blocks(round_blocks)),
    )


def _rule(
    draft: Draft,
    record: SegmentRecord,
    dispute: Dispute,
    accusation: Accusation,
    move: bytes,
) -> Ruling:
    """Return what the court finds in a move of whose turn it is."""
    court, window, is_solver = the_court(), dispute.window, dispute.turn == Turn.SOLVER
    try:
        if not dispute.game:
            return court.opened(draft, record, window, accusation.claim, move)
        return court.moved(draft, record, window, dispute.game, move, is_solver=is_solver)
    except PeerFault as fault:
        raise refusal(fault) from None


def _moved(dispute: Dispute, ruling: Ruling, height: int, limit: int) -> Dispute:
    """Return the dispute after a move: its side's clock stops, and the other's runs."""
    spent = height - dispute.since
    if dispute.turn == Turn.SOLVER:
        dispute = replace(dispute, solver_left=dispute.solver_left - spent)
    else:
        dispute = replace(dispute, accuser_left=dispute.accuser_left - spent)
    left = dispute.solver_left if ruling.is_solvers_turn else dispute.accuser_left
    return replace(
        dispute,
        game=ruling.game,
        turn=Turn.SOLVER if ruling.is_solvers_turn else Turn.ACCUSER,
        since=Height(height),
        deadline=Height(height + max(min(left, limit), 1)),
    )


def to_judges(dispute: Dispute, round_blocks: int, height: int) -> Dispute:
    """Return a dispute that arithmetic does not decide: it is before its judges, for good."""
    deadline = Height(height + DISPUTE_ROUNDS * round_blocks)
    return Dispute(dispute.window, deadline, (), is_tried=True)


def fallen_silent(dispute: Dispute, round_blocks: int, height: int) -> Dispute:
    """Return a dispute whose solver has not moved in time: judges may clear it, by the logs of others."""
    deadline = Height(height + DISPUTE_ROUNDS * round_blocks)
    return replace(dispute, turn=Turn.SILENT, deadline=deadline, ballots=(), game=b"", accuser=b"")


def abandon(draft: Draft, record: SegmentRecord, accusation: Accusation) -> None:
    """Give the bond of an accuser that has not moved in time to the solver."""
    draft.credit(record.peer, accusation.bond)
    count(draft, record, accusation.peer, "refuted")


def without(record: SegmentRecord, accusation: Accusation) -> SegmentRecord:
    """Return the record without one accusation, and without a dispute."""
    left = tuple(one for one in record.accusations if one != accusation)
    return replace(record, accusations=left, dispute=None)
