"""A pull ends with exactly what was signed, or with nothing, and never later than its deadline."""

import random

import pytest

from swarm.errors import BadEncoding, BadSignature, BrokenPromise, OutOfTurn, PeerFault, UsageError
from swarm.gossip.blobs.chunks import manifest
from swarm.gossip.trade.messages import (
    EXCHANGE_CHUNK_BYTES,
    Busy,
    Codec,
    ExchangeReply,
    NotYet,
    Offer,
    Offered,
    OfferRequest,
    Taken,
    decode_exchange_reply,
    payload_digest,
    sign_offer,
)
from swarm.gossip.trade.payload import (
    Packed,
    open_payload,
)
from swarm.gossip.trade.pull import (
    OFFER_REQUESTS_MAX,
    RETRIES_MAX,
    Accepted,
    Call,
    GiveUp,
    Phase,
    Pull,
)
from swarm.primitives.codec import encode, replace
from swarm.types import NO_DIGEST, Digest
from tests.gossip.builders import (
    ANCHOR_ROOT,
    CHAIN,
    NUMEL,
    OUTSIDER,
    SENDER,
    a_key,
    a_packed,
    a_snapshot,
    a_wanted,
    some_chunks,
)

OTHER_ROOT = Digest(b"\x0b" * 32)


def a_pull(
    *,
    numel: int = NUMEL,
    anchor_root: Digest = ANCHOR_ROOT,
    deadline: float = 30.0,
    codec: Codec = Codec.INT8,
) -> Pull:
    wanted = a_wanted(numel=numel, anchor_root=anchor_root, codec=codec)
    return Pull(wanted, chain=CHAIN, deadline=deadline)


def offered(packed: Packed) -> Offered:
    return Offered(packed.offer, packed.manifest.hashes)


def resigned(offer: Offer, **changes: object) -> Offer:
    return sign_offer(SENDER, CHAIN, replace(offer, **changes))


@pytest.mark.parametrize("codec", list(Codec))
def test_the_offer_of_an_honest_sender_is_accepted(codec: Codec) -> None:
    packed, pull = a_packed(a_key(), codec=codec), a_pull(codec=codec)
    first = pull.start(0.0)
    assert isinstance(first, Call)
    assert first.message == OfferRequest(a_key(), 4, ANCHOR_ROOT, 5000)
    assert pull.receive(offered(packed), 1.0) == Accepted(packed.offer, packed.manifest)
    assert pull.phase is Phase.ACCEPTED
    assert pull.deadline is None
    payload, theta = open_payload(packed.offer, packed.wire, a_snapshot().anchor)
    assert payload_digest(payload) == packed.offer.payload_hash
    assert float((theta - a_snapshot().theta).abs().max()) < 0.02


def test_the_last_ask_waits_no_longer_than_the_deadline() -> None:
    pull = a_pull(deadline=7.0)
    assert pull.start(0.0) == Call(OfferRequest(a_key(), 4, ANCHOR_ROOT, 5000), 0.0, 7.0)
    assert pull.receive(NotYet(), 5.0) == Call(
        OfferRequest(a_key(), 4, ANCHOR_ROOT, 2000), 5.0, 2.0
    )
    assert isinstance(pull.receive(NotYet(), 7.0), GiveUp)
    assert pull.phase is Phase.FAILED


def test_a_sender_that_is_busy_with_others_is_asked_no_more() -> None:
    pull = a_pull()
    pull.start(0.0)
    assert isinstance(pull.receive(Busy(), 1.0), GiveUp)
    assert pull.phase is Phase.FAILED
    with pytest.raises(OutOfTurn):
        pull.receive(Busy(), 2.0)


def test_a_sender_that_is_never_ready_is_out_of_turn_in_the_end() -> None:
    pull = a_pull()
    pull.start(0.0)
    for _ in range(OFFER_REQUESTS_MAX - 1):
        assert isinstance(pull.receive(NotYet(), 0.0), Call)
    with pytest.raises(OutOfTurn):
        pull.receive(NotYet(), 0.0)


@pytest.mark.rule("G13")
def test_a_lost_call_is_repeated_after_growing_pauses_and_then_given_up() -> None:
    pull = a_pull(deadline=1000.0)
    pull.start(0.0)
    starts = []
    for _ in range(RETRIES_MAX):
        effect = pull.lost(100.0)
        assert isinstance(effect, Call)
        starts.append(effect.start_at - 100.0)
    assert starts == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert isinstance(pull.lost(100.0), GiveUp)


def test_a_pull_that_could_only_start_after_its_deadline_gives_up() -> None:
    assert isinstance(a_pull(deadline=1.0).start(1.0), GiveUp)
    pull = a_pull(deadline=1.0)
    pull.start(0.0)
    assert isinstance(pull.lost(0.9), GiveUp)
    late = a_pull(deadline=1.0)
    late.start(0.0)
    assert isinstance(late.lost(1.5), GiveUp)
    assert isinstance(late.expire(1.5), GiveUp)


def early() -> list[ExchangeReply]:
    return [some_chunks(b"before any offer"), Taken()]


@pytest.mark.parametrize("message", early(), ids=lambda m: type(m).__name__)
def test_a_message_out_of_place_is_the_peers_fault_and_changes_nothing(
    message: ExchangeReply,
) -> None:
    pull = a_pull()
    pull.start(0.0)
    with pytest.raises(OutOfTurn):
        pull.receive(message, 1.0)
    assert pull.phase is Phase.ASKING
    assert isinstance(pull.receive(offered(a_packed(a_key())), 1.0), Accepted)


@pytest.mark.parametrize("message", [NotYet(), Taken(), offered(a_packed(a_key()))])
def test_after_an_offer_nothing_more_is_in_turn(message: ExchangeReply) -> None:
    pull = a_pull()
    pull.start(0.0)
    pull.receive(offered(a_packed(a_key())), 0.0)
    with pytest.raises(OutOfTurn):
        pull.receive(message, 1.0)
    assert pull.phase is Phase.ACCEPTED


HONEST = a_packed(a_key()).offer


@pytest.mark.rule("G9")
@pytest.mark.parametrize(
    ("offer", "fault"),
    [
        (resigned(HONEST, key=a_key(round_index=6)), OutOfTurn),
        (resigned(HONEST, key=a_key(seat=2)), OutOfTurn),
        (resigned(HONEST, key=a_key(fragment=0)), OutOfTurn),
        (resigned(HONEST, key=a_key(run=2)), OutOfTurn),
        (replace(HONEST, tokens=1), BadSignature),
        (sign_offer(OUTSIDER, CHAIN, HONEST), BadSignature),
        (sign_offer(SENDER, NO_DIGEST, HONEST), BadSignature),
        (resigned(HONEST, tokens=-5), BadEncoding),
        (resigned(HONEST, step=1 << 60), BadEncoding),
        (resigned(HONEST, anchor_root=OTHER_ROOT), BrokenPromise),
        (resigned(HONEST, codec=Codec.BF16), BrokenPromise),
        (resigned(HONEST, num_bytes=HONEST.num_bytes + 1), BrokenPromise),
        (resigned(HONEST, wire_bytes=HONEST.num_bytes + 1), BrokenPromise),
        (resigned(HONEST, wire_bytes=0), BrokenPromise),
        (resigned(HONEST, wire_bytes=-1), BrokenPromise),
        (resigned(HONEST, chunk_root=NO_DIGEST), BrokenPromise),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_false_offer_is_refused_and_changes_nothing(offer: Offer, fault: type[PeerFault]) -> None:
    packed, pull = a_packed(a_key()), a_pull()
    pull.start(0.0)
    with pytest.raises(fault):
        pull.receive(Offered(offer, packed.manifest.hashes), 1.0)
    assert pull.phase is Phase.ASKING


@pytest.mark.rule("G9")
@pytest.mark.parametrize("num_bytes", [0, HONEST.num_bytes + 1, 1 << 20])
def test_an_offer_of_more_wire_than_payload_is_refused_though_all_of_it_fits(
    num_bytes: int,
) -> None:
    """Its chunks are what it says and signed: no other check stops what unpacks to less than it takes."""
    listed = manifest(bytes(num_bytes), EXCHANGE_CHUNK_BYTES)
    offer = resigned(HONEST, wire_bytes=num_bytes, chunk_root=listed.root)
    pull = a_pull()
    pull.start(0.0)
    with pytest.raises(BrokenPromise, match="grows on the wire"):
        pull.receive(Offered(offer, listed.hashes), 1.0)
    assert pull.phase is Phase.ASKING


@pytest.mark.rule("G9")
def test_hashes_that_are_not_the_signed_ones_are_refused() -> None:
    packed, pull = a_packed(a_key()), a_pull()
    pull.start(0.0)
    for hashes in (b"", bytes(32), packed.manifest.hashes + bytes(32)):
        with pytest.raises(BrokenPromise):
            pull.receive(Offered(packed.offer, hashes), 1.0)


@pytest.mark.rule("G9")
def test_an_offer_of_another_fragments_size_is_refused() -> None:
    pull = a_pull(numel=NUMEL + 1)
    pull.start(0.0)
    with pytest.raises(BrokenPromise):
        pull.receive(offered(a_packed(a_key())), 1.0)


def test_a_fragment_of_no_values_is_our_own_mistake() -> None:
    with pytest.raises(UsageError):
        a_pull(numel=0)


@pytest.mark.rule("G5")
@pytest.mark.parametrize("common", list(Codec))
@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("root", [ANCHOR_ROOT, OTHER_ROOT], ids=["same", "other"])
def test_no_partner_chooses_a_codec(common: Codec, codec: Codec, root: Digest) -> None:
    packed, pull = a_packed(a_key(), codec=codec), a_pull(codec=common)
    pull.start(0.0)
    offer = resigned(packed.offer, anchor_root=root)
    if codec is (common if root == ANCHOR_ROOT or common is Codec.F32 else Codec.BF16):
        pull.receive(Offered(offer, packed.manifest.hashes), 1.0)
        return
    with pytest.raises(BrokenPromise):
        pull.receive(Offered(offer, packed.manifest.hashes), 1.0)


@pytest.mark.parametrize("seed", range(200))
def test_a_bent_reply_is_a_fault_or_nothing_new(seed: int) -> None:
    """Flip, cut or grow the bytes of an honest reply: a typed refusal, never another error."""
    rng = random.Random(seed)
    packed, pull = a_packed(a_key()), a_pull()
    pull.start(0.0)
    raw = bytearray(encode(offered(packed)))
    for _ in range(rng.randint(1, 3)):
        match rng.randrange(3):
            case 0:
                raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            case 1:
                del raw[rng.randrange(len(raw)) :]
            case _:
                raw.insert(rng.randrange(len(raw) + 1), rng.randrange(256))
        if not raw:
            break
    with pytest.raises(PeerFault):
        pull.receive(decode_exchange_reply(bytes(raw)), 1.0)
    assert pull.phase is Phase.ASKING
