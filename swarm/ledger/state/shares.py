"""Define the entries of a run's shares: how many there are, and how many back a peer as the next owner.

Core: frozen structs and their keys.

A share is a token of a segment that was verified and stands; each peer's are in its ``Contribution``. These
entries stay when a run is settled, and hold no money: one for each peer that ever worked for the run, one for
the run, and one for each peer that shareholders back.
"""

from swarm.primitives.codec import Message
from swarm.types import PeerId, RunIndex


class RunShares(Message, frozen=True):
    """Shares of a run, of all holders together."""

    total: int
    turn: int
    """Number of times that shareholders have gone on with the run: what they say counts for one time."""


class Backing(Message, frozen=True):
    """Shares whose holders want one peer to own a run next."""

    shares: int


ShareEntry = RunShares | Backing
NO_SHARES = RunShares(0, 0)
"""Shares of a run in which nothing was verified yet."""


def shares_key(run: RunIndex) -> bytes:
    """Return the key of the shares of a run."""
    return b"h" + run.to_bytes(8, "big")


def backing_key(run: RunIndex, turn: int, peer: PeerId) -> bytes:
    """Return the key of the shares that back a peer."""
    return b"o" + run.to_bytes(8, "big") + turn.to_bytes(8, "big") + peer
