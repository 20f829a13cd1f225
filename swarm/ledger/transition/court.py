"""Declare what the ledger asks about a dispute that arithmetic decides: whether a move is one, and its result.

Core: frozen values and an interface; ``swarm.verify.court`` implements it.

The ledger knows no programs and no tensors. It stores the state of a dispute as bytes, gives every move to the
court, and keeps the clocks. The court is the one module above this package that is named here, and it is loaded
when the first move is judged: a node that applied blocks with another court, or none, would leave the others.
"""

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Protocol, cast

from swarm.ledger.state.records import SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.types import Digest

COURT = "swarm.verify.court"
"""Module that implements ``Court``."""


class Outcome(StrEnum):
    """Result of a move."""

    OPEN = "open"
    GUILTY = "guilty"
    FALSE = "false"
    """The accusation is false."""
    ELSEWHERE = "elsewhere"
    """Arithmetic does not decide this dispute."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """State of a dispute after a move."""

    game: bytes
    outcome: Outcome
    is_solvers_turn: bool


class Court(Protocol):
    """Judge of moves; both functions depend on the ledger and their arguments alone.

    They raise ``PeerFault`` for a move that is none; nothing has happened then.
    """

    def opened(
        self, reader: Reader, record: SegmentRecord, window: int, claim: Digest, move: bytes
    ) -> Ruling:
        """Begin a dispute about a window by the account of an accuser that has shown ``claim``."""
        ...

    def moved(
        self,
        reader: Reader,
        record: SegmentRecord,
        window: int,
        game: bytes,
        move: bytes,
        *,
        is_solver: bool,
    ) -> Ruling:
        """Go on with a dispute by a move of one side."""
        ...


def the_court() -> Court:
    """Return the court of every node."""
    return cast("Court", import_module(COURT))
