"""What a node may say while it looks for its first peer.

Core: pure data.
"""

from dataclasses import dataclass

from swarm.types import PeerId


@dataclass(frozen=True, slots=True)
class Trying:
    """An attempt begins."""

    peer: PeerId
    attempt: int
    """From 1."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt ended; another follows."""

    peer: PeerId
    attempt: int
    reason: str
    """A sentence that names the cause."""
    retry_s: float
    """Seconds until the next attempt."""


@dataclass(frozen=True, slots=True)
class Reached:
    """We are connected to a peer that was asked for."""

    peer: PeerId
    is_first: bool
    """Whether it is the first of all."""


Progress = Trying | Failed | Reached
