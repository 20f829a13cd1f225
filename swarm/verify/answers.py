"""What this node's own replay of a window gave, from its blind commitment to the day it shows it.

Core: a frozen struct; the salt is the shell's to draw.
"""

from swarm.codec import Message
from swarm.leaves import verify_commit, window_claim
from swarm.ledger.check_statements import VerifyCommit, VerifyReveal
from swarm.ledger.records import SegmentRecord
from swarm.training.window import WindowKey
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex

SeatPlace = tuple[RunIndex, RoundIndex, StageIndex, int]
"""Which segment: run, round, stage, seat."""

ANSWER_BYTES_MAX = 16 << 10
"""256 leaves, and what surrounds them."""


class OwnAnswer(Message, frozen=True):
    """One window, replayed."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int
    salt: bytes
    leaves: tuple[bytes, ...]
    end_root: Digest
    root: Digest
    """Of the log that was replayed."""

    @property
    def key(self) -> WindowKey:
        """The window."""
        return WindowKey(self.run, self.round, self.stage, self.seat, self.window)

    @property
    def claim(self) -> Digest:
        """What it says, as one hash: equal for those who agree."""
        return window_claim(self.leaves, self.end_root)

    def commitment(self, me: PeerId) -> Digest:
        """What hides it."""
        return verify_commit(self.leaves, self.end_root, self.salt, me)

    def hidden(self, me: PeerId) -> VerifyCommit:
        """The statement that gives it blind."""
        return VerifyCommit(self.run, self.round, self.stage, self.seat, self.commitment(me))

    def shown(self) -> VerifyReveal:
        """The statement that shows it."""
        place = (self.run, self.round, self.stage, self.seat)
        return VerifyReveal(*place, self.salt, self.leaves, self.end_root)


def place_of(record: SegmentRecord) -> SeatPlace:
    """Which segment a record is about."""
    return record.run, record.round, record.stage, record.seat


def window_of(record: SegmentRecord, window: int) -> WindowKey:
    """The name of a window of a segment."""
    return WindowKey(*place_of(record), window)


def seat_of(key: WindowKey) -> SeatPlace:
    """Which segment a window is of."""
    return key.run, key.round, key.stage, key.seat
