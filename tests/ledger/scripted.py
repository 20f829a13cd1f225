"""A court in which a move says what follows from it, for tests of all that a ledger does around one."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn
from swarm.ledger.state.records import SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.ledger.transition import hearings
from swarm.ledger.transition.court import Outcome, Ruling
from swarm.types import Digest

OUTCOMES = {b"guilty": Outcome.GUILTY, b"false": Outcome.FALSE}


class ScriptedCourt:
    """Sides that take turns: ``open`` begins, ``guilty`` and ``false`` end it, ``lie`` and ``early`` fail."""

    def opened(
        self, reader: Reader, record: SegmentRecord, window: int, claim: Digest, move: bytes
    ) -> Ruling:
        del reader, record, window, claim
        if move != b"open":
            raise BadEncoding("no account")
        return Ruling(b"1", Outcome.OPEN, is_solvers_turn=True)

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
        del reader, record, window
        if move == b"lie":
            raise BrokenPromise("not what was said before")
        if move == b"early":
            raise OutOfTurn("not now")
        outcome = OUTCOMES.get(move, Outcome.OPEN)
        return Ruling(game + b"1", outcome, is_solvers_turn=not is_solver)


@contextmanager
def scripted_court() -> Iterator[None]:
    """Let the court of the ledger be the scripted one."""
    with patch.object(hearings, "the_court", ScriptedCourt):
        yield
