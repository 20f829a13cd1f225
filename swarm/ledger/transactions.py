"""Define and check the transactions of the ledger: all statements that a peer can sign for it.

Core: frozen structs and pure checks of the fields that need no state.

A *free statement* carries no sender, nonce, fee or expiry: the ledger knows whose turn it is, takes it once,
and bounds the number of such statements by seats and by bonds. A *seat statement* (a segment commit, a
checkpoint) is signed by the peer of its seat, a blind answer or a complaint by the verifier of its check. A
reveal has no signature: the salt in it opens a commitment, and nobody else knows that. Every other statement
is signed by its sender and pays a fee.

Statements with which segments are checked are in ``check_statements.py``. Those of peers that hold checkpoints
of other stages are in ``storage_statements.py``: the holder that each names has signed it.

Source: docs/spec/protocol.md section 6.
"""

from collections.abc import Mapping

from swarm.config.bounds import PRICE_MAX
from swarm.errors import BadEncoding
from swarm.ledger.check_statements import (
    AMOUNT_MAX,
    COMPONENT_PROOF_DEPTH,
    HEIGHT_MAX,
    PHI_BYTES_MAX,
    REVEAL_BYTES_MAX,
    SHORT_MAX,
    TOKENS_MAX,
    BoundCheck,
    PaidCheck,
    RevealSegment,
    VerifyReveal,
    check_hashes,
    check_seat,
    check_statement_shape,
    within,
)
from swarm.ledger.demands import SHOW_BYTES_MAX, ShowEntry
from swarm.ledger.settlement_statements import (
    SettlementKey,
    SettlementStatement,
    SignPayouts,
    Withdraw,
    check_settlement_shape,
)
from swarm.ledger.storage_statements import (
    STORAGE_PROOF_BYTES_MAX,
    StorageProof,
    StorageStatement,
    StoreReceipt,
    check_storage_shape,
)
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.crypto import PEER_BYTES, SIGNATURE_BYTES, SecretKey, digest, verify
from swarm.primitives.state_parts import COMPONENTS
from swarm.types import Amount, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex, View

TRANSACTION_BYTES_MAX = 64 << 10
"""Bytes of an encoded transaction: a quarter of a block; the largest is the evidence of a later version."""

FREE_STATEMENT_BYTES_MAX = 1024
"""Bytes of a free statement that opens no list: a checkpoint with its four hashes has about 300."""

ENVELOPE_OF_FREE_BYTES = 16
"""Bytes around the body of a free statement that nobody signs."""

START_PREFIX_BYTES = 8
"""Bytes of a start root that the ledger knows already: enough to tell it from an older one of the seat."""

SEGMENT_COMMIT_BYTES_MAX = 300
"""Bytes of an encoded commit of a segment that begins with a committed end: every one within the bounds of its
fields fits, signature included. One that begins with the parts of an end has about 700."""

RUN_SPEC_BYTES_MAX = 16 << 10
"""Bytes of an encoded run spec: one with a full table of 1,024 learning rates is under 7 KiB."""


class CommitSegment(Message, frozen=True, tag=1):
    """Work of a seat in one round, as hashes (docs/spec/protocol.md section 5)."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    incarnation: int
    start: bytes
    """Committed end that it begins with: its first 8 bytes if that is the seat's own last one, else all 32.
    Empty for a state that was made from something, whose root the ledger computes (rule L100)."""
    end_root: Digest
    trace_commit: Digest
    """H(trace_root | salt)."""
    sent_root: Digest
    """Root of the list of everything that the seat signed and sent in it (primitives/edges.py)."""
    num_steps: int
    """Number of optimizer steps; 0 in a round of final averaging only."""
    tokens: int
    source: bytes = b""
    """Root of the checkpoint, or of the end of a segment, that the start was made from. Empty for a committed
    end, and for the initial weights."""
    inherited: tuple[bytes, ...] = ()
    """The ten parts of that end, if it is one; else empty."""
    anchor: bytes = b""
    """Hash of the checkpoint that is the anchor of a state made from an end; else empty."""


class PostCheckpoint(Message, frozen=True, tag=2):
    """Slow weights of a stage at the end of the drawn seat's segment."""

    run: RunIndex
    round: RoundIndex
    """Round whose boundary beacon drew the seat; the weights are from the end of the round before."""
    stage: StageIndex
    seat: int
    phi_root: Digest
    phi_bytes: int
    proof: tuple[bytes, ...]
    """Path from ``phi_root``, component 4 of 10, to the seat's committed end root (BLAKE3)."""


class OpenRun(Message, frozen=True, tag=3):
    """Opening of a run, with money for its escrow."""

    spec: bytes
    """An encoded ``RunSpec``."""
    escrow: Amount


TAKES_MOST = -1
"""Ask of a peer that names none: what the run pays at most."""


class CloseRun(Message, frozen=True, tag=4):
    """End of the sender's own run at the next round boundary."""

    run: RunIndex


class PauseRun(Message, frozen=True, tag=10):
    """Pause of the sender's own run from the next round boundary on."""

    run: RunIndex


class ResumeRun(Message, frozen=True, tag=11):
    """Resumption of the sender's own run."""

    run: RunIndex


class Join(Message, frozen=True, tag=5):
    """Request for a seat. A peer that cannot pay the fee sends fee 0: the run's escrow pays."""

    run: RunIndex
    ask: int = TAKES_MOST
    """Least pay for 1,000 tokens that it works for."""


class ChangeAsk(Message, frozen=True, tag=32):
    """Change of the sender's ask, seated or in the queue, from the next round boundary on."""

    run: RunIndex
    ask: int = TAKES_MOST


class BackOwner(Message, frozen=True, tag=33):
    """Wish of a shareholder of a settled run: that a peer goes on with it as its owner."""

    run: RunIndex
    peer: PeerId


class ContinueRun(Message, frozen=True, tag=34):
    """Continuation of a settled run by the peer that its shareholders back, with money for its escrow."""

    run: RunIndex
    escrow: Amount


class FundRun(Message, frozen=True, tag=35):
    """More money for the escrow of the sender's own run."""

    run: RunIndex
    amount: Amount


class Leave(Message, frozen=True, tag=6):
    """Surrender of seat or queue position at the next round boundary."""

    run: RunIndex


class Transfer(Message, frozen=True, tag=7):
    """Payment to another peer."""

    to: PeerId
    amount: Amount


class Stake(Message, frozen=True, tag=8):
    """Conversion of balance into stake."""

    amount: Amount


class Unstake(Message, frozen=True, tag=9):
    """Start of the conversion of stake into balance."""

    amount: Amount


class Validate(Message, frozen=True, tag=12):
    """Offer to validate from the epoch after next on, or its withdrawal."""

    is_on: bool


class SignedVote(Message, frozen=True):
    """A vote of consensus, as evidence: its kind, what it is for, its signature (``blocks.vote_parts``)."""

    kind: int
    block: Digest
    signature: bytes


class Evidence(Message, frozen=True, tag=26):
    """Evidence that a validator signed two votes in one view of which no honest validator signs both."""

    peer: PeerId
    """The validator that signed both."""
    epoch: int
    view: View
    first: SignedVote
    second: SignedVote


SeatStatement = CommitSegment | PostCheckpoint
"""Statements that the peer of a seat signs, as the frozen roster of their round has it."""

Reveal = RevealSegment | VerifyReveal | ShowEntry
"""Statements without a signature: they open a commitment that is on the ledger."""

FreeCheck = SeatStatement | BoundCheck | Reveal
"""Free statements about a segment: they name its seat."""

FreeStatement = FreeCheck | StorageStatement
"""Statements without sender, nonce, fee and expiry."""

FundingStatement = BackOwner | ContinueRun | FundRun
"""Statements about the money of a run that is open, or was."""

RunStatement = (
    OpenRun | CloseRun | PauseRun | ResumeRun | Join | ChangeAsk | Leave | FundingStatement
)
MoneyStatement = Transfer | Stake | Unstake | Validate | SettlementStatement
PaidBody = RunStatement | MoneyStatement | PaidCheck | Evidence
Body = FreeStatement | PaidBody


_FREE_BYTES_MAX: Mapping[type, int] = {
    RevealSegment: REVEAL_BYTES_MAX,
    ShowEntry: SHOW_BYTES_MAX + ENVELOPE_OF_FREE_BYTES,
    StorageProof: STORAGE_PROOF_BYTES_MAX,
}
"""Bytes of the free statements that may be longer than others."""


class Transaction(Message, frozen=True):
    """A statement with its envelope and signature."""

    sender: bytes
    """The signer's ``PeerId``; empty for free statements."""
    nonce: int
    fee: Amount
    expiry: Height
    """Greatest height of a block that may hold it."""
    body: Body
    signature: bytes
    """64 bytes; empty for reveals."""


def sign_transaction(
    secret: SecretKey,
    chain: Digest,
    body: Body,
    *,
    nonce: int = 0,
    fee: int = 0,
    expiry: int = 0,
) -> bytes:
    """Return the encoded, signed transaction; a free statement takes no nonce, fee or expiry."""
    sender = b"" if isinstance(body, FreeStatement) else secret.peer
    parts = chain, encode((sender, nonce, fee, expiry, body))
    signature = b"" if isinstance(body, Reveal) else secret.sign("transaction", *parts)
    return encode(
        Transaction(
            sender=sender,
            nonce=nonce,
            fee=Amount(fee),
            expiry=Height(expiry),
            body=body,
            signature=signature,
        )
    )


def check_signature(transaction: Transaction, chain: Digest, signer: PeerId) -> None:
    """Raise ``BadSignature`` unless ``signer`` signed this for this chain; a reveal needs no signature."""
    t = transaction
    if isinstance(t.body, Reveal):
        return
    signed = encode((t.sender, t.nonce, t.fee, t.expiry, t.body))
    verify(signer, t.signature, "transaction", chain, signed)


def transaction_digest(data: bytes) -> Digest:
    """Return the digest that identifies an encoded transaction."""
    return digest("transaction-id", data)


def parse_transaction(data: bytes) -> Transaction:
    """Decode a transaction and check every field that needs no state; raise ``BadEncoding``."""
    transaction = decode(Transaction, data, limit=TRANSACTION_BYTES_MAX)
    check_shape(transaction, len(data))
    return transaction


def check_shape(transaction: Transaction, num_bytes: int) -> None:
    """Raise ``BadEncoding`` if a field is out of bounds; ``num_bytes`` is the encoded length."""
    t, body = transaction, transaction.body
    if len(t.signature) != (0 if isinstance(body, Reveal) else SIGNATURE_BYTES):
        raise BadEncoding(f"a signature of {len(t.signature)} bytes")
    if isinstance(body, FreeStatement):
        if t.sender or t.nonce or t.fee or t.expiry:
            raise BadEncoding("a free statement has no sender, nonce, fee or expiry")
        if num_bytes > _FREE_BYTES_MAX.get(type(body), FREE_STATEMENT_BYTES_MAX):
            raise BadEncoding(f"a free statement of {num_bytes} bytes")
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
        case OpenRun() | CloseRun() | PauseRun() | ResumeRun() | Join() | ChangeAsk() | Leave():
            _check_run_statement(body)
        case BackOwner() | ContinueRun() | FundRun():
            _check_run_statement(body)
        case Transfer():
            if len(body.to) != PEER_BYTES:
                raise BadEncoding(f"a recipient of {len(body.to)} bytes")
            within("amount", body.amount, 1, AMOUNT_MAX)
        case Stake() | Unstake():
            within("amount", body.amount, 1, AMOUNT_MAX)
        case Validate():
            pass
        case Evidence():
            _check_evidence(body)
        case Withdraw() | SettlementKey() | SignPayouts():
            check_settlement_shape(body)
        case StoreReceipt() | StorageProof():
            check_seat(body.run, body.round, body.stage, 0)
            within("peer bytes", len(body.holder), PEER_BYTES, PEER_BYTES)
            check_storage_shape(body)
        case _:
            check_statement_shape(body)


def _check_run_statement(body: RunStatement) -> None:
    if isinstance(body, OpenRun):
        within("spec bytes", len(body.spec), 1, RUN_SPEC_BYTES_MAX)
        within("escrow", body.escrow, 0, AMOUNT_MAX)
        return
    within("run", body.run, 1, SHORT_MAX)
    match body:
        case Join(ask=ask) | ChangeAsk(ask=ask):
            within("ask", ask, TAKES_MOST, PRICE_MAX)
        case BackOwner(peer=peer):
            within("peer bytes", len(peer), PEER_BYTES, PEER_BYTES)
        case ContinueRun(escrow=amount) | FundRun(amount=amount):
            within("amount", amount, 1, AMOUNT_MAX)
        case _:
            pass


def _check_evidence(body: Evidence) -> None:
    within("peer bytes", len(body.peer), PEER_BYTES, PEER_BYTES)
    within("epoch", body.epoch, 0, HEIGHT_MAX)
    within("view", body.view, 1, HEIGHT_MAX)
    for vote in (body.first, body.second):
        within("kind", vote.kind, 0, 2)
        within("signature bytes", len(vote.signature), SIGNATURE_BYTES, SIGNATURE_BYTES)
        check_hashes(vote.block)


def _check_commit(body: CommitSegment) -> None:
    check_seat(body.run, body.round, body.stage, body.seat)
    within("incarnation", body.incarnation, 0, SHORT_MAX)
    within("steps", body.num_steps, 0, SHORT_MAX)
    within("tokens", body.tokens, 0, TOKENS_MAX)
    if len(body.start) not in {0, START_PREFIX_BYTES, 32}:
        raise BadEncoding(f"a start of {len(body.start)} bytes")
    if len(body.source) not in {0, 32} or len(body.anchor) not in {0, 32}:
        raise BadEncoding("a start made from a root that has not 32 bytes")
    if len(body.inherited) not in {0, COMPONENTS}:
        raise BadEncoding(f"an end of {len(body.inherited)} parts")
    check_hashes(*body.inherited)
    check_hashes(body.end_root, body.trace_commit, body.sent_root)


def _check_checkpoint(body: PostCheckpoint) -> None:
    check_seat(body.run, body.round, body.stage, body.seat)
    within("checkpoint round", body.round, 1, SHORT_MAX)
    within("phi bytes", body.phi_bytes, 1, PHI_BYTES_MAX)
    within("proof depth", len(body.proof), COMPONENT_PROOF_DEPTH, COMPONENT_PROOF_DEPTH)
    for part in (body.phi_root, *body.proof):
        within("hash bytes", len(part), 32, 32)
