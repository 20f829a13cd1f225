"""Define the draws of verifiers by a beacon, and the complaints and panels that are decided by who is drawn.

Core: frozen structs, parts of the record of a segment.
"""

from swarm.primitives.codec import Message
from swarm.types import Amount, Digest, Height, PeerId


class Draw(Message, frozen=True):
    """One beacon draw of verifiers for a segment."""

    height: Height
    """Height of the block whose beacon it is."""
    beacon: Digest
    stake: Amount
    """Stake of all peers but the solver and its partners: a peer is drawn in proportion to its part of it."""


class Contest(Message, frozen=True):
    """A complaint that the solver does not serve the log of a window, and what its drawn witnesses say."""

    check: int
    """Index of the check whose verifier complains."""
    window: int
    height: Height
    bond: Amount
    """Amount at risk until the witnesses have decided."""
    draw: Draw | None
    """Draw of the witnesses, ``beacon_delay`` blocks after the complaint."""
    served: tuple[PeerId, ...]
    """Witnesses that hold the log."""
    refused: tuple[PeerId, ...]
    """Witnesses that could not get it."""
    end: Height
    """Height from which on witnesses are not heard any more."""
    is_open: bool


class PanelSeat(Message, frozen=True):
    """A drawn peer that sits on a panel, or offers to; its check is in the record."""

    peer: PeerId
    dice: int
    """Number below 2^63 from its VRF output: the lowest in proportion to the stakes sit."""
    stake: Amount


class Panel(Message, frozen=True):
    """Three fresh verifiers of a window that a verifier has rejected, in a run without exact numerics."""

    window: int
    draws: tuple[Draw, ...]
    """Draws so far, oldest first: another one if fewer than three offered to sit."""
    seats: tuple[PanelSeat, ...]
    """Those that sit, or the best offers so far: at most three, the best first."""
    is_seated: bool
    """True once all three are known: then they replay, and answer blind."""
    heard: tuple[PeerId, ...]
    """Members of earlier panels about other windows of the segment: they may sit again."""
