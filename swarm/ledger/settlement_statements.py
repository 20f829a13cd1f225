"""Define the statements of settlement outside: a withdrawal, a validator's key, a validator's signature.

Core: frozen structs and pure checks of the fields that need no state.

The signatures in them are of secp256k1, which an existing engine can check and the ledger cannot: the ledger
keeps them, and who settles drops those that do not hold.

Source: docs/settlement.md.
"""

from swarm.errors import BadEncoding
from swarm.primitives.codec import Message
from swarm.types import Amount

ADDRESS_BYTES = 20
RECOVERABLE_BYTES = 65
"""Bytes of a secp256k1 signature: r, s, and the recovery id 0 or 1."""

EVM_CHAIN_MAX = (1 << 53) - 1
EPOCH_MAX = (1 << 40) - 1
"""Largest epoch that the contract has room for."""

WITHDRAWAL_MAX = 1 << 62


class Withdraw(Message, frozen=True, tag=27):
    """Lock of an amount of the sender's balance for good; the contract pays it out to an address."""

    amount: Amount
    address: bytes


class SettlementKey(Message, frozen=True, tag=28):
    """Key with which a validator signs for a contract, and the contract that it would sign for."""

    address: bytes
    """Address of the key."""
    proof: bytes
    """Signature of ``payouts.key_digest`` by the key: it is the sender's."""
    evm_chain: int
    """Number of the chain with the contract; 0 while none is deployed."""
    contract: bytes
    """Address of the contract; empty while none is deployed."""


class SignPayouts(Message, frozen=True, tag=29):
    """Signature of a validator's settlement key on the payouts as they stood at the end of an epoch."""

    epoch: int
    signature: bytes


SettlementStatement = Withdraw | SettlementKey | SignPayouts


def check_settlement_shape(body: SettlementStatement) -> None:
    """Raise ``BadEncoding`` if a field is out of bounds."""
    match body:
        case Withdraw():
            if not 1 <= body.amount <= WITHDRAWAL_MAX:
                raise BadEncoding(f"an amount of {body.amount}")
            check_address(body.address)
        case SettlementKey():
            check_address(body.address)
            _check_signature(body.proof)
            if body.contract:
                check_address(body.contract)
            if not bool(body.contract) <= body.evm_chain <= EVM_CHAIN_MAX * bool(body.contract):
                raise BadEncoding(f"chain {body.evm_chain} with such a contract")
        case SignPayouts():
            if not 0 <= body.epoch <= EPOCH_MAX:
                raise BadEncoding(f"an epoch of {body.epoch}")
            _check_signature(body.signature)


def check_address(address: bytes) -> None:
    """Raise ``BadEncoding`` unless this is an address of 20 bytes that somebody may hold."""
    if len(address) != ADDRESS_BYTES or not any(address):
        raise BadEncoding("not an address of 20 bytes, or the zero address")


def _check_signature(signature: bytes) -> None:
    if len(signature) != RECOVERABLE_BYTES or signature[-1] > 1:
        raise BadEncoding("not a recoverable signature of 65 bytes")
