"""Typed events that a node reports about itself, one line of JSON each.

Core: pure data and text.
"""

import json
from enum import StrEnum

from swarm.errors import Corrupt
from swarm.primitives.codec import Message

TEXT_CHARS_MAX = 500
"""Characters of an event's sentence: five lines of a terminal."""
FIELDS_MAX = 24
"""Fields of one event, so that a line of the log stays under 8 KiB."""
FIELD_CHARS_MAX = 200
"""Characters of a text in a field: a file name or two multiaddrs."""


class EventKind(StrEnum):
    """Kinds of events; programs read the kind, people the text."""

    NODE_STARTED = "node_started"
    NETWORK = "network"
    RUN_JOINED = "run_joined"
    SEAT_TAKEN = "seat_taken"
    SEAT_YIELDED = "seat_yielded"
    PROGRESS = "progress"
    ROUND_STARTED = "round_started"
    TRADED = "traded"
    SOLO = "solo"
    COMMITTED = "committed"
    CHECKPOINT = "checkpoint"
    CHECKED = "checked"
    DISPUTED = "disputed"
    CONVICTED = "convicted"
    RUN_FINISHED = "run_finished"
    WARNING = "warning"
    ERROR = "error"


class Event(Message, frozen=True):
    """Event that happened on this node."""

    at_ms: int
    """Unix time in milliseconds, by this machine's clock."""
    kind: str
    text: str
    """One sentence for a person."""
    fields: tuple[tuple[str, str | int], ...] = ()
    """Same facts for a program, as (name, value) pairs."""


def make_event(at_ms: int, kind: EventKind, text: str, **fields: str | int) -> Event:
    """Return an event whose texts are printable and short, whatever their source.

    At most ``FIELDS_MAX`` fields are kept, the first in the order of their names.
    """
    cut = sorted(fields.items())[:FIELDS_MAX]
    return Event(
        at_ms,
        kind.value,
        printable(text, TEXT_CHARS_MAX),
        tuple((k, printable(v, FIELD_CHARS_MAX) if isinstance(v, str) else v) for k, v in cut),
    )


def printable(text: str, chars_max: int) -> str:
    """Return the text cut to ``chars_max``, with every unprintable character replaced by a space.

    Names and reasons arrive from strangers: control, format and surrogate characters could steer a terminal.
    """
    if len(text) > chars_max:
        text = text[: chars_max - 3] + "..."
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " for letter in text)


def to_json_line(event: Event) -> str:
    """Return the event as one line of JSON, without the line end."""
    line = {
        "at_ms": event.at_ms,
        "kind": event.kind,
        "text": event.text,
        "fields": dict(event.fields),
    }
    return json.dumps(line, ensure_ascii=True, separators=(",", ":"))


def from_json_line(line: str) -> Event:
    """Read a line of our own log; raise ``Corrupt`` if it is not one (the last may be cut short)."""
    try:
        raw = json.loads(line)
        fields = tuple((str(key), value) for key, value in raw["fields"].items())
        event = Event(raw["at_ms"], raw["kind"], raw["text"], fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Corrupt(f"not a line of an event log: {printable(line, 60)}") from None
    whole = isinstance(event.at_ms, int) and isinstance(event.kind, str)
    if not whole or not isinstance(event.text, str) or not _plain(fields):
        raise Corrupt(f"not a line of an event log: {printable(line, 60)}")
    return event


def _plain(fields: tuple[tuple[str, object], ...]) -> bool:
    return all(isinstance(value, str | int) for _, value in fields)
