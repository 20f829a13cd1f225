"""What is kept about a segment while it is checked: throws, checks, windows, accusations, ballots.

Core: frozen structs, parts of a ``SegmentRecord``.
"""

from enum import StrEnum

from swarm.codec import Message
from swarm.types import Amount, Digest, Height, PeerId


class SegmentPhase(StrEnum):
    """Where a segment stands (docs/spec/protocol.md section 6)."""

    POSTED = "posted"
    """Dice will be thrown, or were: whoever is drawn may ask for its window."""
    SAMPLED = "sampled"
    """Verifiers have asked and answer blind."""
    SEALED = "sealed"
    """The blind answers are in, or what nobody checked is reported: the solver must show its leaves."""
    REVEALED = "revealed"
    """The solver has shown its leaves: the verifiers must show theirs."""
    DISPUTED = "disputed"
    """Somebody's leaves differ: the validators decide."""
    VERIFIED = "verified"
    """Every answer agreed."""
    UNSAMPLED = "unsampled"
    """Nobody checked it; paid on trust, and open to reports."""
    SILENT = "silent"
    """The solver did not serve, or did not show its leaves: unpaid, a strike."""
    CLEARED = "cleared"
    """The validators did not find it guilty."""
    GUILTY = "guilty"


class Draw(Message, frozen=True):
    """One throw of the dice that choose verifiers."""

    height: Height
    """The block whose beacon it is."""
    beacon: Digest
    num_eligible: int
    """How many could be drawn."""


class CheckPhase(StrEnum):
    """Where one verifier's check stands."""

    REQUESTED = "requested"
    SEALED = "sealed"
    """Its blind answer is on the ledger."""
    AGREED = "agreed"
    DIFFERED = "differed"
    MISSED = "missed"
    """It fell silent before its answer was there."""


class Check(Message, frozen=True):
    """One drawn verifier of a segment."""

    peer: PeerId
    window: int
    phase: CheckPhase
    height: Height
    """Of its request."""
    commitment: Digest
    """``NO_DIGEST`` before its blind answer."""
    commit_height: Height


class Window(Message, frozen=True):
    """What the solver has shown of one window: the leaves themselves are in the block that reveals them."""

    start_root: Digest
    end_root: Digest
    num_leaves: int
    claim: Digest
    """``leaves.window_claim``."""


class Accusation(Message, frozen=True):
    """Somebody's replay of a window differs from what the solver has shown."""

    peer: PeerId
    window: int
    claim: Digest
    height: Height
    """Of its blind answer, or of its report."""
    is_report: bool
    bond: Amount
    """Of a report; drawn verifiers answer with their stake."""


class Ballot(Message, frozen=True):
    """One validator's verdict in a dispute."""

    peer: PeerId
    is_guilty: bool


class Dispute(Message, frozen=True):
    """One accused window before the validators."""

    window: int
    deadline: Height
    ballots: tuple[Ballot, ...]
