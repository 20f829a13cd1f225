"""Define the parts of a segment's record that say who accuses it or demands its list, and how that is decided.

Core: frozen structs.
"""

from enum import IntEnum

from swarm.primitives.codec import Message
from swarm.types import Amount, Digest, Height, PeerId


class Accusation(Message, frozen=True):
    """A claim that the replay of a window differs from the leaves the solver revealed."""

    peer: PeerId
    window: int
    claim: Digest
    height: Height
    """Height of its blind answer, or of its report."""
    is_report: bool
    bond: Amount
    """Amount at risk; drawn verifiers answer with a part of their stake besides."""


class Turn(IntEnum):
    """Side that a dispute waits for."""

    ACCUSER = 1
    SOLVER = 2
    SILENT = 3
    """The solver, which has not moved in time: it has lost its seat, and may come back once."""


class Dispute(Message, frozen=True):
    """One accused window, of which its accuser and its solver are heard."""

    window: int
    accuser: PeerId
    """Peer that is heard, until the hearing is over: one that had answered blind before it may yet come."""
    deadline: Height
    """Height at which whoever it waits for is too late."""
    turn: int
    since: Height
    """Height from which on the clock runs of the side that moves."""
    accuser_left: int
    """Blocks that are left to the accuser for all its moves."""
    solver_left: int
    game: bytes = b""
    """State of the hearing, as the court has it (``transition/court.py``); empty before its first move."""
    has_returned: bool = False
    """True if the solver was silent, and has moved since: it is not waited for again."""


class Demand(Message, frozen=True):
    """A demand to show the list of a segment at one place, and what its solver signed for that."""

    peer: PeerId
    place: tuple[int, int, int, int]
    """Place of the entry (``primitives.edges.Place``)."""
    is_down: bool
    """True if the digest is that of what went down, in an entry that has two."""
    said: Digest
    bond: Amount
    """Amount at risk until the list is shown; 0 once the demand is over."""
    end: Height
    """Height at which it is too late to show the list."""
    index: int = -1
    """Number of the entry that has what was signed; -1 if none was shown."""

    @property
    def is_open(self) -> bool:
        """True while the list is waited for."""
        return self.bond > 0
