"""Parts of the golden vectors of edges: signed messages, a list of them, and proofs of all kinds of lies."""

from swarm.gossip.trade.messages import Codec, FragmentKey, Offer, fragment_digest, sign_offer
from swarm.ledger.demands import DemandEntry, ShowEntry
from swarm.ledger.edges import EdgeFraud
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, fast_digest
from swarm.primitives.edges import (
    ActivationSent,
    GradientSent,
    SentEntry,
    SentKind,
    open_at,
    open_place,
    signed_bytes,
)
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex

Messages = tuple[ActivationSent, GradientSent, Offer]


def some(name: str) -> Digest:
    return fast_digest("edge-vector", name.encode())


UP = ActivationSent(
    run=RunIndex(1),
    round=RoundIndex(7),
    step=5,
    microbatch=2,
    origin=0,
    stage=StageIndex(2),
    source=3,
    destination=4,
    incarnation=1,
    version=12,
    budget_ms=1500,
    batch=2,
    length=3,
    features=4,
    wire=some("up"),
    signature=b"",
)
DOWN = GradientSent(
    run=RunIndex(1),
    round=RoundIndex(7),
    step=5,
    microbatch=2,
    origin=0,
    stage=StageIndex(1),
    source=6,
    destination=3,
    requested_by=9,
    version=12,
    incarnation=1,
    activations=some("below"),
    loss_micro=-1,
    tokens=6,
    wire=some("down"),
    signature=b"",
)
GIVEN = Offer(
    key=FragmentKey(RunIndex(1), StageIndex(1), 2, RoundIndex(7), 3),
    incarnation=1,
    step=350,
    tokens=400_000,
    codec=Codec.INT4,
    anchor_root=some("anchor"),
    payload_hash=some("payload"),
    num_bytes=4_096,
    wire_bytes=4_000,
    chunk_root=some("chunks"),
    signature=b"",
)
SENT = (
    SentEntry(SentKind.MICROBATCH, 0, 5, 1, 0, some("up 1"), some("down 1")),
    SentEntry(SentKind.MICROBATCH, 0, 5, 2, 0, UP.wire, DOWN.wire),
    SentEntry(SentKind.MICROBATCH, 0, 6, 0, 1, b"", some("down 6")),
    SentEntry(SentKind.FRAGMENT, 2, Codec.INT4, 0, 1, fragment_digest(GIVEN), b""),
    SentEntry(SentKind.FRAGMENT, 2, Codec.INT4, 0, 2, some("again"), b""),
)
"""The last two are of one place: nobody honest has such a list."""


def signed(secret: SecretKey, chain: Digest, run: Digest) -> Messages:
    """Return one message of each kind, as its sender signs it."""
    up = secret.sign("micro-batch", chain, run, signed_bytes(UP))
    down = secret.sign("micro-batch-grad", chain, run, signed_bytes(DOWN))
    return (
        replace(UP, signature=up),
        replace(DOWN, signature=down),
        sign_offer(secret, chain, GIVEN),
    )


def demands(messages: Messages) -> list[DemandEntry | ShowEntry]:
    """Return a demand for each message, and an answer of an entry and of two neighbours."""
    where = (RunIndex(1), RoundIndex(7), StageIndex(1), 3)
    return [
        *(DemandEntry(*where, message) for message in messages),
        ShowEntry(*where, 0, open_at(SENT, 1)),
        ShowEntry(*where, 5, open_at(SENT, 2, 2)),
    ]


def frauds(messages: Messages) -> list[EdgeFraud]:
    """Return a proof with each message, beside an entry, two neighbours or nothing, and one without any."""
    where = (RunIndex(1), RoundIndex(7), StageIndex(1), 3)
    up, down, given = messages
    return [
        EdgeFraud(*where, up, open_place(SENT, UP.place)),
        EdgeFraud(*where, down, open_place(SENT[:1] + SENT[2:], DOWN.place)),
        EdgeFraud(*where, given, None),
        EdgeFraud(*where, None, open_at(SENT, 3, 2)),
    ]
