"""Fees, rewards and deposits, in integers.

Core: pure functions.
"""

from swarm.codec import encode
from swarm.ledger.records import Params
from swarm.ledger.transactions import Body, Join, Leave
from swarm.spec import NANO
from swarm.types import Amount

TOKENS_PER_UNIT = 1000
"""Committed tokens that earn one unit, until runs post their own price."""

DEPOSIT_FEES = 100
"""Minimum fees an open run must hold in escrow: an idle run costs every node work at every boundary."""

ENVELOPE_BYTES = 192
"""Room for sender, nonce, fee, expiry and signature around a body (at most 145 bytes)."""


def required_fee(params: Params, num_bytes: int) -> Amount:
    """The least fee for a transaction of ``num_bytes`` encoded bytes, rounded up."""
    return Amount(params.fee_min + -(-num_bytes * params.fee_per_byte_nano // NANO))


def sufficient_fee(params: Params, body: Body) -> Amount:
    """A fee that is enough for ``body`` whatever the rest of the transaction is."""
    return required_fee(params, len(encode(body)) + ENVELOPE_BYTES)


def offered_fee(params: Params, body: Body, balance: Amount) -> Amount:
    """What a sender with this balance should offer: 0 where the run's escrow pays for it."""
    fee = sufficient_fee(params, body)
    return Amount(0) if balance < fee and isinstance(body, Join | Leave) else fee


def segment_reward(tokens: int, escrow: Amount) -> Amount:
    """What a segment of ``tokens`` earns: never more than there is."""
    return Amount(min(tokens // TOKENS_PER_UNIT, escrow))


def run_deposit(params: Params) -> Amount:
    """The least escrow a run opens with."""
    return Amount(DEPOSIT_FEES * params.fee_min)
