"""Hash, sign, verify and expand seeds, always under a named purpose.

Core: pure functions. Uses pynacl, blake3 and base58.

Nothing is hashed or signed bare: every input starts with the length-prefixed purpose, and every part carries
its own length, so no statement of one kind can be read as another. Ed25519 is libsodium's everywhere: other
verifiers accept keys that it refuses, and peers with different verifiers would fork.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import base58
import nacl.bindings
import nacl.exceptions
from blake3 import blake3

from swarm.errors import BadEncoding, BadSignature
from swarm.types import Digest, PeerId

SIGNATURE_BYTES = 64
PEER_BYTES = 32
_JOINED_BYTES_MAX = 16 << 10
"""Bytes up to which one copy is cheaper than several calls of the hasher."""
_LIBP2P_ED25519 = bytes.fromhex("002408011220")
"""Identity multihash of the protobuf {type: Ed25519, 32 bytes}: the head of every Ed25519 PeerID."""


def framed(purpose: str, parts: tuple[bytes, ...]) -> bytes:
    """Join parts so that no two different (purpose, parts) give the same bytes."""
    pieces = [_head(purpose)]
    for part in parts:
        pieces += [len(part).to_bytes(8, "big"), part]
    return b"".join(pieces)


def _head(purpose: str) -> bytes:
    return b"swarm/" + len(purpose).to_bytes(1, "big") + purpose.encode("ascii")


def digest(purpose: str, *parts: bytes) -> Digest:
    """Return the SHA-256 digest under a purpose, for consensus and ledger state (an EVM can check it)."""
    return Digest(hashlib.sha256(framed(purpose, parts)).digest())


def digests(purpose: str, shared: tuple[bytes, ...], lasts: Iterable[bytes]) -> list[Digest]:
    """Return ``digest(purpose, *shared, last)`` of every ``last``, hashing the shared parts only once."""
    begin, found = hashlib.sha256(framed(purpose, shared)).copy, list[bytes]()
    for last in lasts:
        hasher = begin()
        hasher.update(len(last).to_bytes(8, "big") + last)
        found.append(hasher.digest())
    return cast("list[Digest]", found)


def fast_digest(purpose: str, *parts: bytes | bytearray | memoryview) -> Digest:
    """Return the BLAKE3 digest under a purpose, for tensors, chunks and transcripts.

    It covers the bytes that ``framed`` gives; large parts are not copied.
    """
    pieces: list[bytes | bytearray | memoryview] = [_head(purpose)]
    for part in parts:
        pieces += [len(part).to_bytes(8, "big"), part]
    if sum(map(len, pieces)) <= _JOINED_BYTES_MAX:
        return Digest(blake3(b"".join(pieces)).digest())
    hasher = blake3()
    for piece in pieces:
        hasher.update(piece)
    return Digest(hasher.digest())


def expand(seed: bytes, purpose: str, num_bytes: int) -> bytes:
    """Return ``num_bytes`` pseudo-random bytes from a seed: BLAKE3 in extendable-output mode."""
    return blake3(framed(purpose, (seed,))).digest(length=num_bytes)


@dataclass(frozen=True, slots=True)
class SecretKey:
    """Ed25519 key; ``seed`` is the 32-byte secret of RFC 8032 and is never shown."""

    seed: bytes
    peer: PeerId

    @classmethod
    def from_seed(cls, seed: bytes) -> "SecretKey":
        """Derive the key pair of a 32-byte seed."""
        if len(seed) != PEER_BYTES:
            raise BadEncoding(f"a seed has {PEER_BYTES} bytes, not {len(seed)}")
        public, _ = nacl.bindings.crypto_sign_seed_keypair(seed)
        return cls(seed, PeerId(public))

    def sign(self, purpose: str, *parts: bytes) -> bytes:
        """Return the 64-byte signature of ``parts`` under ``purpose``."""
        return nacl.bindings.crypto_sign(framed(purpose, parts), self.seed + self.peer)[
            :SIGNATURE_BYTES
        ]

    def __repr__(self) -> str:
        return f"SecretKey({peer_text(self.peer)})"


def verify(peer: PeerId, signature: bytes, purpose: str, *parts: bytes) -> None:
    """Raise ``BadSignature`` unless ``signature`` is ``peer``'s over ``parts`` under ``purpose``."""
    if len(signature) != SIGNATURE_BYTES or len(peer) != PEER_BYTES:
        raise BadSignature("a signature has 64 bytes and a key 32")
    try:
        nacl.bindings.crypto_sign_open(signature + framed(purpose, parts), peer)
    except nacl.exceptions.BadSignatureError:
        raise BadSignature(f"not signed by {peer_text(peer)} as {purpose}") from None


def peer_text(peer: PeerId) -> str:
    """Return the libp2p text form of a peer, ``12D3Koo...``."""
    return base58.b58encode(_LIBP2P_ED25519 + peer).decode("ascii")


def parse_peer(text: str) -> PeerId:
    """Read ``12D3Koo...``; raise ``BadEncoding`` if it is not an Ed25519 PeerID."""
    try:
        raw = base58.b58decode(text)
    except ValueError:
        raise BadEncoding(f"{text[:60]!r} is not a PeerID") from None
    if not raw.startswith(_LIBP2P_ED25519) or len(raw) != len(_LIBP2P_ED25519) + PEER_BYTES:
        raise BadEncoding(f"{text[:60]!r} is not an Ed25519 PeerID")
    return PeerId(raw[len(_LIBP2P_ED25519) :])


_ADJECTIVES = """amber ashen azure bold brave brisk bronze calm cedar civic clever coral crisp daring dawn deep
dusky eager early ember fair fern fleet fond frosty gentle glad golden grand green happy hardy hazy honest icy
ivory jade jolly keen kind lively loyal lucid lunar mellow merry mild misty noble opal pale plucky proud quick
quiet rapid rosy ruby rustic sandy""".split()
_ANIMALS = """adder badger bat bear beaver bison boar bream camel carp civet cod coot crane crow deer dingo dove
eagle eel egret elk falcon ferret finch fox frog gecko gull hare hawk heron ibex jay kite koala lark lemur lion
lynx marten mink mole moose newt orca otter owl panda perch plover quail raven robin seal shrew stoat swan tapir
tern tiger trout""".split()


def peer_name(peer: PeerId) -> str:
    """Return a pronounceable name derived from the key, ``hazy-otter-697``: not unique, never trusted."""
    number = int.from_bytes(digest("peer-name", peer)[:8], "big")
    number, adjective = divmod(number, len(_ADJECTIVES))
    number, animal = divmod(number, len(_ANIMALS))
    return f"{_ADJECTIVES[adjective]}-{_ANIMALS[animal]}-{number % 1000:03d}"
