"""Sign, read and check records of peers: expiring, sequenced statements in the DHT.

Core: pure functions. Rules D1 to D5 of README.md.

A record is one statement of one peer on one topic. Its key names both, so that no peer can write under
another's name; the newest sequence number wins; and it carries its own expiry, because the DHT that stores it
keeps everything for a day.
"""

import re
from collections.abc import Sequence

from swarm.errors import BadEncoding, BadSignature, BrokenPromise
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.crypto import SIGNATURE_BYTES, SecretKey, parse_peer, peer_text, verify
from swarm.types import PeerId

PURPOSE = "dht-record"
NAMESPACE = "swarm"

RECORD_BYTES_MAX = 4096
"""Bytes of a record as the table holds it, with its key and what libp2p adds: small enough to store for
thousands of strangers."""

VALUE_BYTES_MAX = RECORD_BYTES_MAX - 512
"""Bytes of the signed statement in it."""

TTL_MAX_S = 86_400
"""Seconds for which a record may hold, a day: what a peer said yesterday does not help to find it."""

_TOPIC = re.compile(r"[a-z][a-z0-9-]{0,39}")


class SignedRecord(Message, frozen=True):
    """Signed statement of one peer on one topic."""

    topic: str
    peer: bytes
    seq: int
    """Number that grows with every record of this peer and topic; nanoseconds since 1970 serve."""
    expires_at: int
    """Seconds since 1970."""
    payload: bytes
    signature: bytes


def record_key(topic: str, peer: PeerId) -> str:
    """Return ``/swarm/<topic>/<peer>``, the only key under which a peer's record is accepted."""
    return f"/{NAMESPACE}/{topic}/{peer_text(peer)}"


def parse_key(key: str) -> tuple[str, PeerId]:
    """Read the key of a record as (topic, peer); raise ``BadEncoding``."""
    parts = key.split("/")
    if len(parts) != 4 or parts[0] or parts[1] != NAMESPACE or not _TOPIC.fullmatch(parts[2]):
        raise BadEncoding(f"{key[:80]!r} is not the key of a record")
    return parts[2], parse_peer(parts[3])


def sign_record(
    secret: SecretKey, topic: str, payload: bytes, *, seq: int, expires_at: int
) -> SignedRecord:
    """Return a signed record of our own."""
    assert _TOPIC.fullmatch(topic), "topics are short lower-case words"
    signature = secret.sign(PURPOSE, *_signed_parts(topic, seq, expires_at, payload))
    return SignedRecord(
        topic=topic,
        peer=secret.peer,
        seq=seq,
        expires_at=expires_at,
        payload=payload,
        signature=signature,
    )


def _signed_parts(topic: str, seq: int, expires_at: int, payload: bytes) -> tuple[bytes, ...]:
    return topic.encode("ascii"), encode((seq, expires_at)), payload


def parse_record(data: bytes) -> SignedRecord:
    """Read a record without checking its signature or expiry; raise ``BadEncoding``."""
    record = decode(SignedRecord, data, limit=VALUE_BYTES_MAX)
    if not _TOPIC.fullmatch(record.topic) or len(record.signature) != SIGNATURE_BYTES:
        raise BadEncoding("not a record: bad topic or signature length")
    if not (0 < record.seq < 1 << 63 and 0 < record.expires_at < 1 << 40):
        raise BadEncoding("not a record: sequence or expiry out of bounds")
    return record


def check_record(data: bytes, *, topic: str, peer: PeerId, now_s: int | None) -> SignedRecord:
    """Return the record in ``data`` if it is ``peer``'s on ``topic`` and holds at ``now_s`` (since 1970).

    None stands for a record that the peer itself has just sent: it holds whatever the two clocks say.

    Raises ``BadEncoding``, ``BadSignature``, or ``BrokenPromise`` if it has expired, claims more than a day, or
    belongs under another key.
    """
    record = parse_record(data)
    if (record.topic, record.peer) != (topic, peer):
        raise BrokenPromise("a record under a key that is not its own")
    if now_s is not None and record.expires_at <= now_s:
        raise BrokenPromise(f"a record that expired {now_s - record.expires_at} s ago")
    if now_s is not None and record.expires_at > now_s + TTL_MAX_S:
        raise BrokenPromise("a record that claims to hold for more than a day")
    verify(
        peer,
        record.signature,
        PURPOSE,
        *_signed_parts(record.topic, record.seq, record.expires_at, record.payload),
    )
    return record


def validate(key: str, value: bytes, now_s: int) -> None:
    """Raise a ``PeerFault`` unless ``value`` may be stored under ``key``."""
    topic, peer = parse_key(key)
    check_record(value, topic=topic, peer=peer, now_s=now_s)


def select(values: Sequence[bytes]) -> int:
    """Return the index of the best of several values: the highest sequence number, the last one on ties.

    libp2p puts the newest value last, and refreshes a record only if that one wins. A value that cannot be read
    loses to all others.
    """
    best, best_seq = 0, -1
    for index, value in enumerate(values):
        try:
            seq = parse_record(value).seq
        except (BadEncoding, BadSignature):
            continue
        if seq >= best_seq:
            best, best_seq = index, seq
    return best
