"""What solvers, verifiers and validators say while a segment is checked.

Core: frozen structs and the bounds of their fields. Source: docs/spec/protocol.md section 6.

A verifier asks for its window, answers blind, and shows its answer after the solver has shown its own. Only
the reveal is a seat statement; the others are signed by a peer and pay a fee.
"""

from collections.abc import Sequence

from swarm.codec import Message
from swarm.errors import BadEncoding
from swarm.leaves import SALT_BYTES
from swarm.ledger.fields import (
    COMPONENT_PROOF_DEPTH,
    SHORT_MAX,
    TOKENS_TOTAL_MAX,
    check_seat,
    within,
)
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex
from swarm.vrf import PROOF_BYTES

LEAVES_MAX = 256
"""Steps and merges of one segment: a run that needs more is not opened (``spec_check``)."""

REVEAL_BYTES_MAX = 16 << 10
"""256 leaves and their openings; 16 reveals fit into a block."""

DROPPED_MAX = 1024
"""Micro-batches one step may say it dropped: more than a reveal has room for."""

FRAGMENTS_MAX = 64
"""Fragments of one stage, as in every spec (``swarm.bounds``)."""

ATTEMPTS = 3
"""How often the dice that choose verifiers are thrown for one segment."""


class DataRequest(Message, frozen=True, tag=20):
    """A drawn verifier asks for the data of its window."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    attempt: int
    """Which throw of the dice drew it, from 0."""
    window: int
    proof: bytes
    """80 bytes of VRF: ``sampling.prove_draw``."""


class VerifyCommit(Message, frozen=True, tag=21):
    """A verifier's answer, hidden until the solver has shown its own."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    commitment: Digest
    """``leaves.verify_commit`` of its window."""


class Opening(Message, frozen=True):
    """What is in the step leaf with which a window begins."""

    leaf: int
    """Its place among the leaves of the segment."""
    step: int
    dropped: tuple[tuple[int, int, int], ...]
    state_root: Digest
    """Before the step."""
    leaves_root: Digest
    """Over its micro-batch leaves."""


class TokensOpening(Message, frozen=True):
    """The tokens in the state under a root: what a segment's pay is counted from."""

    counts: tuple[int, ...]
    """The seat's total, then the total at each fragment's last merge."""
    proof: tuple[bytes, ...]
    """Leads from ``windows.tokens_component(counts)``, component 8 of 10, to the state root (BLAKE3)."""


class RevealSegment(Message, frozen=True, tag=22):
    """A solver shows the leaves it committed to; signed by the seat, no fee."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    salt: bytes
    leaves: tuple[bytes, ...]
    """Of all steps and merges, in the order in which they happened."""
    openings: tuple[Opening, ...]
    """Of the first step of each window."""
    tokens: tuple[TokensOpening, TokensOpening]
    """Under the start root and the end root: their difference is what the commit claims."""


class VerifyReveal(Message, frozen=True, tag=23):
    """A verifier shows the answer it committed to."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    salt: bytes
    leaves: tuple[bytes, ...]
    """Of its window."""
    end_root: Digest
    """The state at the end of its window."""


class DisputeVote(Message, frozen=True, tag=24):
    """A validator says what its own replay of the disputed window found."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int
    """The disputed one: a vote that comes too late counts for no other."""
    is_guilty: bool


class Report(Message, frozen=True, tag=25):
    """A whistleblower's replay of a window that was revealed differs; opens a dispute at its own risk."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int
    leaves: tuple[bytes, ...]
    end_root: Digest


CheckStatement = DataRequest | VerifyCommit | VerifyReveal | DisputeVote | Report
"""What is signed by a peer. ``RevealSegment`` is the seat's part."""


def check_statement_shape(body: CheckStatement | RevealSegment) -> None:
    """Raise ``BadEncoding`` if a field is out of bounds."""
    check_seat(body.run, body.round, body.stage, body.seat)
    match body:
        case DataRequest():
            within("attempt", body.attempt, 0, ATTEMPTS - 1)
            within("window", body.window, 0, LEAVES_MAX - 1)
            within("proof bytes", len(body.proof), PROOF_BYTES, PROOF_BYTES)
        case VerifyCommit():
            _check_hashes(body.commitment)
        case RevealSegment():
            _check_salt(body.salt)
            _check_leaves(body.leaves)
            within("openings", len(body.openings), 0, LEAVES_MAX)
            for opening in body.openings:
                _check_opening(opening)
            for tokens in body.tokens:
                _check_tokens(tokens)
        case VerifyReveal():
            _check_salt(body.salt)
            _check_leaves(body.leaves)
            _check_hashes(body.end_root)
        case DisputeVote():
            within("window", body.window, 0, LEAVES_MAX - 1)
        case Report():
            within("window", body.window, 0, LEAVES_MAX - 1)
            _check_leaves(body.leaves)
            _check_hashes(body.end_root)


def _check_opening(opening: Opening) -> None:
    within("leaf", opening.leaf, 0, LEAVES_MAX - 1)
    within("step", opening.step, 0, SHORT_MAX)
    within("dropped", len(opening.dropped), 0, DROPPED_MAX)
    if list(opening.dropped) != sorted(opening.dropped):
        raise BadEncoding("dropped micro-batches out of order")
    for part in (number for place in opening.dropped for number in place):
        within("coordinate", part, 0, SHORT_MAX)
    _check_hashes(opening.state_root, opening.leaves_root)


def _check_tokens(opening: TokensOpening) -> None:
    within("token counts", len(opening.counts), 2, 1 + FRAGMENTS_MAX)
    for count in opening.counts:
        within("token count", count, 0, TOKENS_TOTAL_MAX)
    within("proof depth", len(opening.proof), COMPONENT_PROOF_DEPTH, COMPONENT_PROOF_DEPTH)
    _check_hashes(*opening.proof)


def _check_salt(salt: bytes) -> None:
    within("salt bytes", len(salt), SALT_BYTES, SALT_BYTES)


def _check_leaves(leaves: Sequence[bytes]) -> None:
    within("leaves", len(leaves), 1, LEAVES_MAX)
    _check_hashes(*leaves)


def _check_hashes(*hashes: bytes) -> None:
    for part in hashes:
        within("hash bytes", len(part), 32, 32)
