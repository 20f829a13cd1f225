"""Judge moves of a dispute, and proofs of a lie, for the ledger: implements ``ledger.transition.court.Court``.

Core: pure functions of the ledger and of bytes that a stranger sent.

Everything that decides is in ``verify/program`` and ``verify/spots``; here the ledger's records become their
arguments, and their states, moves and proofs bytes.
Source: docs/spec/verification.md section 4.
"""

from collections.abc import Callable
from typing import TypeVar, cast

from swarm.errors import BrokenPromise, OutOfTurn, UsageError
from swarm.ledger.check_statements import MOVE_BYTES_MAX
from swarm.ledger.state.records import Check, SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.ledger.transition.court import Outcome, Ruling, Stated
from swarm.ledger.transition.sampling import num_windows
from swarm.primitives.codec import decode, encode
from swarm.training.record.window import WindowKey
from swarm.types import NO_DIGEST, Digest, PeerId
from swarm.verify.program.account import Account
from swarm.verify.program.cases import Facts
from swarm.verify.program.dispute import Dispute, Move, Phase
from swarm.verify.program.dispute import moved as moved_in
from swarm.verify.program.dispute import opened as opened_by
from swarm.verify.program.opened import Seating, Window
from swarm.verify.spots.proof import (
    FalseTrace,
    check_contradiction,
    check_drawn,
    check_proof,
    decode_proof,
    statement_of,
)
from swarm.verify.spots.statement import SpotStatement, check_statement, decode_statement

GAME_BYTES_MAX = 4 * MOVE_BYTES_MAX
"""Bytes of a dispute between two moves: two of the longest moves, and room."""
OUTCOMES = {
    Phase.GUILTY: Outcome.GUILTY,
    Phase.FALSE: Outcome.FALSE,
}


def opened(
    reader: Reader, record: SegmentRecord, window: int, claim: Digest, move: bytes
) -> Ruling:
    """Begin a dispute by the account of an accuser."""
    account = decode(Account, move, limit=MOVE_BYTES_MAX)
    disputed = window_of(reader, record, window)
    return _ruling(_judged(lambda: opened_by(disputed, account, claim)))


def moved(
    reader: Reader,
    record: SegmentRecord,
    window: int,
    game: bytes,
    move: bytes,
    *,
    is_solver: bool,
) -> Ruling:
    """Go on with a dispute by a move of one side."""
    disputed = window_of(reader, record, window)
    before, said = read_game(game), read_move(move)
    return _ruling(_judged(lambda: moved_in(disputed, before, said, is_solver=is_solver)))


def check_lie(reader: Reader, record: SegmentRecord, proof: bytes) -> None:
    """Raise ``PeerFault`` unless a proof shows that the solver has signed something false about a window."""
    found = decode_proof(proof)
    said = statement_of(found)
    _check_subject(reader, record, said)
    facts, chain = facts_of(reader, record), reader.globals.chain
    if isinstance(found, FalseTrace):
        _judged(lambda: check_proof(found, facts, record.peer, chain, facts.run_digest))
    elif not record.claims:
        raise OutOfTurn("its solver has not shown its windows yet")
    else:
        claim = record.claims[said.window]
        _judged(lambda: check_contradiction(said, claim, record.peer, chain, facts.run_digest))


def lie_about(proof: bytes) -> Stated:
    """Return the statement that a proof is about, unchecked; raise ``BadEncoding`` for what is no proof."""
    found = decode_proof(proof)
    return _stated(statement_of(found), is_element=isinstance(found, FalseTrace))


def stated(reader: Reader, record: SegmentRecord, statement: bytes) -> Stated:
    """Return a statement about a window of a segment; raise ``PeerFault`` unless its solver has signed it."""
    said = decode_statement(statement)
    _check_subject(reader, record, said)
    run_digest = reader.run(record.run).spec_digest
    check_statement(said, record.peer, reader.globals.chain, run_digest)
    return _stated(said, is_element=False)


def _stated(said: SpotStatement, *, is_element: bool) -> Stated:
    return Stated(said.digest, PeerId(said.to), said.window, is_element=is_element)


def check_forced(
    reader: Reader, record: SegmentRecord, proof: bytes, check: Check, seed: Digest, number: int
) -> None:
    """Raise ``PeerFault`` unless a proof shows a drawn element of what is false on purpose for a check."""
    found = decode_proof(proof)
    if not isinstance(found, FalseTrace):
        raise BrokenPromise("a statement without an element of it")
    _check_subject(reader, record, found.statement)
    facts, chain = facts_of(reader, record), reader.globals.chain
    said, dice = Digest(check.said), check.dice
    _judged(lambda: check_drawn(found, facts, said, seed, dice, number))
    _judged(lambda: check_proof(found, facts, record.peer, chain, facts.run_digest))


def _check_subject(reader: Reader, record: SegmentRecord, said: SpotStatement) -> None:
    """Raise ``BrokenPromise`` unless a statement is about a window of a segment."""
    where = (said.run, said.round, said.stage, said.seat)
    if where != (record.run, record.round, record.stage, record.seat):
        raise BrokenPromise("a statement about another segment")
    windows = num_windows(record.num_steps, reader.run(record.run).spec.checks.window_steps)
    if not 0 <= said.window < windows:
        raise BrokenPromise(f"a statement about window {said.window} of {windows}")


JudgedT = TypeVar("JudgedT")


def _judged(judge: Callable[[], JudgedT]) -> JudgedT:
    """Return what is found; raise ``BrokenPromise`` for a move or proof with which nothing can be computed.

    The checks should refuse it before. If one is missing, its sender loses by that, and no replica stops.
    """
    try:
        return judge()
    except (ArithmeticError, LookupError, UsageError, ValueError) as fault:
        raise BrokenPromise(f"nothing can be computed with it: {fault}") from None


def facts_of(reader: Reader, record: SegmentRecord) -> Facts:
    """Return what the ledger knows of the round of a segment; raise ``OutOfTurn`` if it is forgotten."""
    run, info = reader.run(record.run), reader.round_info(record.run, record.round)
    if info is None:
        raise OutOfTurn("the ledger has forgotten the round")
    return Facts(
        spec=run.spec,
        run_digest=run.spec_digest,
        stage=record.stage,
        round=record.round,
        beacon=info.beacon,
        is_final_averaging=info.consensus >= 0,
    )


def window_of(reader: Reader, record: SegmentRecord, window: int) -> Window:
    """Return a window as the ledger has it; raise ``OutOfTurn`` if its round is forgotten.

    Before the reveal its claim is not known, and stands for nothing.
    """
    facts, run = facts_of(reader, record), reader.run(record.run)
    spec, stage, width = run.spec, record.stage, run.spec.checks.window_steps
    listed = tuple(checkpoint.phi_root for checkpoint in run.checkpoints[stage])
    return Window(
        facts=facts,
        seating=_seating(reader, record, window),
        claim=record.claims[window] if record.claims else NO_DIGEST,
        number=window,
        steps=min(max(record.num_steps - window * width, 0), width),
        is_last=(window + 1) * width >= record.num_steps,
        anchors=(*listed, spec.starts[stage].weights),
    )


def _seating(reader: Reader, record: SegmentRecord, window: int) -> Seating:
    info = reader.round_info(record.run, record.round)
    assert info is not None, "its facts were found"
    seats = tuple((seat.index, seat.peer) for seat in info.seats[record.stage])
    key = WindowKey(record.run, record.round, record.stage, record.seat, window)
    return Seating(key, reader.globals.chain, seats, record.sent_root)


def read_game(game: bytes) -> Dispute:
    """Decode what the ledger keeps of a dispute."""
    return decode(Dispute, game, limit=GAME_BYTES_MAX)


def read_move(move: bytes) -> Move:
    """Decode a move; raise ``BadEncoding`` for anything else."""
    return decode(cast("type[Move]", Move), move, limit=MOVE_BYTES_MAX)


def _ruling(after: Dispute) -> Ruling:
    outcome = OUTCOMES.get(Phase(after.phase), Outcome.OPEN)
    is_open = outcome is Outcome.OPEN
    return Ruling(encode(after) if is_open else b"", outcome, is_open and after.is_solvers_turn)
