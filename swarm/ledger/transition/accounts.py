"""Handle accounts: nonces, fees, transfers, and stake that is put up and taken back.

Core: handlers on a draft. Raises ``InvalidStatement``.
"""

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.check_statements import DisputeMove
from swarm.ledger.state.accusations import Turn
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import Unbonding
from swarm.ledger.transactions import Body, Join, Leave, Stake, Transaction, Transfer, Unstake
from swarm.ledger.transition.prices import SPONSORED, required_fee, sufficient_fee
from swarm.ledger.transition.validators import locked_stake
from swarm.primitives.codec import replace
from swarm.types import Amount, Height, PeerId

NONCE_WINDOW = 16
"""Distance that a nonce may lie above or below the highest used: parallel submissions arrive in any order."""

UNBONDING_PARTS_MAX = 8
"""Pieces of stake that may be unbonding at the same time."""


def use_nonce(draft: Draft, transaction: Transaction) -> None:
    """Mark a nonce as used; raise ``InvalidStatement`` if it was used before or is outside the window."""
    sender = PeerId(transaction.sender)
    account, nonce = draft.account(sender), transaction.nonce
    ahead = nonce - account.nonce
    if not -NONCE_WINDOW < ahead <= NONCE_WINDOW:
        raise InvalidStatement(Reason.NONCE, f"{nonce} where the last was {account.nonce}")
    if ahead > 0:
        recent = (account.recent << ahead | 1) & ((1 << NONCE_WINDOW) - 1)
        draft.put_account(sender, replace(account, nonce=nonce, recent=recent))
    elif account.recent >> -ahead & 1:
        raise InvalidStatement(Reason.NONCE, f"{nonce} is used")
    else:
        draft.put_account(sender, replace(account, recent=account.recent | 1 << -ahead))


def charge_fee(draft: Draft, transaction: Transaction, num_bytes: int) -> bool:
    """Move the fee to the leader; return True if the run's escrow paid because the sender cannot."""
    sender, body = PeerId(transaction.sender), transaction.body
    required = required_fee(draft.globals.params, num_bytes)
    if transaction.fee >= required:
        draft.debit(sender, transaction.fee)
        draft.credit(draft.leader, transaction.fee)
        return False
    can_pay = draft.live_account(sender).balance >= sufficient_fee(draft.globals.params, body)
    is_sponsored = isinstance(body, Join | Leave) or _answers(draft, sender, body)
    if transaction.fee or can_pay or not is_sponsored:
        raise InvalidStatement(Reason.FEE, f"{transaction.fee} where {required} is the least")
    assert isinstance(body, SPONSORED), "what escrows pay for"
    run = draft.run(body.run)
    paid = min(run.escrow, required)
    draft.put_run(replace(run, escrow=Amount(run.escrow - paid)))
    draft.credit(draft.leader, paid)
    return True


def _answers(draft: Draft, sender: PeerId, body: Body) -> bool:
    """Return True for a move of an accused solver at its turn: who has no money must be able to answer."""
    if not isinstance(body, DisputeMove):
        return False
    record = draft.segment(body.run, body.round, body.stage, body.seat)
    dispute = None if record is None else record.dispute
    if record is None or dispute is None:
        return False
    return record.peer == sender and dispute.turn != Turn.ACCUSER


def transfer(draft: Draft, sender: PeerId, body: Transfer) -> None:
    """Move money from the sender's balance to another."""
    draft.debit(sender, body.amount)
    draft.credit(body.to, body.amount)


def stake(draft: Draft, sender: PeerId, body: Stake) -> None:
    """Turn balance into stake."""
    draft.debit(sender, body.amount)
    account = draft.live_account(sender)
    draft.put_account(sender, replace(account, stake=Amount(account.stake + body.amount)))


def unstake(draft: Draft, sender: PeerId, body: Unstake) -> None:
    """Begin to unbond stake; it becomes balance again after the unbonding time."""
    account, params = draft.live_account(sender), draft.globals.params
    locked = locked_stake(draft, sender)
    free = account.stake - locked
    if free < body.amount:
        why = f", and {locked} is locked: it votes, or was earned as a volunteer" if locked else ""
        raise InvalidStatement(Reason.STAKE, f"{free} where {body.amount} is needed{why}")
    if len(account.unbonding) >= UNBONDING_PARTS_MAX:
        raise InvalidStatement(Reason.FULL, f"{UNBONDING_PARTS_MAX} parts are unbonding")
    release = Height(draft.height + params.unbonding_epochs * params.epoch_blocks)
    part = Unbonding(body.amount, release)
    draft.put_account(
        sender,
        replace(
            account,
            stake=Amount(account.stake - body.amount),
            unbonding=(*account.unbonding, part),
        ),
    )
