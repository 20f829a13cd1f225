"""The outbox hands out what was published, to whom it is for, and forgets in time."""

import pytest

from swarm.errors import OutOfTurn, Unreachable, UsageError
from swarm.gossip.trade import outbox as rules
from swarm.gossip.trade.messages import EXCHANGE_CHUNK_BYTES, Codec, FragmentKey, Receipt
from swarm.gossip.trade.outbox import Outbox, PublishedFragment, StandbyReceivers
from swarm.gossip.trade.payload import pack
from swarm.types import NO_DIGEST, PeerId
from tests.gossip.builders import NUMEL, OUTSIDER, RECEIVER, a_key, a_packed, a_snapshot

SEAT = 4
"""The seat that the requester claims."""


def published(outbox: Outbox, key: FragmentKey, *, numel: int = NUMEL) -> PublishedFragment:
    outbox.publish(key, a_snapshot(numel=numel), RECEIVER.peer)
    fragment = outbox.find(key, RECEIVER.peer, SEAT)
    assert fragment is not None
    fragment.packed[Codec.INT8] = pack(key, fragment.snapshot, Codec.INT8)
    return fragment


@pytest.mark.rule("G10")
def test_a_fragment_is_found_by_its_partner_only() -> None:
    outbox = Outbox()
    assert outbox.find(a_key(), RECEIVER.peer, SEAT) is None
    fragment = published(outbox, a_key())
    assert outbox.find(a_key(), RECEIVER.peer, SEAT) is fragment
    with pytest.raises(Unreachable):
        outbox.find(a_key(), OUTSIDER.peer, SEAT)


def standing_in(*seats: int, most: int = 1) -> StandbyReceivers:
    """The peers of these seats may step in."""
    return StandbyReceivers(lambda seat, _: seat in seats, most)


@pytest.mark.rule("G10")
def test_a_fallback_partner_is_admitted_as_long_as_there_is_room() -> None:
    outbox, key = Outbox(), a_key()
    outbox.publish(key, a_snapshot(), RECEIVER.peer, standing_in(7, 8))
    fragment = outbox.find(key, OUTSIDER.peer, 7)
    assert fragment is not None
    assert not fragment.is_for(OUTSIDER.peer)
    assert fragment.admit(OUTSIDER.peer, 7)
    assert fragment.admit(OUTSIDER.peer, 7), "a peer once admitted stays so, however often it asks"
    assert fragment.receivers == {OUTSIDER.peer: 7}
    another = PeerId(bytes(32))
    assert outbox.find(key, another, 8) is fragment
    assert not fragment.admit(another, 8)
    assert fragment.admit(RECEIVER.peer, SEAT), "the drawn partner's slot is its own"
    with pytest.raises(Unreachable):
        outbox.find(key, another, 9)


@pytest.mark.rule("G10")
def test_without_a_drawn_partner_only_fallback_partners_are_served() -> None:
    outbox = Outbox()
    outbox.publish(a_key(), a_snapshot(), None, standing_in(7))
    with pytest.raises(Unreachable):
        outbox.find(a_key(), RECEIVER.peer, SEAT)
    assert outbox.find(a_key(), OUTSIDER.peer, 7) is outbox.published(a_key())


@pytest.mark.rule("G10", "G12")
def test_a_fallback_partner_gets_chunks_and_moves_no_receipt() -> None:
    outbox, key = Outbox(), a_key()
    outbox.publish(key, a_snapshot(), RECEIVER.peer, standing_in(7))
    fragment = outbox.find(key, OUTSIDER.peer, 7)
    assert fragment is not None
    fragment.packed[Codec.INT8] = packed = pack(key, fragment.snapshot, Codec.INT8)
    name = packed.offer.payload_hash
    with pytest.raises(Unreachable):
        outbox.chunks(name, 0, 1, OUTSIDER.peer)
    fragment.admit(OUTSIDER.peer, 7)
    assert outbox.chunks(name, 0, 1, OUTSIDER.peer).parts
    outbox.acknowledge(Receipt(key, 7, name, bytes(64)), OUTSIDER.peer)
    assert fragment.receipt is None, "a residual moves with the drawn partner's receipt only"


def test_a_fragment_is_published_once() -> None:
    outbox = Outbox()
    published(outbox, a_key())
    with pytest.raises(UsageError):
        published(outbox, a_key())


@pytest.mark.rule("G11")
def test_fragments_are_forgotten_after_two_rounds() -> None:
    outbox = Outbox()
    published(outbox, a_key(round_index=5))
    published(outbox, a_key(round_index=6))
    assert outbox.published(a_key(round_index=5)) is not None
    published(outbox, a_key(round_index=7))
    assert outbox.published(a_key(round_index=5)) is None
    with pytest.raises(UsageError):
        published(outbox, a_key(round_index=5))


def test_the_rounds_of_two_runs_do_not_meet() -> None:
    outbox = Outbox()
    published(outbox, a_key(round_index=5, run=1))
    published(outbox, a_key(round_index=90, run=2))
    assert outbox.published(a_key(round_index=5, run=1)) is not None


@pytest.mark.rule("G11")
def test_a_later_exchange_takes_the_place_of_what_it_makes_outdated() -> None:
    outbox = Outbox()
    for exchange in (1, 5):
        published(outbox, a_key(fragment=exchange))
    payload = outbox.published(a_key(fragment=5))
    assert payload is not None
    gone = (a_key(fragment=1), a_key(fragment=17))
    outbox.publish(a_key(fragment=9), payload.snapshot, RECEIVER.peer, outdated=gone)
    kept = [exchange for exchange in (1, 5, 9) if outbox.published(a_key(fragment=exchange))]
    assert kept == [5, 9]


@pytest.mark.rule("G11")
def test_only_the_next_round_may_be_asked_for_early() -> None:
    outbox = Outbox()
    assert outbox.find(a_key(round_index=70), RECEIVER.peer, SEAT) is None
    published(outbox, a_key(round_index=5))
    assert outbox.find(a_key(round_index=6), RECEIVER.peer, SEAT) is None
    assert outbox.find(a_key(round_index=4), RECEIVER.peer, SEAT) is None
    for round_index in (3, 7):
        with pytest.raises(Unreachable):
            outbox.find(a_key(round_index=round_index), RECEIVER.peer, SEAT)


def test_the_oldest_makes_room_for_the_newest() -> None:
    first, second, third = (a_key(fragment=i) for i in range(3))
    outbox = Outbox(bytes_max=28 * NUMEL)
    published(outbox, first)
    published(outbox, second)
    published(outbox, third)
    assert outbox.published(first) is None
    assert outbox.published(second) is not None
    assert outbox.published(third) is not None


def test_one_fragment_stays_even_if_it_is_larger_than_the_limit() -> None:
    outbox = Outbox(bytes_max=1)
    published(outbox, a_key())
    assert outbox.published(a_key()) is not None


def test_chunks_are_handed_out_in_order_and_in_range() -> None:
    outbox = Outbox()
    packed = published(outbox, a_key(), numel=200_000).packed[Codec.INT8]
    name = packed.offer.payload_hash
    whole = outbox.chunks(name, 0, packed.manifest.num_chunks, RECEIVER.peer).parts
    assert b"".join(whole) == packed.wire
    assert all(len(part) <= EXCHANGE_CHUNK_BYTES for part in whole)
    assert outbox.chunks(name, 1, 2, RECEIVER.peer).parts == whole[1:3]


@pytest.mark.parametrize(
    ("first", "count"), [(0, 0), (0, -1), (-1, 1), (0, 17), (3, 2), (1 << 60, 1)]
)
def test_an_absurd_range_is_the_peers_fault(first: int, count: int) -> None:
    outbox = Outbox()
    packed = published(outbox, a_key(), numel=200_000).packed[Codec.INT8]
    with pytest.raises(OutOfTurn):
        outbox.chunks(packed.offer.payload_hash, first, count, RECEIVER.peer)


@pytest.mark.rule("G28")
def test_one_payload_of_two_rounds_travels_in_the_same_bytes() -> None:
    """Plain in one round, compressed in the next: a request for its chunks names its hash and no round."""
    outbox, numel = Outbox(), 200_000
    first = published(outbox, a_key(round_index=5), numel=numel).packed[Codec.INT8]
    other = pack(a_key(round_index=6), a_snapshot(numel=numel), Codec.INT8, is_plain=True)
    assert len(other.wire) > len(first.wire)
    settled = outbox.settled(other)
    assert (settled.wire, settled.manifest) == (first.wire, first.manifest)
    assert settled.offer.key == a_key(round_index=6)
    assert settled.offer.wire_bytes == len(first.wire)
    assert settled.offer.chunk_root == first.manifest.root
    distinct = pack(a_key(round_index=6), a_snapshot(seed=9), Codec.INT8, is_plain=True)
    assert outbox.settled(distinct) is distinct


@pytest.mark.rule("G10")
def test_chunks_of_nothing_and_for_other_peers_are_declined() -> None:
    outbox = Outbox()
    name = published(outbox, a_key()).packed[Codec.INT8].offer.payload_hash
    for payload_hash, peer in ((NO_DIGEST, RECEIVER.peer), (name, OUTSIDER.peer)):
        with pytest.raises(Unreachable):
            outbox.chunks(payload_hash, 0, 1, peer)


def test_a_receipt_is_kept_with_what_it_is_for() -> None:
    outbox = Outbox()
    fragment = published(outbox, a_key())
    name = fragment.packed[Codec.INT8].offer.payload_hash
    receipt = Receipt(a_key(), 4, name, bytes(64))
    outbox.acknowledge(receipt, RECEIVER.peer)
    assert fragment.receipt == receipt
    assert fragment.offered == {RECEIVER.peer: name}


def test_what_was_acknowledged_is_the_payload_that_the_receipt_names() -> None:
    outbox = Outbox()
    fragment = published(outbox, a_key())
    fragment.packed[Codec.INT4] = coarse = a_packed(a_key(), codec=Codec.INT4)
    fragment.packed[Codec.BF16] = wide = a_packed(a_key(), codec=Codec.BF16)
    assert fragment.acknowledged is None
    for packed in (coarse, wide):
        receipt = Receipt(a_key(), 4, packed.offer.payload_hash, bytes(64))
        outbox.acknowledge(receipt, RECEIVER.peer)
        assert fragment.acknowledged is packed
    assert fragment.num_bytes >= 16 * fragment.snapshot.theta.numel()


@pytest.mark.rule("G12")
def test_a_receipt_for_what_was_never_offered_is_the_peers_fault() -> None:
    outbox = Outbox()
    fragment = published(outbox, a_key())
    name = fragment.packed[Codec.INT8].offer.payload_hash
    with pytest.raises(OutOfTurn):
        outbox.acknowledge(Receipt(a_key(), 4, NO_DIGEST, bytes(64)), RECEIVER.peer)
    with pytest.raises(OutOfTurn):
        outbox.acknowledge(Receipt(a_key(), 4, name, bytes(64)), OUTSIDER.peer)
    assert fragment.receipt is None


def test_a_receipt_that_comes_too_late_is_no_fault() -> None:
    Outbox().acknowledge(Receipt(a_key(), 4, NO_DIGEST, bytes(64)), RECEIVER.peer)


def test_parking_is_limited_for_one_peer_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PARKED_PER_PEER_MAX", 2)
    monkeypatch.setattr(rules, "PARKED_MAX", 3)
    outbox = Outbox()
    outbox.park(RECEIVER.peer)
    outbox.park(RECEIVER.peer)
    with pytest.raises(Unreachable):
        outbox.park(RECEIVER.peer)
    outbox.park(OUTSIDER.peer)
    with pytest.raises(Unreachable):
        outbox.park(OUTSIDER.peer)
    outbox.unpark(RECEIVER.peer)
    outbox.park(OUTSIDER.peer)
