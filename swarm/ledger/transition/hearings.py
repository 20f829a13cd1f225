"""Keep the clocks of a dispute, and carry out what the court finds in its moves.

Core: handlers on a draft. Raises ``InvalidStatement``.

    a dispute opens --> ACCUSER <--moves--> SOLVER
    ACCUSER --out of time, or refuted--> the accusation is gone
    SOLVER --out of time--> SILENT --comes back, once--> ACCUSER
                              '--some epochs later--> GUILTY    SOLVER --out of time again--> GUILTY

Each side has a time for each move, and a clock for all of them, so a dispute ends, however both play. Stakes
that are withdrawn stay until then.

Who gains? A solver that falls silent loses its seat at once, and is not paid while it is away: a liar has
nothing of it. Its stake is taken only some epochs later, so a machine that was without power keeps it by coming
back, and an accuser that counted on that is punished.
"""

from swarm.errors import InvalidStatement, PeerFault, Reason
from swarm.ledger.check_statements import DisputeMove
from swarm.ledger.state.accusations import Accusation, Dispute, Turn
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import CheckPhase, SegmentRecord
from swarm.ledger.transition.court import Outcome, Ruling, refusal, the_court
from swarm.ledger.transition.payments import count, evict, void_checkpoints
from swarm.ledger.transition.phases import DISPUTE_ROUNDS
from swarm.ledger.transition.rollbacks import set_back
from swarm.primitives.codec import replace
from swarm.types import Height, PeerId

CLOCK_BLOCKS_MIN = 240
"""Blocks that each side has for all its moves, at least: a dozen moves, each answered when it is final."""
MOVE_BLOCKS_MIN = 30
"""Blocks that a side has for one move, at least."""
SOLVERS_TURNS = frozenset({Turn.SOLVER, Turn.SILENT})


def clock_blocks(round_blocks: int) -> int:
    """Return the blocks that each side of a dispute has for all its moves together."""
    return max(DISPUTE_ROUNDS * round_blocks, CLOCK_BLOCKS_MIN)


def move_blocks(round_blocks: int) -> int:
    """Return the blocks that a side has for one move: a liar that has none to make gains no more."""
    return max(round_blocks, MOVE_BLOCKS_MIN)


def silence_blocks(unbonding_epochs: int, epoch_blocks: int) -> int:
    """Return the blocks in which a silent solver may come back: an epoch less than a stake takes to be free."""
    return max(unbonding_epochs - 1, 1) * epoch_blocks


def begin(draft: Draft, record: SegmentRecord, accusation: Accusation) -> Dispute:
    """Return the dispute about an accusation: both clocks are full, and it is the accuser's turn."""
    round_blocks = draft.run(record.run).spec.round_blocks
    clock = clock_blocks(round_blocks)
    dispute = Dispute(
        window=accusation.window,
        accuser=accusation.peer,
        deadline=Height(draft.height + move_blocks(round_blocks)),
        turn=Turn.ACCUSER,
        since=draft.height,
        accuser_left=clock,
        solver_left=clock,
    )
    _hold(draft, record, dispute)
    return dispute


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
    if body.window != dispute.window:
        raise InvalidStatement(Reason.WRONG_PHASE, f"window {dispute.window} is disputed now")
    is_solver = sender == record.peer
    if not is_solver and sender != dispute.accuser:
        raise InvalidStatement(Reason.WRONG_PEER, "only the two sides of a dispute move")
    if is_solver != (dispute.turn in SOLVERS_TURNS):
        raise InvalidStatement(Reason.WRONG_PEER, "the other side moves")
    ruling = _rule(draft, record, dispute, accusation, body.move)
    round_blocks = draft.run(record.run).spec.round_blocks
    if dispute.turn == Turn.SILENT:
        come_back(draft, record)
        dispute = replace(dispute, solver_left=clock_blocks(round_blocks), has_returned=True)
        limit = clock_blocks(round_blocks)  # who had to wait so long may be away for a moment
    else:
        limit = move_blocks(round_blocks)
    dispute = _moved(dispute, ruling, draft.height, limit)
    _hold(draft, record, dispute)
    return replace(record, dispute=dispute), ruling.outcome


def _rule(
    draft: Draft,
    record: SegmentRecord,
    dispute: Dispute,
    accusation: Accusation,
    move: bytes,
) -> Ruling:
    """Return what the court finds in a move of whose turn it is."""
    court, window = the_court(), dispute.window
    is_solver = dispute.turn in SOLVERS_TURNS
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
    elif dispute.turn == Turn.ACCUSER:
        dispute = replace(dispute, accuser_left=dispute.accuser_left - spent)
    left = dispute.solver_left if ruling.is_solvers_turn else dispute.accuser_left
    return replace(
        dispute,
        game=ruling.game,
        turn=Turn.SOLVER if ruling.is_solvers_turn else Turn.ACCUSER,
        since=Height(height),
        deadline=Height(height + max(min(left, limit), 1)),
    )


def fall_silent(draft: Draft, record: SegmentRecord, dispute: Dispute) -> SegmentRecord:
    """Send a solver away that has not moved in time, and give it some epochs to come back.

    What a conviction ends at once for others ends now: its seat, what it has posted, and what was built on its
    segment. Its pay, its stake and its shares wait.
    """
    params = draft.globals.params
    deadline = draft.height + silence_blocks(params.unbonding_epochs, params.epoch_blocks)
    silent = replace(
        dispute, turn=Turn.SILENT, since=draft.height, solver_left=0, deadline=Height(deadline)
    )
    evict(draft, record)
    void_checkpoints(draft, record)
    set_back(draft, record)
    _count_absence(draft, record, 1)
    _hold(draft, record, silent)
    return replace(record, dispute=silent)


def come_back(draft: Draft, record: SegmentRecord) -> None:
    """End the absence of a solver that is silent in the dispute of a record: it has moved, or is convicted."""
    if record.dispute is not None and record.dispute.turn == Turn.SILENT:
        _count_absence(draft, record, -1)


def _count_absence(draft: Draft, record: SegmentRecord, change: int) -> None:
    work = draft.contribution(record.run, record.peer)
    draft.put_contribution(record.run, record.peer, replace(work, absent=work.absent + change))


def _hold(draft: Draft, record: SegmentRecord, dispute: Dispute) -> None:
    """Keep what solver, accuser and approvers have withdrawn from their stakes until a dispute can last.

    A solver that may still come back has a whole clock then.
    """
    round_blocks = draft.run(record.run).spec.round_blocks
    clocks = (
        dispute.accuser_left
        + dispute.solver_left
        + (not dispute.has_returned) * clock_blocks(round_blocks)
    )
    until = Height(dispute.deadline + clocks + 2)
    approved = [check.peer for check in record.checks if check.phase is CheckPhase.AGREED]
    for peer in dict.fromkeys((record.peer, dispute.accuser, *approved)):
        draft.hold_unbonding(peer, until)


def abandon(draft: Draft, record: SegmentRecord, accusation: Accusation) -> None:
    """Give the bond of an accuser that has not moved in time to the solver."""
    draft.credit(record.peer, accusation.bond)
    count(draft, record, accusation.peer, "refuted")


def without(record: SegmentRecord, accusation: Accusation) -> SegmentRecord:
    """Return the record without one accusation, and without a dispute."""
    left = tuple(one for one in record.accusations if one != accusation)
    return replace(record, accusations=left, dispute=None)
