"""Encode a frozen struct as exactly one byte string, and decode it.

Core: pure functions. Entry point of msgspec.

The form is MessagePack, structs as arrays, integers and bytes and text only. MessagePack decoders accept
several byte strings for one value (non-minimal integers), so ``decode`` encodes again and compares: what was
signed or hashed has one form, and no second hash of the same statement can be made.
"""

import dataclasses
from typing import Any, TypeVar

import msgspec

from swarm.errors import BadEncoding
from swarm.types import Bytes

FRAME_BYTES_MAX = 4 << 20
"""Longest message on any stream whose protocol asks for no more."""
LONGEST_FRAME_BYTES = (8 << 20) + (4 << 10)
"""Most bytes that a protocol may ask for, as micro-batches do: a sequence of 1024 positions by 4096 bf16
features, and room for ids, routes, hashes and a signature."""


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of every struct that leaves the process in this encoding.

    Fields are int, bool, bytes, str, tuple, other messages, or unions of tagged messages (``class A(Message,
    tag=1)``: small integers).
    """


class Untracked(msgspec.Struct, frozen=True, gc=False):
    """Base of records that stay in the process and that the garbage collector need not look at.

    Nothing they hold may lead back to them.
    """


MessageT = TypeVar("MessageT")


def encode(value: object) -> bytes:
    """Return the one byte string of ``value``."""
    return msgspec.msgpack.encode(value)


def decode(kind: type[MessageT], data: Bytes, *, limit: int = FRAME_BYTES_MAX) -> MessageT:
    """Return the ``kind`` that ``data`` encodes; ``kind`` may be a union of tagged messages.

    Raises ``BadEncoding`` if the data is longer than ``limit`` bytes, does not fit the type, or is not the
    canonical form.
    """
    if len(data) > limit:
        raise BadEncoding(f"{len(data)} bytes where at most {limit} are allowed")
    try:
        value = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise BadEncoding(f"not a {getattr(kind, '__name__', 'message')}: {error}") from None
    if encode(value) != data:
        raise BadEncoding("not the canonical encoding")
    return value


def replace(value: MessageT, **changes: object) -> MessageT:
    """Return a copy of a message, or of a frozen dataclass, with some fields changed."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(value, **changes)
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """Base of a JSON object for people and their programs: fields by name, each with a default.

    A reader ignores the fields it does not know, and takes the default of one that is missing.
    """


DocumentT = TypeVar("DocumentT")


def encode_document(value: object) -> bytes:
    """Return ``value`` as JSON; a number that is not finite becomes null."""
    return msgspec.json.encode(value)


def read_document(kind: type[DocumentT], fields: object) -> DocumentT:
    """Return the ``kind`` that plain JSON values describe.

    Raises ``BadEncoding`` naming the field that has another type.
    """
    try:
        return msgspec.convert(fields, kind)
    except (msgspec.MsgspecError, RecursionError, OverflowError) as error:
        raise BadEncoding(f"not a {getattr(kind, '__name__', 'document')}: {error}") from None


def fields_of(value: object) -> Any:  # noqa: ANN401  JSON of any shape
    """Return a document, or a list of them, as plain JSON values."""
    return msgspec.json.decode(encode_document(value))
