"""Everything a peer can sign for the ledger.

Core: frozen structs and pure checks of what can be checked without a state.

A *seat statement* (a segment commit, a checkpoint) carries no sender, nonce, fee or expiry: its seat names
the signer, the round keeps it from being replayed, and the number of seats bounds how many there are.
Everything else is signed by its sender and pays a fee.
"""

from swarm.codec import Message, decode, encode
from swarm.crypto import PEER_BYTES, SIGNATURE_BYTES, SecretKey, digest, verify
from swarm.errors import BadEncoding
from swarm.ledger.check_statements import (
    REVEAL_BYTES_MAX,
    CheckStatement,
    RevealSegment,
    check_statement_shape,
)
from swarm.ledger.fields import (
    AMOUNT_MAX,
    COMPONENT_PROOF_DEPTH,
    HEIGHT_MAX,
    PHI_BYTES_MAX,
    SHORT_MAX,
    TOKENS_MAX,
    check_seat,
    within,
)
from swarm.types import Amount, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex

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
