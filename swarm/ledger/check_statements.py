"""Define and check the statements with which segments are checked, and the bounds that all statements share.

Core: frozen structs and pure checks of the fields that need no state.

While a segment is checked, a verifier requests its window, answers blind, and reveals its answer after the
solver has revealed its own. In a dispute both sides move, or validators vote. What a solver has signed may
convict it without any of that.

Source: docs/spec/protocol.md section 6.
"""

from swarm.errors import BadEncoding
from swarm.ledger.demands import DemandEntry, ShowEntry, check_demand_shape, check_show_shape
from swarm.ledger.edges import EdgeFraud, check_fraud_shape
from swarm.primitives.codec import Message
from swarm.primitives.commitments import SALT_BYTES
from swarm.primitives.state_parts import COMPONENTS
from swarm.primitives.vrf import PROOF_BYTES
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex

AMOUNT_MAX = 1 << 62
"""Largest amount of money: sums of two amounts still fit the 64-bit integers of the encoding."""

HEIGHT_MAX = 1 << 48
SHORT_MAX = (1 << 16) - 1
"""Largest run, round, seat, step or incarnation: each takes three bytes, so a commit stays within 300."""

STAGE_MAX = 255
TOKENS_MAX = (1 << 32) - 1
PHI_BYTES_MAX = 1 << 40
COMPONENT_PROOF_DEPTH = (COMPONENTS - 1).bit_length()
"""Length of a path from a part of a shard's state to its root."""


def check_seat(run: int, round_: int, stage: int, seat: int) -> None:
    """Raise ``BadEncoding`` unless these could name a seat in a round."""
    within("run", run, 1, SHORT_MAX)
    within("round", round_, 0, SHORT_MAX)
    within("stage", stage, 0, STAGE_MAX)
    within("seat", seat, 0, SHORT_MAX)


def within(what: str, value: int, low: int, high: int) -> None:
    """Raise ``BadEncoding`` unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise BadEncoding(f"{what} {value} is not between {low} and {high}")


LEAVES_MAX = 256
"""Steps and merges, and windows, of one segment: a run that needs more is not opened."""

MOVE_BYTES_MAX = 60 << 10
"""Bytes of a move in a dispute, or of a proof: what one element is computed from, with its proofs."""
REVEAL_BYTES_MAX = 20 << 10
"""Bytes of one reveal: 256 windows; 12 of those fit into a block."""

ATTEMPTS = 3
"""Beacon draws of verifiers for one segment, at most."""

FORCED_ELEMENTS = 3
"""Elements of a false statement that a solver shows of one that a verifier approved: a solver that makes only
a part of them false shows all three of them once in ten thousand tries, unless the verifier sees one."""
SPOT_BYTES_MAX = 512
"""Bytes of the statement about a window that a verifier looked at."""

PANEL = ATTEMPTS
"""Attempt of a request that offers to sit on a panel: the last draw of that selected its sender."""


class DataRequest(Message, frozen=True, tag=20):
    """Request of a drawn verifier for a window to check: it is dealt one when the time for requests is over."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    attempt: int
    """Index of the beacon draw that selected it, from 0; ``PANEL`` for the last draw of a panel."""
    proof: bytes
    """VRF proof of 80 bytes, made by ``sampling.prove_draw``."""


class VerifyCommit(Message, frozen=True, tag=21):
    """Blind answer of a verifier: a commitment, opened after the solver's reveal. Its request paid for it."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    check: int
    """Index of its check in the record of the segment: it names who must have signed."""
    window: int
    """Window of the check: one that asks again may have another, and its old answer must not count for that."""
    commitment: Digest
    """Salted hash of the claim of its window (``commitments.verify_commit``)."""


class RevealSegment(Message, frozen=True, tag=22):
    """Reveal of the windows a solver committed to; the salt proves that it is the solver's."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    salt: bytes
    leaves_roots: tuple[bytes, ...]
    """For each window the root of its leaves."""
    state_roots: tuple[bytes, ...]
    """Root of the state between each window and the next."""
    tokens: tuple[int, ...]
    """Tokens trained in each window; together the token claim of the commit."""


class VerifyReveal(Message, frozen=True, tag=23):
    """Reveal of the answer a verifier committed to; the salt proves that it is the verifier's."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    check: int
    """Index of its check in the record of the segment."""
    salt: bytes
    claim: bytes
    """Claim of its window where it differs from the solver's; empty where it is the same."""
    said: bytes = b""
    """Digest of the statement that it looked at; empty where it has replayed the window, and in a report."""
    is_false: bool = False
    """True if something in that is false."""
    statement: bytes = b""
    """The statement itself, where it was forced to be false; else empty."""


class DisputeMove(Message, frozen=True, tag=40):
    """Move of one side of a dispute."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int
    move: bytes
    """As ``swarm.verify.court`` reads it."""


class TraceFraud(Message, frozen=True, tag=41):
    """Proof that a solver has signed something false about a window of its segment."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    proof: bytes
    """As ``swarm.verify.court`` reads it."""


class ForcedError(Message, frozen=True, tag=42):
    """Proof of a solver that a verifier approved what was false on purpose: one element of several."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    check: int
    """Index of the check in the record of the segment."""
    number: int
    """Number of the drawn element, from 0."""
    proof: bytes
    """As ``swarm.verify.court`` reads it."""


class Report(Message, frozen=True, tag=25):
    """Blind accusation by a peer whose replay of a window differs; the reporter risks a bond.

    It shows its answer by ``VerifyReveal``, as a drawn verifier does: nobody can copy a report.
    """

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int
    commitment: Digest
    """Salted hash of the leaves of the window, bound to the sender (``leaves.verify_commit``)."""


class ContestService(Message, frozen=True, tag=37):
    """Complaint of a verifier that its solver does not serve it: it risks a bond, and witnesses decide."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    check: int
    """Index of its check in the record of the segment: it names who must have signed."""
    window: int
    """Window of the check: the complaint does not count for another one."""


class WitnessService(Message, frozen=True, tag=38):
    """Statement of a drawn witness: whether it could get the log of a contested window."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    check: int
    """Index of the check whose verifier has complained."""
    is_served: bool
    """True if it holds the log, and serves it to who asks."""
    proof: bytes
    """VRF proof of 80 bytes, made by ``sampling.prove_draw``."""


BoundCheck = VerifyCommit | ContestService
"""Statements that the verifier of a check signs, as the record of the segment names it."""

Fraud = EdgeFraud | TraceFraud
"""Proofs that convict a solver by what it has signed itself, in one transaction."""

PaidCheck = DataRequest | DisputeMove | Report | WitnessService | Fraud | DemandEntry | ForcedError
CheckStatement = PaidCheck | BoundCheck | RevealSegment | VerifyReveal | ShowEntry
"""Statements with which a segment is checked."""


def check_statement_shape(body: CheckStatement) -> None:
    """Raise ``BadEncoding`` if a field is out of bounds."""
    check_seat(body.run, body.round, body.stage, body.seat)
    match body:
        case DataRequest():
            within("attempt", body.attempt, 0, PANEL)
            within("proof bytes", len(body.proof), PROOF_BYTES, PROOF_BYTES)
        case VerifyCommit():
            within("check", body.check, 0, SHORT_MAX)
            within("window", body.window, 0, LEAVES_MAX - 1)
            check_hashes(body.commitment)
        case ContestService():
            within("check", body.check, 0, SHORT_MAX)
            within("window", body.window, 0, LEAVES_MAX - 1)
        case WitnessService():
            within("check", body.check, 0, SHORT_MAX)
            within("proof bytes", len(body.proof), PROOF_BYTES, PROOF_BYTES)
        case RevealSegment():
            _check_reveal(body)
        case VerifyReveal():
            within("check", body.check, 0, SHORT_MAX)
            _check_answer(body)
        case DisputeMove():
            within("window", body.window, 0, LEAVES_MAX - 1)
            within("move bytes", len(body.move), 1, MOVE_BYTES_MAX)
        case Report():
            within("window", body.window, 0, LEAVES_MAX - 1)
            check_hashes(body.commitment)
        case EdgeFraud() | TraceFraud() | DemandEntry() | ShowEntry() | ForcedError():
            _check_what_was_signed(body)


def _check_what_was_signed(body: Fraud | DemandEntry | ShowEntry | ForcedError) -> None:
    match body:
        case EdgeFraud():
            check_fraud_shape(body)
        case TraceFraud():
            within("proof bytes", len(body.proof), 1, MOVE_BYTES_MAX)
        case DemandEntry():
            check_demand_shape(body)
        case ShowEntry():
            within("demand", body.demand, 0, SHORT_MAX)
            check_show_shape(body)
        case ForcedError():
            within("check", body.check, 0, SHORT_MAX)
            within("number", body.number, 0, FORCED_ELEMENTS - 1)
            within("proof bytes", len(body.proof), 1, MOVE_BYTES_MAX)


def _check_answer(body: VerifyReveal) -> None:
    _check_salt(body.salt)
    within("statement bytes", len(body.statement), 0, SPOT_BYTES_MAX)
    check_hashes(*(part for part in (body.claim, body.said) if part))
    if not body.said and (body.is_false or body.statement):
        raise BadEncoding("an answer about no statement")


def _check_reveal(body: RevealSegment) -> None:
    _check_salt(body.salt)
    num_windows = len(body.leaves_roots)
    within("windows", num_windows, 1, LEAVES_MAX)
    within("states between windows", len(body.state_roots), num_windows - 1, num_windows - 1)
    within("token counts", len(body.tokens), num_windows, num_windows)
    for count in body.tokens:
        within("token count", count, 0, TOKENS_MAX)
    check_hashes(*body.leaves_roots, *body.state_roots)


def _check_salt(salt: bytes) -> None:
    within("salt bytes", len(salt), SALT_BYTES, SALT_BYTES)


def check_hashes(*hashes: bytes) -> None:
    """Raise ``BadEncoding`` unless all have 32 bytes."""
    for part in hashes:
        within("hash bytes", len(part), 32, 32)
