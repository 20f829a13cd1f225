"""Fund a run: its owner adds to the escrow, and shareholders go on with a run whose owner stopped.

Core: handlers on a draft. Raises ``InvalidStatement``.

    SETTLED --backing of more than half of the shares, an escrow, nothing left of the old one--> OPEN, new owner

A run that ended before its last round, for want of money or because its owner closed it, can go on. Holders of
its shares say whom they want as the next owner, and the peer that more than half of them back opens it again:
with an escrow of its own, from the checkpoints that are canonical, in the round after the last. It gains no
money by that: the old escrow is with the old owner, and every segment that was paid from it is judged and
forgotten before. What was made final stays final; whoever does not like the new owner opens a run of their own
from the same checkpoint.
"""

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import Run, RunPhase
from swarm.ledger.state.state import Reader
from swarm.ledger.transactions import BackOwner, ContinueRun, FundingStatement, FundRun
from swarm.ledger.transition.runs import (
    JUDGING_ROUNDS,
    SETTLE_ROUNDS,
    START_DELAY_BLOCKS,
    check_owner,
    live_run,
    rounds_kept,
)
from swarm.ledger.transition.seats import with_seat
from swarm.ledger.transition.storage import wake_storage
from swarm.primitives.codec import replace
from swarm.types import Amount, Height, PeerId, RoundIndex

CONTINUE_EPOCHS = 1_000
"""Epochs after its settlement in which a run can go on: as long as the longest pause."""


def fund(draft: Draft, sender: PeerId, body: FundingStatement) -> None:
    """Apply a statement about the money of a run."""
    match body:
        case BackOwner():
            back_owner(draft, sender, body)
        case ContinueRun():
            continue_run(draft, sender, body)
        case FundRun():
            fund_run(draft, sender, body)


def fund_run(draft: Draft, sender: PeerId, body: FundRun) -> None:
    """Add to the escrow of the sender's own run.

    Nobody else can: the rest of an escrow goes to the owner, who could close the run and keep the gift.
    """
    run = live_run(draft, body.run)
    if run.owner != sender:
        raise InvalidStatement(Reason.WRONG_PEER, "only the owner funds a run: the rest goes to it")
    draft.debit(sender, body.amount)
    draft.put_run(replace(run, escrow=Amount(run.escrow + body.amount)))


def back_owner(draft: Draft, sender: PeerId, body: BackOwner) -> None:
    """Count the shares of the sender for a peer, instead of the one it backed before."""
    run = _continuable(draft, draft.run(body.run))
    work, turn = draft.contribution(run.index, sender), draft.run_shares(run.index).turn
    if not work.shares:
        raise InvalidStatement(Reason.WRONG_PEER, "it holds no share of this run")
    if work.backs_turn == turn and work.backs == body.peer:
        raise InvalidStatement(Reason.DUPLICATE, "it backs this peer already")
    if work.backs_turn == turn and work.backs:
        draft.add_backing(run.index, work.backs, -work.shares)
    draft.add_backing(run.index, body.peer, work.shares)
    changed = replace(work, backs=body.peer, backs_turn=turn)
    draft.put_contribution(run.index, sender, changed)


def continue_run(draft: Draft, sender: PeerId, body: ContinueRun) -> None:
    """Open a settled run again, for the peer that more than half of its shares back."""
    run = _continuable(draft, draft.run(body.run))
    shares, backed = draft.run_shares(run.index), draft.backing(run.index, sender)
    if 2 * backed <= shares.total:
        detail = f"{backed} of {shares.total} shares back it: it takes more than half"
        raise InvalidStatement(Reason.WRONG_PEER, detail)
    work = draft.contribution(run.index, sender)
    if work.is_barred or work.absent:
        raise InvalidStatement(Reason.BARRED, "found guilty in this run, or silent when accused")
    if any(draft.round_info(run.index, round_) for round_ in recent_rounds(run)):
        raise InvalidStatement(Reason.WRONG_PHASE, "a segment of it can still be judged")
    check_owner(draft, sender, run.spec, body.escrow)
    draft.debit(sender, body.escrow)
    draft.put_shares(run.index, replace(shares, turn=shares.turn + 1))
    draft.put_run(_reopened(run, sender, body.escrow, draft.height))
    wake_storage(draft, run)
    globals_ = draft.globals
    draft.put_globals(replace(globals_, active_runs=(*globals_.active_runs, run.index)))


def continue_end(reader: Reader, run: Run) -> Height:
    """Return the height from which on a settled run cannot go on any more."""
    rounds = run.final_round + SETTLE_ROUNDS - run.start_round
    settled = run.start_height + rounds * run.spec.round_blocks
    return Height(settled + CONTINUE_EPOCHS * reader.globals.params.epoch_blocks)


def recent_rounds(run: Run) -> list[RoundIndex]:
    """Return the rounds of a settled run, newest first, of which a segment could still be on record."""
    oldest = max(run.final_round - rounds_kept(run.spec) - JUDGING_ROUNDS, 0)
    return [RoundIndex(round_) for round_ in range(run.final_round, oldest - 1, -1)]


def _continuable(reader: Reader, run: Run) -> Run:
    """Return the run; raise unless it is settled, has rounds left, and a whole model to go on from."""
    if run.phase is not RunPhase.SETTLED:
        raise InvalidStatement(Reason.WRONG_PHASE, f"the run is {run.phase}, not settled")
    if run.final_round >= run.spec.rounds:
        raise InvalidStatement(Reason.WRONG_ROUND, "it has trained all its rounds")
    if reader.globals.height >= (end := continue_end(reader, run)):
        raise InvalidStatement(Reason.EXPIRED, f"it could go on until block {end}")
    if not all(run.standing(stage) for stage in range(run.spec.num_stages)):
        raise InvalidStatement(Reason.WRONG_START, "a stage has no checkpoint that stands")
    return run


def _reopened(run: Run, owner: PeerId, escrow: Amount, height: Height) -> Run:
    """Return the run as its new owner begins it: alone in every stage, in the round after the last."""
    start = RoundIndex(run.final_round)
    run = replace(
        run,
        owner=owner,
        escrow=escrow,
        phase=RunPhase.OPEN,
        start_height=Height(height + START_DELAY_BLOCKS),
        start_round=start,
        end_round=RoundIndex(run.spec.rounds),
        consensus_rounds=0,
        is_pausing=False,
        waiting=(),
        leaving=(),
        seats=((),) * run.spec.num_stages,
        rounds=(),
    )
    for stage in range(run.spec.num_stages):
        run = with_seat(run, stage, owner, start)
    return run
