"""Keep what other seats signed for us, or for those we check, until it is compared with their lists.

Shell: a table on the disk and in memory; bounded by a number of messages.

A restart forgets none of them: which lists are missing, and what is demanded of whom, follows from the disk.
"""

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress

from swarm.errors import BadEncoding, Corrupt, DiskFull
from swarm.ledger.edges import EdgeMessage, sender_of
from swarm.primitives.codec import Message, decode, encode
from swarm.store import ITEMS_MAX, Change, Store
from swarm.types import RoundIndex, RunIndex, StageIndex
from swarm.verify.answers import SegmentKey

NOTES_MAX = 1 << 16
"""Messages kept for comparison, a quarter of a kilobyte each; those of the oldest segments are dropped."""
NOTE_BYTES_MAX = 1 << 10
TABLE = "edge_notes"
_KEY_BYTES = 32


class _Note(Message, frozen=True):
    """Row of the table."""

    message: EdgeMessage


class EdgeNotes:
    """Messages by the segment of their sender, and by signature."""

    def __init__(self, store: Store) -> None:
        """Load the table; raises ``Corrupt`` if it is damaged."""
        self._store = store
        self._rows: OrderedDict[SegmentKey, dict[bytes, EdgeMessage]] = OrderedDict()
        self.count = 0
        """Messages that are kept."""
        after = b""
        while rows := store.items(TABLE, after=after, limit=ITEMS_MAX):
            for name, raw in rows:
                try:
                    self._put(decode(_Note, raw, limit=NOTE_BYTES_MAX).message)
                except BadEncoding as error:
                    raise Corrupt(f"a message of another seat is damaged: {error}") from None
                after = name

    def segments(self) -> list[SegmentKey]:
        """Return the segments of which messages are kept, the oldest notes first."""
        return list(self._rows)

    def of(self, key: SegmentKey) -> list[EdgeMessage]:
        """Return the messages of a segment's solver."""
        return list(self._rows.get(key, {}).values())

    async def add(self, messages: Iterable[EdgeMessage]) -> None:
        """Keep messages; on the disk, too, if that has room."""
        new = [message for message in messages if self._put(message)]
        changes: list[Change] = [
            (TABLE, _name(sender_of(m), m.signature), encode(_Note(m))) for m in new
        ]
        while self.count > NOTES_MAX:
            changes += self._drop(next(iter(self._rows)))
        await self._write(changes)

    async def forget(self, key: SegmentKey) -> None:
        """Remove the messages of a segment's solver."""
        await self._write(self._drop(key))

    def _put(self, message: EdgeMessage) -> bool:
        row = self._rows.setdefault(sender_of(message), {})
        is_new = message.signature not in row
        row[message.signature] = message
        self.count += is_new
        return is_new

    def _drop(self, key: SegmentKey) -> list[Change]:
        row = self._rows.pop(key, {})
        self.count -= len(row)
        return [(TABLE, _name(key, signature), None) for signature in row]

    async def _write(self, changes: list[Change]) -> None:
        if changes:
            with suppress(DiskFull):  # what is in memory is compared all the same
                await self._store.write_soon(changes)


def packed(key: SegmentKey) -> bytes:
    """Return the bytes of a segment's key."""
    return b"".join(number.to_bytes(8, "big") for number in key)


def unpacked(name: bytes) -> SegmentKey:
    """Return the segment's key of these bytes."""
    parts = (int.from_bytes(name[at : at + 8], "big") for at in range(0, _KEY_BYTES, 8))
    run, round_, stage, seat = parts
    return RunIndex(run), RoundIndex(round_), StageIndex(stage), seat


def _name(key: SegmentKey, signature: bytes) -> bytes:
    return packed(key) + signature
