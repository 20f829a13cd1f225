"""Compute the log of payouts as a Merkle tree that only grows, and what validators sign of it.

Core: pure functions. SHA-256 throughout, which an EVM has as a precompile; nothing here needs more than that.

A leaf is an address and the sum of all that was ever withdrawn to it, so the newest leaf of an address serves
every older claim. Leaves are added and never changed: the tree of the first n leaves is a part of every later
one, so the proof of a leaf under an old root can be made from any later state. The root is the one of
``merkle_root(leaves, sha256_hash)``; from the roots of its complete subtrees a leaf is added with two hashes on
average, and the root found with one for each level.

Source: RFC 6962 for the tree as a log; the padding and the seal are of ``swarm.primitives.merkle``.
"""

from collections.abc import Sequence

from swarm.errors import BadEncoding
from swarm.ledger.settlement_statements import ADDRESS_BYTES, check_address
from swarm.ledger.state.payouts import (
    LOG_KEY,
    Payout,
    PayoutIndex,
    PayoutLog,
    PayoutStatement,
    SettlementMember,
    SettlementTarget,
    ValidatorKey,
    payout_index_key,
    payout_key,
    statement_key,
    validator_key_key,
)
from swarm.ledger.state.state import Reader
from swarm.primitives.merkle import merkle_proof, sha256_hash
from swarm.types import Digest, PeerId

LEAVES_MAX = 1 << 32
WORD = 32
"""Bytes of a word of the EVM: a number in it is big endian."""

STATEMENT_PURPOSE = b"swarm/settlement/statement/1".ljust(WORD, b"\0")
KEY_PURPOSE = b"swarm/settlement/key/1".ljust(WORD, b"\0")


def payout_leaf(address: bytes, total: int) -> bytes:
    """Return a leaf of the tree: 20 bytes of address, 32 bytes of total."""
    return address + total.to_bytes(WORD, "big")


def with_leaf(peaks: Sequence[Digest], count: int, leaf: bytes) -> tuple[Digest, ...]:
    """Return the roots of the complete subtrees after leaf number ``count`` was added."""
    node, left = sha256_hash(b"\x00" + leaf), list(peaks)
    while count & 1:
        node = sha256_hash(b"\x01" + left.pop() + node)
        count >>= 1
    return (*left, Digest(node))


def log_root(peaks: Sequence[Digest], count: int) -> Digest:
    """Return the root of ``count`` leaves, of whose complete subtrees these are the roots."""
    left, padding = list(peaks), sha256_hash(b"\x02")
    node = padding if not count else None  # the last subtree that is not complete, if there is one
    for level in range(max(count - 1, 0).bit_length()):
        if count >> level & 1:
            node = sha256_hash(b"\x01" + left.pop() + (node or padding))
        elif node is not None:
            node = sha256_hash(b"\x01" + node + padding)
        padding = sha256_hash(b"\x01" + padding + padding)
    return Digest(sha256_hash(b"\x03" + count.to_bytes(8, "big") + (node or left[0])))


def members_digest(members: Sequence[SettlementMember]) -> Digest:
    """Return the hash by which a contract knows its signers: a word for each, 20 bytes address, 12 power."""
    return Digest(sha256_hash(b"".join(map(member_word, members))))


def member_word(member: SettlementMember) -> bytes:
    """Return a signer as the contract takes it."""
    return member.address + member.power.to_bytes(WORD - ADDRESS_BYTES, "big")


def statement_digest(chain: Digest, target: SettlementTarget, statement: PayoutStatement) -> Digest:
    """Return what a settlement key signs: it holds for one ledger, one contract, one epoch."""
    words = (
        STATEMENT_PURPOSE,
        target.evm_chain.to_bytes(WORD, "big"),
        target.contract.rjust(WORD, b"\0"),
        chain,
        statement.epoch.to_bytes(WORD, "big"),
        statement.root,
        members_digest(statement.members),
    )
    return Digest(sha256_hash(b"".join(words)))


def key_digest(chain: Digest, peer: PeerId, address: bytes) -> Digest:
    """Return what a settlement key signs to show that it is the validator's."""
    parts = (KEY_PURPOSE, chain, bytes(peer), address.rjust(WORD, b"\0"))
    return Digest(sha256_hash(b"".join(parts)))


def find_log(reader: Reader) -> PayoutLog | None:
    """Return the log of payouts, or None where nothing is settled outside."""
    found = reader.get(LOG_KEY)
    return found if isinstance(found, PayoutLog) else None


def find_payout(reader: Reader, index: int) -> Payout | None:
    """Return a leaf, or None."""
    found = reader.get(payout_key(index)) if index >= 0 else None
    return found if isinstance(found, Payout) else None


def find_statement(reader: Reader, epoch: int) -> PayoutStatement | None:
    """Return the statement of an epoch while it is kept, or None."""
    found = reader.get(statement_key(epoch))
    return found if isinstance(found, PayoutStatement) else None


def find_key(reader: Reader, peer: PeerId) -> ValidatorKey | None:
    """Return the settlement key of a validator, or None."""
    found = reader.get(validator_key_key(peer))
    return found if isinstance(found, ValidatorKey) else None


def newest_payout(reader: Reader, address: bytes, count: int) -> tuple[int, Payout] | None:
    """Return the newest leaf of an address among the first ``count``, and its number; None without one."""
    newest = reader.get(payout_index_key(address))
    index = newest.index if isinstance(newest, PayoutIndex) else -1
    while (payout := find_payout(reader, index)) is not None and index >= count:
        index = payout.previous
    return (index, payout) if payout is not None else None


def prove_payout(reader: Reader, index: int, count: int) -> tuple[bytes, ...]:
    """Return the path of leaf ``index`` to the root of the first ``count``; reads all of them."""
    leaves = list[bytes]()
    for number in range(count):
        payout = find_payout(reader, number)
        assert payout is not None, "a log has no gaps"
        leaves.append(payout_leaf(payout.address, payout.total))
    return merkle_proof(leaves, index, sha256_hash)


def parse_address(text: str) -> bytes:
    """Return the address of a text ``0x`` and 40 hexadecimal digits; raise ``BadEncoding`` if it is none."""
    digits = text.removeprefix("0x")
    try:
        address = bytes.fromhex(digits)
    except ValueError:
        raise BadEncoding(f"{text!r} is not 0x and 40 hexadecimal digits") from None
    if text == digits or len(digits) != 2 * ADDRESS_BYTES:
        raise BadEncoding(f"{text!r} is not 0x and 40 hexadecimal digits")
    check_address(address)
    return address


def address_text(address: bytes) -> str:
    """Return an address as ``0x`` and 40 lower-case digits."""
    return "0x" + address.hex()
