"""Judge the moves of a dispute for the ledger: implements ``swarm.ledger.transition.court.Court``.

Core: pure functions of the ledger and of bytes that a stranger sent.

Everything that decides is in ``verify/program``; here the ledger's records become its arguments, and its states
and moves bytes.
Source: docs/spec/verification.md section 4.
"""

from collections.abc import Callable
from typing import cast

from swarm.errors import BrokenPromise, OutOfTurn, UsageError
from swarm.ledger.check_statements import MOVE_BYTES_MAX
from swarm.ledger.state.records import SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.ledger.transition.court import Outcome, Ruling
from swarm.primitives.codec import decode, encode
from swarm.types import NO_DIGEST, Digest
from swarm.verify.program.account import Account
from swarm.verify.program.cases import Facts
from swarm.verify.program.dispute import NO_ACCOUNT, Dispute, Move, Phase
from swarm.verify.program.dispute import moved as moved_in
from swarm.verify.program.dispute import opened as opened_by
from swarm.verify.program.opened import Window
from swarm.verify.replay import REFUSED

GAME_BYTES_MAX = 4 * MOVE_BYTES_MAX
"""Bytes of a dispute between two moves: two of the longest moves, and room."""
OUTCOMES = {
    Phase.GUILTY: Outcome.GUILTY,
    Phase.FALSE: Outcome.FALSE,
    Phase.ELSEWHERE: Outcome.ELSEWHERE,
}


def opened(
    reader: Reader, record: SegmentRecord, window: int, claim: Digest, move: bytes
) -> Ruling:
    """Begin a dispute by the account of an accuser; one that found the log refused has none to give."""
    account = decode(Account, move, limit=MOVE_BYTES_MAX)
    if account == NO_ACCOUNT and claim == REFUSED.claim:
        return Ruling(b"", Outcome.ELSEWHERE, is_solvers_turn=False)
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


def _judged(judge: Callable[[], Dispute]) -> Dispute:
    """Return the dispute after a move; raise ``BrokenPromise`` for one with which nothing can be computed.

    The checks should refuse it before. If one is missing, its sender loses by that, and no replica stops.
    """
    try:
        return judge()
    except (ArithmeticError, LookupError, UsageError, ValueError) as fault:
        raise BrokenPromise(f"a move with which nothing can be computed: {fault}") from None


def window_of(reader: Reader, record: SegmentRecord, window: int) -> Window:
    """Return a window as the ledger has it; raise ``OutOfTurn`` if its round is forgotten.

    Before the reveal its claim is not known, and stands for nothing.
    """
    run, info = reader.run(record.run), reader.round_info(record.run, record.round)
    if info is None:
        raise OutOfTurn("the ledger has forgotten the round")
    width = run.spec.checks.window_steps
    spec, stage = run.spec, record.stage
    facts = Facts(
        spec=spec,
        run_digest=run.spec_digest,
        stage=stage,
        round=record.round,
        beacon=info.beacon,
        is_final_averaging=info.consensus >= 0,
    )
    listed = tuple(checkpoint.phi_root for checkpoint in run.checkpoints[stage])
    return Window(
        facts=facts,
        claim=record.claims[window] if record.claims else NO_DIGEST,
        number=window,
        steps=min(max(record.num_steps - window * width, 0), width),
        is_last=(window + 1) * width >= record.num_steps,
        anchors=(*listed, spec.initial_roots[stage]) if spec.initial_roots else None,
    )


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
