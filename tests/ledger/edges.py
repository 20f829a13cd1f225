"""What a seat sent and committed to, what it signed beside that, and the proofs of both."""

from collections.abc import Sequence

from swarm.gossip.trade.messages import Codec, FragmentKey, Offer, fragment_digest, sign_offer
from swarm.ledger.edges import EdgeFraud, EdgeMessage, place_of
from swarm.ledger.state.records import SegmentRecord
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.edges import (
    ActivationSent,
    GradientSent,
    Place,
    SentEntry,
    SentKind,
    SentOpening,
    open_at,
    open_place,
    signed_bytes,
)
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from tests.ledger.checking import Case, a_case

INCARNATION = 3
"""Start of the solver's process in which it did its segment."""
ACTIVATION = ActivationSent(
    run=RunIndex(1),
    round=RoundIndex(1),
    step=4,
    microbatch=1,
    origin=0,
    stage=StageIndex(1),
    source=1,
    destination=0,
    incarnation=INCARNATION,
    version=12,
    budget_ms=1500,
    batch=2,
    length=32,
    features=32,
    wire=digest("up", b"4 1"),
    signature=b"",
)
"""What the solver of ``a_case`` sends up: not signed, as the two below. ``SENT`` has all three."""
GRADIENT = GradientSent(
    run=RunIndex(1),
    round=RoundIndex(1),
    step=4,
    microbatch=1,
    origin=0,
    stage=StageIndex(0),
    source=2,
    destination=1,
    requested_by=7,
    version=12,
    incarnation=INCARNATION,
    activations=digest("below", b"4 1"),
    loss_micro=0,
    tokens=64,
    wire=digest("down", b"4 1"),
    signature=b"",
)
OFFER = Offer(
    key=FragmentKey(RunIndex(1), StageIndex(0), 2, RoundIndex(1), 1),
    incarnation=INCARNATION,
    step=10,
    tokens=5_000,
    codec=Codec.INT8,
    anchor_root=digest("anchor", b""),
    payload_hash=digest("payload", b"2"),
    num_bytes=4_096,
    wire_bytes=4_000,
    chunk_root=digest("chunks", b"2"),
    signature=b"",
)


def microbatch(step: int, number: int, *, window: int = 0) -> SentEntry:
    name = f"{step} {number}".encode()
    up, down = digest("up", name), digest("down", name)
    return SentEntry(SentKind.MICROBATCH, 0, step, number, window, up, down)


SENT = (
    microbatch(3, 0),
    microbatch(4, 0),
    microbatch(4, 1),
    microbatch(4, 3),
    SentEntry(SentKind.FRAGMENT, 0, Codec.INT8, 0, 0, digest("fragment", b"0"), b""),
    SentEntry(SentKind.FRAGMENT, 2, Codec.INT8, 0, 0, fragment_digest(OFFER), b""),
)
"""The list that its commit has."""


def a_sender(sent: Sequence[SentEntry] = SENT, *, num_accounts: int = 5, **changes: object) -> Case:
    """A committed segment whose seat sent ``sent``; key 4 is a bystander."""
    found: Case = a_case(
        sent=sent,
        incarnation=INCARNATION,
        num_accounts=num_accounts,
        **changes,  # type: ignore[arg-type]
    )
    return found


def signed(case: Case, message: EdgeMessage, by: SecretKey | None = None) -> EdgeMessage:
    """Return a message, signed by the solver or by another."""
    return sign_message(by or case.solver, case.ledger.state.chain, case.run.spec_digest, message)


def sign_message(
    key: SecretKey, chain: Digest, run_digest: Digest, message: EdgeMessage
) -> EdgeMessage:
    """Sign as a node does."""
    match message:
        case ActivationSent():
            parts = (chain, run_digest, signed_bytes(message))
            return replace(message, signature=key.sign("micro-batch", *parts))
        case GradientSent():
            parts = (chain, run_digest, signed_bytes(message))
            return replace(message, signature=key.sign("micro-batch-grad", *parts))
        case Offer():
            return sign_offer(key, chain, message)


def accuse(
    message: EdgeMessage | None,
    opening: SentOpening | None = None,
    *,
    round_: int = 1,
    stage: int = 0,
    seat: int = 1,
) -> EdgeFraud:
    """Return a proof about the segment of the solver of ``a_case``, or about another."""
    where = (RunIndex(1), RoundIndex(round_), StageIndex(stage), seat)
    return EdgeFraud(*where, message, opening)


def proof(case: Case, message: EdgeMessage, sent: Sequence[SentEntry] = SENT) -> EdgeFraud:
    """Return a signed message beside what a list has at its place."""
    return accuse(signed(case, message), open_place(sent, place_of(message)))


def disorder(sent: Sequence[SentEntry], index: int) -> EdgeFraud:
    """Return two neighbours of a list."""
    return accuse(None, open_at(sent, index, 2))


def without(sent: Sequence[SentEntry], place: Place) -> tuple[SentEntry, ...]:
    return tuple(entry for entry in sent if entry.place != place)


def other(message: EdgeMessage) -> EdgeMessage:
    """Return the same message about other bytes."""
    if isinstance(message, Offer):
        return replace(message, payload_hash=digest("lie", message.payload_hash))
    return replace(message, wire=digest("lie", message.wire))


def message_of(record: SegmentRecord, message: EdgeMessage) -> EdgeMessage:
    """Return one of the three messages above as the solver of a segment sends it; not signed."""
    where = {"run": record.run, "round": record.round}
    match message:
        case ActivationSent():
            place = {"stage": StageIndex(record.stage + 1), "source": record.seat}
            return replace(message, **where, **place, incarnation=record.incarnation)
        case GradientSent():
            place = {"stage": record.stage, "destination": record.seat}
            return replace(message, **where, **place, incarnation=record.incarnation)
        case Offer(key=key):
            key = replace(key, **where, stage=record.stage, seat=record.seat)
            return replace(message, key=key, incarnation=record.incarnation)


def lie_about_nothing(case: Case) -> EdgeFraud:
    """Return the proof of activations that the solver of a segment with an empty list has signed."""
    return lie_of(case.record, case.solver, case.ledger.state.chain, case.run.spec_digest)


def lie_of(record: SegmentRecord, key: SecretKey, chain: Digest, run_digest: Digest) -> EdgeFraud:
    """Return such a proof, of activations that ``key`` has signed: it holds if that is the solver's."""
    assert record.sent_root == NO_DIGEST, "it committed to have sent nothing"
    up = replace(
        ACTIVATION,
        run=record.run,
        round=record.round,
        stage=StageIndex(record.stage + 1),
        source=record.seat,
        incarnation=record.incarnation,
    )
    message = sign_message(key, chain, run_digest, up)
    return EdgeFraud(record.run, record.round, record.stage, record.seat, message, None)
