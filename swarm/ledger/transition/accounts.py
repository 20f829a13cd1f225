"""Handle the money of accounts: balances, stake and nonces, fees and rewards, and penalties after a check.

Core: handlers on a draft. Raises ``InvalidStatement``.

Fees, rewards and deposits are integers. Around a judged segment money is paid, returned, taken and shared, and
every unit taken is credited to an account or burned. A convicted solver is evicted and barred from its run.
"""

from collections.abc import Sequence

from swarm.config.spec import NANO
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import Accusation, Params, RunPhase, SegmentRecord, Unbonding
from swarm.ledger.transactions import Body, Join, Leave, Stake, Transaction, Transfer, Unstake
from swarm.ledger.transition.seats import evicted
from swarm.ledger.transition.validators import locked_stake
from swarm.primitives.codec import encode, replace
from swarm.types import Amount, Height, PeerId

TOKENS_PER_UNIT = 1000
"""Committed tokens that earn one unit of money, until runs post their own price."""

DEPOSIT_FEES = 100
"""Least escrow of an open run, in minimum fees: an idle run costs every node work at every boundary."""

ENVELOPE_BYTES = 192
"""Bytes reserved for sender, nonce, fee, expiry and signature around a body (at most 145 are used)."""


def required_fee(params: Params, num_bytes: int) -> Amount:
    """Return the least fee for a transaction of ``num_bytes`` encoded bytes, rounded up."""
    return Amount(params.fee_min + -(-num_bytes * params.fee_per_byte_nano // NANO))


def sufficient_fee(params: Params, body: Body) -> Amount:
    """Return a fee that is enough for ``body``, whatever the other fields of the transaction are."""
    return required_fee(params, len(encode(body)) + ENVELOPE_BYTES)


def offered_fee(params: Params, body: Body, balance: Amount) -> Amount:
    """Return the fee a sender with this balance should offer: 0 if the run's escrow pays for it."""
    fee = sufficient_fee(params, body)
    return Amount(0) if balance < fee and isinstance(body, Join | Leave) else fee


def segment_reward(tokens: int, escrow: Amount) -> Amount:
    """Return the reward of a segment of ``tokens``, at most what is left in ``escrow``."""
    return Amount(min(tokens // TOKENS_PER_UNIT, escrow))


def run_deposit(params: Params) -> Amount:
    """Return the least escrow a run opens with."""
    return Amount(DEPOSIT_FEES * params.fee_min)


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
    if transaction.fee or can_pay or not isinstance(body, Join | Leave):
        raise InvalidStatement(Reason.FEE, f"{transaction.fee} where {required} is the least")
    run = draft.run(body.run)
    paid = min(run.escrow, required)
    draft.put_run(replace(run, escrow=Amount(run.escrow - paid)))
    draft.credit(draft.leader, paid)
    return True


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
    locked = min(locked_stake(draft, sender), account.stake)
    free = account.stake - locked
    if free < body.amount:
        why = f", and {locked} is locked while it votes" if locked else ""
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


ACCUSER_PERCENT = 40
"""Percent of a convicted solver's stake for its accuser; half or more is burned: self-reporting loses."""

JUDGES_PERCENT = 10
"""Percent of a convicted solver's stake, shared by the validators that voted guilty."""

FALSE_WITNESS_PERCENT = 10
"""Percent of the stake of a verifier that accused falsely, or agreed with a window proven false."""


def pay(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Pay what the record holds to the solver, once."""
    if record.is_paid:
        return record
    draft.credit(record.peer, record.held)
    work = draft.contribution(record.run, record.peer)
    earned = Amount(work.earned + record.held)
    draft.put_contribution(record.run, record.peer, replace(work, earned=earned))
    return replace(record, held=Amount(0), is_paid=True)


def void(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Return the reward to the run: from the record or, if it was paid, from what the solver's balance has."""
    if record.is_paid:
        balance = draft.live_account(record.peer).balance
        back = min(balance, record.reward)
        draft.debit(record.peer, back)
        work = draft.contribution(record.run, record.peer)
        earned = Amount(work.earned - back)
        draft.put_contribution(record.run, record.peer, replace(work, earned=earned))
    else:
        back = record.held
    run = draft.run(record.run)
    if run.phase is RunPhase.SETTLED:
        draft.credit(run.owner, back)
    else:
        draft.put_run(replace(run, escrow=Amount(run.escrow + back)))
    return replace(record, held=Amount(0), is_paid=False)


def return_bonds(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Return the bonds of all accusations, and remove the accusations from the record."""
    for accusation in record.accusations:
        draft.credit(accusation.peer, accusation.bond)
    return replace(record, accusations=())


def count(draft: Draft, record: SegmentRecord, peer: PeerId, what: str) -> None:
    """Add one to a peer's ``verified``, ``failed``, ``silent``, ``checked`` or ``missed``."""
    work = draft.contribution(record.run, peer)
    number: int = getattr(work, what)
    draft.put_contribution(record.run, peer, replace(work, **{what: number + 1}))


def punish_solver(
    draft: Draft, record: SegmentRecord, accuser: PeerId, judges: Sequence[PeerId]
) -> None:
    """Take the whole stake of a convicted solver and share it out."""
    taken = draft.take_stake(record.peer, 100)
    to_accuser = taken * ACCUSER_PERCENT // 100
    to_judge = taken * JUDGES_PERCENT // 100 // len(judges) if judges else 0
    draft.credit(accuser, to_accuser)
    for judge in judges:
        draft.credit(judge, to_judge)
    draft.burn(taken - to_accuser - to_judge * len(judges))


def punish_approver(draft: Draft, peer: PeerId) -> None:
    """Burn a part of the stake of a verifier that agreed with a window proven false."""
    draft.burn(draft.take_stake(peer, FALSE_WITNESS_PERCENT))


def punish_accuser(draft: Draft, record: SegmentRecord, false: Accusation) -> None:
    """Make a false accuser pay the solver: a reporter its bond, a drawn verifier a part of its stake.

    A drawn verifier pays in exact runs only.
    """
    if false.is_report:
        draft.credit(record.peer, false.bond)
    elif is_exact(draft, record):
        draft.credit(record.peer, draft.take_stake(false.peer, FALSE_WITNESS_PERCENT))


def evict(draft: Draft, record: SegmentRecord) -> None:
    """Remove a convicted solver from the run and bar it from joining again.

    The owner, which may have to fill empty stages, is not barred and loses only the seat of the segment.
    """
    run = draft.run(record.run)
    if record.peer != run.owner:
        work = draft.contribution(record.run, record.peer)
        draft.put_contribution(record.run, record.peer, replace(work, is_barred=True))
    draft.put_run(evicted(run, record.peer, record.stage, record.seat))


def is_exact(draft: Draft, record: SegmentRecord) -> bool:
    """Return True if honest machines agree on every bit of this run, so that a difference may cost a stake."""
    return draft.run(record.run).spec.is_exact
