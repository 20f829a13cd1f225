"""Declare what the ledger asks where arithmetic decides: what a move leads to, and whether a proof is one.

Core: frozen values and an interface; ``swarm.verify.court`` implements it.

The ledger knows no programs and no tensors. It stores the state of a dispute as bytes, gives every move to the
court, and keeps the clocks. The court is the one module above this package that is named here, and it is loaded
when it first has something to judge: a node that applied blocks with another court, or none, would leave the
others.
"""

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Protocol, cast

from swarm.errors import BadEncoding, InvalidStatement, OutOfTurn, PeerFault, Reason
from swarm.ledger.state.records import Check, SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.types import Digest, PeerId

COURT = "swarm.verify.court"
"""Module that implements ``Court``."""


class Outcome(StrEnum):
    """Result of a move."""

    OPEN = "open"
    GUILTY = "guilty"
    FALSE = "false"
    """The accusation is false."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """State of a dispute after a move."""

    game: bytes
    outcome: Outcome
    is_solvers_turn: bool


@dataclass(frozen=True, slots=True)
class Stated:
    """Statement of a solver about a window, as far as the ledger knows it."""

    digest: Digest
    to: PeerId
    """Peer that it is for."""
    window: int
    is_element: bool
    """True if a proof shows an element under it, and not its claim alone."""


class Court(Protocol):
    """Judge of moves and proofs; all functions depend on the ledger and their arguments alone.

    They raise ``PeerFault`` for a move, or a proof, that is none; nothing has happened then.
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

    def check_lie(self, reader: Reader, record: SegmentRecord, proof: bytes) -> None:
        """Raise unless a proof shows that the solver of a segment has signed something false about a window."""
        ...

    def lie_about(self, proof: bytes) -> Stated:
        """Return the statement that a proof is about, unchecked."""
        ...

    def stated(self, reader: Reader, record: SegmentRecord, statement: bytes) -> Stated:
        """Return a statement about a window of a segment; raise unless its solver has signed it."""
        ...

    def check_forced(
        self,
        reader: Reader,
        record: SegmentRecord,
        proof: bytes,
        check: Check,
        seed: Digest,
        number: int,
    ) -> None:
        """Raise unless a proof shows a drawn element of what a solver made false on purpose for a check."""
        ...


def the_court() -> Court:
    """Return the court of every node."""
    return cast("Court", import_module(COURT))


def refusal(fault: PeerFault) -> InvalidStatement:
    """Return the refusal of a statement with whose move or proof the court finds fault."""
    match fault:
        case OutOfTurn():
            reason = Reason.WRONG_PHASE
        case BadEncoding():
            reason = Reason.BAD_FIELD
        case _:
            reason = Reason.BAD_PROOF
    return InvalidStatement(reason, str(fault))
