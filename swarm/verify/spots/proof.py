"""Prove that a solver stated something false: one element of one trace, or a claim that is not the ledger's.

Core: frozen messages and pure checks.

    FalseTrace      the solver's statement, one trace of it, and an element that is false in that
    SpotStatement   alone: its claim is not the one that the solver has shown on the ledger

Whoever holds a proof convicts with it: nothing in it is said by the finder, and nothing has to be
replayed. It is of the size of one move of a dispute at most, and judged like the last of them.
Source: docs/spec/verification.md section 4.
"""

from typing import cast

from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn, UsageError
from swarm.ledger.check_statements import MOVE_BYTES_MAX, TraceFraud
from swarm.ledger.transition.phases import SegmentId
from swarm.primitives.codec import Message, decode, encode
from swarm.types import Digest, PeerId
from swarm.verify.program.cases import Facts
from swarm.verify.program.reveal import Operand, Reveal
from swarm.verify.spots.elements import FalseElement, check_false
from swarm.verify.spots.forced import element_of
from swarm.verify.spots.statement import (
    SpotStatement,
    TraceSaid,
    UpdateTrace,
    check_statement,
    check_trace,
    program_of,
)


class FalseTrace(Message, frozen=True, tag=1):
    """A false element of a trace that a solver has stated."""

    statement: SpotStatement
    trace: TraceSaid
    number: int
    path: tuple[bytes, ...]
    """From the trace to the root over all in the statement."""
    values: Operand
    reveal: Reveal


TraceProof = FalseTrace | SpotStatement
"""Proof of a lie about a window, as ``TraceFraud`` has it."""


def trace_fraud(segment: SegmentId, proof: TraceProof) -> TraceFraud:
    """Return the statement to the ledger that convicts the solver of a segment."""
    return TraceFraud(segment.run, segment.round, segment.stage, segment.seat, encode(proof))


def decode_proof(raw: bytes) -> TraceProof:
    """Decode a proof; raise ``BadEncoding`` for anything else."""
    return decode(cast("type[TraceProof]", TraceProof), raw, limit=MOVE_BYTES_MAX)


def statement_of(proof: TraceProof) -> SpotStatement:
    """Return what the solver has signed."""
    return proof.statement if isinstance(proof, FalseTrace) else proof


def check_contradiction(
    said: SpotStatement, claim: Digest, peer: PeerId, chain: Digest, run_digest: Digest
) -> None:
    """Raise ``PeerFault`` unless ``peer`` signed another claim of a window than the one it has shown."""
    if said.claim == claim:
        raise BrokenPromise("a statement with the claim that is on the ledger")
    check_statement(said, peer, chain, run_digest)


def check_drawn(
    proof: FalseTrace, facts: Facts, said: Digest, seed: Digest, dice: bytes, number: int
) -> None:
    """Raise ``PeerFault`` unless a proof is about the drawn element of the update in a certain statement.

    Of all that a statement is about it is the update, at which every verifier looks. That the element is false
    is for ``check_proof``.
    """
    if proof.statement.digest != said:
        raise BrokenPromise("another statement than the one that was approved")
    if not isinstance(proof.trace, UpdateTrace):
        raise BrokenPromise("not the program that everybody looks at")
    program = program_of(facts, proof.trace)
    item = element_of(program, seed, proof.number, dice, number)
    if (proof.reveal.node, proof.reveal.place) != (item.node, item.place):
        raise BrokenPromise("another element than the one that was drawn")


def check_proof(
    proof: FalseTrace, facts: Facts, peer: PeerId, chain: Digest, run_digest: Digest
) -> None:
    """Raise ``PeerFault`` unless a proof shows that ``peer`` has stated something false.

    ``facts``: of the round and the stage that the statement names; the caller has compared them.
    """
    said = proof.statement
    if (said.round, said.stage) != (facts.round, facts.stage):
        raise OutOfTurn("a statement about another segment")
    check_statement(said, peer, chain, run_digest)
    check_trace(said, proof.trace, proof.number, proof.path)
    if len(proof.trace.root) != 32:
        raise BadEncoding("a hash that has not 32 bytes")
    try:
        program = program_of(facts, proof.trace)
        element = FalseElement(proof.values, proof.reveal)
        check_false(program, Digest(proof.trace.root), element)
    except (ArithmeticError, LookupError, UsageError, ValueError) as fault:
        # The checks should refuse it before. If one is missing, no replica stops.
        raise BrokenPromise(f"a proof with which nothing can be computed: {fault}") from None
