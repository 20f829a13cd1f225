"""Golden vectors of settlement outside: its statements, its entries, the log's root, and what is signed."""

from swarm.ledger.payouts import (
    key_digest,
    log_root,
    members_digest,
    payout_leaf,
    statement_digest,
    with_leaf,
)
from swarm.ledger.settlement_statements import SettlementKey, SignPayouts, Withdraw
from swarm.ledger.state.payouts import (
    LOG_KEY,
    Payout,
    PayoutIndex,
    PayoutLog,
    PayoutSignature,
    PayoutStatement,
    SettlementMember,
    SettlementTarget,
    ValidatorKey,
    payout_index_key,
    payout_key,
    statement_key,
    validator_key_key,
)
from swarm.ledger.state.records import Entry
from swarm.ledger.transactions import Body, sign_transaction, transaction_digest
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey
from swarm.types import Amount, Digest

ALICE = SecretKey.from_seed(b"\x01" * 32)
CHAIN = Digest(b"\x0c" * 32)
OWN, OTHER, CONTRACT = bytes([0xA1]) * 20, bytes([0xA2]) * 20, bytes([0xC0]) * 20
SIGNATURE = bytes(range(64)) + b"\x01"
TARGET = SettlementTarget(31337, CONTRACT)
TOTALS = ((OWN, 100), (OTHER, 50), (OWN, 125))


def settlement() -> list[dict[str, object]]:
    """Statements, entries, roots after each leaf, and digests."""
    bodies: list[Body] = [
        Withdraw(Amount(100), OWN),
        SettlementKey(OWN, SIGNATURE, 0, b""),
        SettlementKey(OWN, SIGNATURE, 31337, CONTRACT),
        SignPayouts(3, SIGNATURE),
    ]
    out: list[dict[str, object]] = []
    for body in bodies:
        data = sign_transaction(ALICE, CHAIN, body, nonce=1, fee=10, expiry=99)
        kind, name = type(body).__name__, transaction_digest(data).hex()
        out.append({"kind": kind, "bytes": data.hex(), "digest": name})
    peaks = tuple[Digest, ...]()
    for index, (address, total) in enumerate(TOTALS):
        leaf = payout_leaf(address, total)
        peaks = with_leaf(peaks, index, leaf)
        root = log_root(peaks, index + 1).hex()
        out.append({"kind": "log", "count": index + 1, "leaf": leaf.hex(), "root": root})
    members = (SettlementMember(OWN, Amount(5)), SettlementMember(OTHER, Amount(6)))
    signed = (PayoutSignature(ALICE.peer, SIGNATURE),)
    statement = PayoutStatement(3, 3, log_root(peaks, 3), members, signed)
    entries: list[tuple[bytes, Entry]] = [
        (LOG_KEY, PayoutLog(TARGET, 3, Amount(175), peaks, (3,))),
        (payout_key(2), Payout(OWN, Amount(125), 0)),
        (payout_index_key(OWN), PayoutIndex(2)),
        (validator_key_key(ALICE.peer), ValidatorKey(OWN, SIGNATURE, TARGET)),
        (statement_key(3), statement),
    ]
    for key, entry in entries:
        out.append({"kind": type(entry).__name__, "key": key.hex(), "bytes": encode(entry).hex()})
    digests = {
        "no leaves": log_root((), 0),
        "members": members_digest(members),
        "statement": statement_digest(CHAIN, TARGET, statement),
        "key": key_digest(CHAIN, ALICE.peer, OWN),
    }
    out += [{"kind": f"digest of {name}", "digest": one.hex()} for name, one in digests.items()]
    return out
