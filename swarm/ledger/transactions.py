"""Everything a peer can sign for the ledger.

Core: frozen structs and pure checks of what can be checked without a state.

A *seat statement* (a segment commit, a checkpoint) carries no sender, nonce, fee or expiry: its seat names
the signer, the round keeps it from being replayed, and the number of seats bounds how many there are.
Everything else is signed by its sender and pays a fee.

What solvers, verifiers and validators say while a segment is checked.

frozen structs and the bounds of their fields. Source: docs/spec/protocol.md section 6.

A verifier asks for its window, answers blind, and shows its answer after the solver has shown its own. Only
the reveal is a seat statement; the others are signed by a peer and pay a fee.

Bounds of the fields that statements share.

numbers, and checks that raise ``BadEncoding``.
"""

from collections.abc import Sequence

from swarm.errors import BadEncoding
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.commitments import SALT_BYTES
from swarm.primitives.crypto import PEER_BYTES, SIGNATURE_BYTES, SecretKey, digest, verify
from swarm.primitives.vrf import PROOF_BYTES
from swarm.types import Amount, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex

AMOUNT_MAX = 1 << 62
"""Sums of two amounts still fit the 64-bit integers of the encoding."""

HEIGHT_MAX = 1 << 48
SHORT_MAX = (1 << 16) - 1
"""Runs, rounds, seats, steps and incarnations take three bytes: the commit stays within 300."""

STAGE_MAX = 255
TOKENS_MAX = (1 << 32) - 1
PHI_BYTES_MAX = 1 << 40
STATE_COMPONENTS = 10
"""Components of a shard's state, in the order of docs/spec/protocol.md section 5."""

PHI_COMPONENT = 4
TOKENS_COMPONENT = 8
COMPONENT_PROOF_DEPTH = (STATE_COMPONENTS - 1).bit_length()
TOKENS_TOTAL_MAX = (1 << 53) - 1
"""A seat's tokens since it began: exact in every language's numbers, and never reached."""


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
"""Steps and merges of one segment: a run that needs more is not opened (``spec_check``)."""

REVEAL_BYTES_MAX = 16 << 10
"""256 leaves and their openings; 16 reveals fit into a block."""

DROPPED_MAX = 1024
"""Micro-batches one step may say it dropped: more than a reveal has room for."""

FRAGMENTS_MAX = 64
"""Fragments of one stage, as in every spec (``swarm.config.bounds``)."""

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


TRANSACTION_BYTES_MAX = 64 << 10
"""A quarter of a block: the largest is a later step's evidence."""

SEAT_STATEMENT_BYTES_MAX = 1024
"""A checkpoint with its four sibling hashes is about 300 bytes; only a reveal is longer."""

SEGMENT_COMMIT_BYTES_MAX = 300
"""Every commit within the bounds of its fields fits, signature included."""

RUN_SPEC_BYTES_MAX = 16 << 10
"""A run spec with a full table of 1,024 learning rates is under 7 KiB."""


class CommitSegment(Message, frozen=True, tag=1):
    """What a seat did in one round, as hashes (docs/spec/protocol.md section 5)."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    incarnation: int
    start_root: Digest
    end_root: Digest
    trace_commit: Digest
    """H(trace_root | salt)."""
    inbox_root: Digest
    outbox_root: Digest
    gossip_root: Digest
    num_steps: int
    """0 in a round of consensus, and nowhere else."""
    tokens: int


class PostCheckpoint(Message, frozen=True, tag=2):
    """The slow weights of a stage at the end of the drawn seat's segment."""

    run: RunIndex
    round: RoundIndex
    """The boundary whose dice drew the seat; the weights are from the end of the round before."""
    stage: StageIndex
    seat: int
    phi_root: Digest
    phi_bytes: int
    proof: tuple[bytes, ...]
    """Leads from ``phi_root``, component 4 of 10, to the seat's committed end root (BLAKE3)."""


class OpenRun(Message, frozen=True, tag=3):
    """Open a run and put money into it."""

    spec: bytes
    """An encoded ``RunSpec``."""
    escrow: Amount


class CloseRun(Message, frozen=True, tag=4):
    """End a run of one's own at the next round boundary."""

    run: RunIndex


class PauseRun(Message, frozen=True, tag=10):
    """Let a run of one's own rest from the next round boundary on."""

    run: RunIndex


class ResumeRun(Message, frozen=True, tag=11):
    """Go on with a run of one's own."""

    run: RunIndex


class Join(Message, frozen=True, tag=5):
    """Ask for a seat. Who cannot pay the fee sends fee 0: the run's escrow pays."""

    run: RunIndex


class Leave(Message, frozen=True, tag=6):
    """Give up seat or place in the queue at the next round boundary."""

    run: RunIndex


class Transfer(Message, frozen=True, tag=7):
    """Give money to a peer."""

    to: PeerId
    amount: Amount


class Stake(Message, frozen=True, tag=8):
    """Turn balance into stake."""

    amount: Amount


class Unstake(Message, frozen=True, tag=9):
    """Begin to turn stake back into balance."""

    amount: Amount


RosterStatement = CommitSegment | PostCheckpoint
"""What the roster of a round may say; a reveal may come when the roster is not kept any more."""

SeatStatement = RosterStatement | RevealSegment
RunStatement = OpenRun | CloseRun | PauseRun | ResumeRun | Join | Leave
PaidBody = RunStatement | Transfer | Stake | Unstake | CheckStatement
Body = SeatStatement | PaidBody


class Transaction(Message, frozen=True):
    """A statement and its signature."""

    sender: bytes
    """The signer's ``PeerId``; empty for seat statements."""
    nonce: int
    fee: Amount
    expiry: Height
    """The last height whose block may hold it."""
    body: Body
    signature: bytes


def sign_transaction(
    secret: SecretKey,
    chain: Digest,
    body: Body,
    *,
    nonce: int = 0,
    fee: int = 0,
    expiry: int = 0,
) -> bytes:
    """The encoded transaction, signed; a seat statement takes no nonce, fee or expiry."""
    sender = b"" if isinstance(body, SeatStatement) else secret.peer
    parts = chain, encode((sender, nonce, fee, expiry, body))
    signature = secret.sign("transaction", *parts)
    return encode(Transaction(sender, nonce, Amount(fee), Height(expiry), body, signature))


def check_signature(transaction: Transaction, chain: Digest, signer: PeerId) -> None:
    """Raise ``BadSignature`` unless ``signer`` signed this for this chain."""
    t = transaction
    signed = encode((t.sender, t.nonce, t.fee, t.expiry, t.body))
    verify(signer, t.signature, "transaction", chain, signed)


def transaction_digest(data: bytes) -> Digest:
    """The name of an encoded transaction."""
    return digest("transaction-id", data)


def parse_transaction(data: bytes) -> Transaction:
    """Decode a transaction and check every field that needs no state; raise ``BadEncoding``."""
    transaction = decode(Transaction, data, limit=TRANSACTION_BYTES_MAX)
    check_shape(transaction, len(data))
    return transaction


def check_shape(transaction: Transaction, num_bytes: int) -> None:
    """Raise ``BadEncoding`` if a field is out of bounds; ``num_bytes`` is the encoded length."""
    t, body = transaction, transaction.body
    if len(t.signature) != SIGNATURE_BYTES:
        raise BadEncoding(f"a signature of {len(t.signature)} bytes")
    if isinstance(body, SeatStatement):
        if t.sender or t.nonce or t.fee or t.expiry:
            raise BadEncoding("a seat statement has no sender, nonce, fee or expiry")
        is_reveal = isinstance(body, RevealSegment)
        if num_bytes > (REVEAL_BYTES_MAX if is_reveal else SEAT_STATEMENT_BYTES_MAX):
            raise BadEncoding(f"a seat statement of {num_bytes} bytes")
    else:
        if len(t.sender) != PEER_BYTES:
            raise BadEncoding(f"a sender of {len(t.sender)} bytes")
        within("nonce", t.nonce, 1, HEIGHT_MAX)
        within("fee", t.fee, 0, AMOUNT_MAX)
        within("expiry", t.expiry, 1, HEIGHT_MAX)
    _check_body(body)


def _check_body(body: Body) -> None:
    match body:
        case CommitSegment():
            _check_commit(body)
        case PostCheckpoint():
            _check_checkpoint(body)
        case OpenRun():
            within("spec bytes", len(body.spec), 1, RUN_SPEC_BYTES_MAX)
            within("escrow", body.escrow, 0, AMOUNT_MAX)
        case CloseRun() | PauseRun() | ResumeRun() | Join() | Leave():
            within("run", body.run, 1, SHORT_MAX)
        case Transfer():
            if len(body.to) != PEER_BYTES:
                raise BadEncoding(f"a recipient of {len(body.to)} bytes")
            within("amount", body.amount, 1, AMOUNT_MAX)
        case Stake() | Unstake():
            within("amount", body.amount, 1, AMOUNT_MAX)
        case _:
            check_statement_shape(body)


def _check_commit(body: CommitSegment) -> None:
    check_seat(body.run, body.round, body.stage, body.seat)
    within("incarnation", body.incarnation, 0, SHORT_MAX)
    within("steps", body.num_steps, 0, SHORT_MAX)
    within("tokens", body.tokens, 0, TOKENS_MAX)
    roots = (body.start_root, body.end_root, body.trace_commit)
    for root in (*roots, body.inbox_root, body.outbox_root, body.gossip_root):
        within("root bytes", len(root), 32, 32)


def _check_checkpoint(body: PostCheckpoint) -> None:
    check_seat(body.run, body.round, body.stage, body.seat)
    within("checkpoint round", body.round, 1, SHORT_MAX)
    within("phi bytes", body.phi_bytes, 1, PHI_BYTES_MAX)
    within("proof depth", len(body.proof), COMPONENT_PROOF_DEPTH, COMPONENT_PROOF_DEPTH)
    for part in (body.phi_root, *body.proof):
        within("hash bytes", len(part), 32, 32)
