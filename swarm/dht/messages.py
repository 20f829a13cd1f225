"""Bound the messages of the table before libp2p parses them: length, fields, records, peers and addresses.

Core: pure functions over bytes. Rules D12 and D13 of README.md.

A message is in the encoding of Protocol Buffers: fields, each a number, a kind and a value. libp2p parses and
keeps whatever is in one, at whatever size: here each field that it knows has a bound, and any other is refused.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from swarm.dht.records import RECORD_BYTES_MAX, VALUE_BYTES_MAX
from swarm.errors import BadEncoding

QUESTION_BYTES_MAX = 8 << 10
"""Bytes of a question: a record, its key and where its sender is."""

ANSWER_BYTES_MAX = 128 << 10
"""Bytes of an answer: a record, and as many peers as libp2p names, with addresses of the longest kind."""

KEY_BYTES_MAX = 128
"""Bytes of a key: ``/swarm/<topic>/<peer>`` is 100 at most."""

PEERS_MAX = 21
"""Peers in a list: libp2p's bucket of 20, and the one that was asked for."""

ADDRESSES_MAX = 16
"""Addresses of a peer: we send 8 at most."""

ADDRESS_BYTES_MAX = 256
SIGNED_BYTES_MAX = 2 << 10
"""Bytes of a signed statement of where a peer is."""

PREFIX_BYTES_MAX = 5
"""Bytes of the length before a message: one of more is too long in any case."""

_VARINT_BYTES_MAX = 10
_NUMBER, _BYTES = 0, 2


@dataclass(frozen=True, slots=True)
class _Field:
    bytes_max: int = 0
    """Most bytes of its value; 0 for a number."""
    count_max: int = 1
    inside: Mapping[int, "_Field"] | None = None
    """Fields of its value, if that is a message again."""


_ADDRESS = _Field(ADDRESS_BYTES_MAX)
_PLACES = {
    1: _Field(64),
    2: _Field(),
    3: _Field(SIGNED_BYTES_MAX, ADDRESSES_MAX, {1: _ADDRESS}),
}
_SIGNED = _Field(
    SIGNED_BYTES_MAX,
    inside={
        1: _Field(128),
        2: _Field(64),
        3: _Field(SIGNED_BYTES_MAX, inside=_PLACES),
        5: _Field(128),
    },
)
_PEER = _Field(
    ANSWER_BYTES_MAX,
    PEERS_MAX,
    {
        1: _Field(64),
        2: _Field(ADDRESS_BYTES_MAX, ADDRESSES_MAX),
        3: _Field(),
        4: _SIGNED,
    },
)
_RECORD = _Field(
    RECORD_BYTES_MAX,
    inside={
        1: _Field(KEY_BYTES_MAX),
        2: _Field(VALUE_BYTES_MAX),
        3: _Field(128),
        4: _Field(128),
        5: _Field(64),
    },
)
_MESSAGE = {
    1: _Field(),
    2: _Field(KEY_BYTES_MAX),
    3: _RECORD,
    8: _PEER,
    9: _PEER,
    10: _Field(),
    11: _SIGNED,
}


def parse_prefix(data: bytes, bytes_max: int) -> tuple[int, int] | None:
    """Read the length before a message as (its own bytes, the length); return None if more of it has to come.

    Raises ``BadEncoding`` if the message is empty or longer than ``bytes_max``.
    """
    length = 0
    for index, byte in enumerate(data[:PREFIX_BYTES_MAX]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            break
    else:
        if len(data) < PREFIX_BYTES_MAX:
            return None
        raise BadEncoding("a message of the table without a length")
    if not 0 < length <= bytes_max:
        raise BadEncoding(f"a message of {length} bytes where at most {bytes_max} are allowed")
    return index + 1, length


def check_message(data: bytes) -> None:
    """Raise ``BadEncoding`` unless every field of a message is one of libp2p's, and within its bounds."""
    _check(data, _MESSAGE)


def _check(data: bytes, schema: Mapping[int, _Field]) -> None:
    seen = Counter[int]()
    for number, value in _fields(data):
        field = schema.get(number)
        if field is None or isinstance(value, int) != (field.bytes_max == 0):
            raise BadEncoding(f"a message of the table with an unknown field {number}")
        seen[number] += 1
        if seen[number] > field.count_max:
            raise BadEncoding(
                f"field {number} of a message of the table more than {field.count_max} times"
            )
        if isinstance(value, int):
            continue
        if len(value) > field.bytes_max:
            raise BadEncoding(f"field {number} of a message of the table with {len(value)} bytes")
        if field.inside is not None:
            _check(value, field.inside)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and the value of each field; raise ``BadEncoding``."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _varint(data, at)
        if tag & 7 == _NUMBER:
            yield tag >> 3, value
        elif tag & 7 == _BYTES and value <= len(data) - at:
            yield tag >> 3, data[at : at + value]
            at += value
        else:
            raise BadEncoding("a message of the table that is cut, or of an unknown kind")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number: return it, and where it ends."""
    value = 0
    for index, byte in enumerate(data[at : at + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise BadEncoding("a message of the table with half a number")
