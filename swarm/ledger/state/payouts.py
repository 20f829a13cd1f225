"""Define the entries of settlement outside: the log of payouts, the keys of validators, what these sign.

Core: frozen structs. There is none of them in a state before validators have agreed on a contract.

Source: docs/settlement.md.
"""

from swarm.primitives.codec import Message
from swarm.types import Amount, Digest, PeerId

STATEMENTS_KEPT = 16
"""Statements that can be signed and settled: a contract that is behind is led along them."""


class SettlementTarget(Message, frozen=True):
    """The one contract that pays out."""

    evm_chain: int
    contract: bytes


class PayoutLog(Message, frozen=True):
    """Log of all payouts: how many, what is locked for them, and the parts of its root. One per ledger."""

    target: SettlementTarget
    count: int
    locked: Amount
    """Money of all withdrawals: it stays in the supply, and nobody can spend it here."""
    peaks: tuple[Digest, ...]
    """Roots of the complete subtrees, the largest first: one for each bit of the count."""
    statements: tuple[int, ...]
    """Epochs of the statements kept, oldest first, at most ``STATEMENTS_KEPT``."""


class Payout(Message, frozen=True):
    """A leaf of the log: the sum of all withdrawals to an address so far."""

    address: bytes
    total: Amount
    previous: int
    """Number of the leaf before of this address; -1 if it has none."""


class PayoutIndex(Message, frozen=True):
    """Number of the newest leaf of an address."""

    index: int


class SettlementMember(Message, frozen=True):
    """An address that signs for the contract, and its power there."""

    address: bytes
    power: Amount


class ValidatorKey(Message, frozen=True):
    """Settlement key of a validator."""

    address: bytes
    proof: bytes
    target: SettlementTarget | None
    """Contract that it would sign for."""


class PayoutSignature(Message, frozen=True):
    """Signature on a statement, as it was posted: nobody has checked it, or whose key made it."""

    peer: PeerId
    signature: bytes


class PayoutStatement(Message, frozen=True):
    """Payouts at the end of an epoch, and who signs the next ones."""

    epoch: int
    count: int
    root: Digest
    members: tuple[SettlementMember, ...]
    """Signers of what follows this statement, by address."""
    signatures: tuple[PayoutSignature, ...]


SettlementEntry = PayoutLog | Payout | PayoutIndex | ValidatorKey | PayoutStatement

LOG_KEY = b"P"


def payout_key(index: int) -> bytes:
    """Return the key of a leaf of the log."""
    return b"L" + index.to_bytes(8, "big")


def payout_index_key(address: bytes) -> bytes:
    """Return the key of the number of an address's newest leaf."""
    return b"W" + address


def validator_key_key(peer: PeerId) -> bytes:
    """Return the key of a validator's settlement key."""
    return b"K" + peer


def statement_key(epoch: int) -> bytes:
    """Return the key of the statement of an epoch."""
    return b"F" + epoch.to_bytes(8, "big")
