"""The giver's table hands out what was published, to whom it is for, and forgets in time."""

import pytest

from swarm.errors import OutOfTurn, Unreachable, UsageError
from swarm.gossip.trade import outbox as rules
from swarm.gossip.trade.messages import EXCHANGE_CHUNK_BYTES, Codec, FragmentKey, Receipt
from swarm.gossip.trade.outbox import Outbox, PublishedFragment, StandbyReceivers
from swarm.gossip.trade.payload import pack
from swarm.types import NO_DIGEST, PeerId
from tests.gossip.builders import NUMEL, STRANGER, TAKER, a_key, a_packed, a_snapshot

SEAT = 4
"""Where whoever asks says that it sits."""


def published(desk: Outbox, key: FragmentKey, *, numel: int = NUMEL) -> PublishedFragment:
    desk.publish(key, a_snapshot(numel=numel), TAKER.peer)
    given = desk.find(key, TAKER.peer, SEAT)
    assert given is not None
    given.packed[Codec.INT8] = pack(key, given.snapshot, Codec.INT8)
    return given


@pytest.mark.rule("G10")
def test_a_fragment_is_found_by_its_partner_only() -> None:
    desk = Outbox()
    assert desk.find(a_key(), TAKER.peer, SEAT) is None
    given = published(desk, a_key())
    assert desk.find(a_key(), TAKER.peer, SEAT) is given
    with pytest.raises(Unreachable):
        desk.find(a_key(), STRANGER.peer, SEAT)


def standing_in(*seats: int, most: int = 1) -> StandbyReceivers:
    """Whoever sits in one of these seats may step in."""
    return StandbyReceivers(lambda seat, _: seat in seats, most)


@pytest.mark.rule("G10")
def test_who_may_step_in_is_let_in_as_long_as_there_is_room() -> None:
    desk, key = Outbox(), a_key()
    desk.publish(key, a_snapshot(), TAKER.peer, standing_in(7, 8))
    given = desk.find(key, STRANGER.peer, 7)
    assert given is not None
    assert not given.is_for(STRANGER.peer)
    assert given.admit(STRANGER.peer, 7)
    assert given.admit(STRANGER.peer, 7), "who is in is in, however often it asks"
    assert given.takers == {STRANGER.peer: 7}
    another = PeerId(bytes(32))
    assert desk.find(key, another, 8) is given
    assert not given.admit(another, 8)
    assert given.admit(TAKER.peer, SEAT), "the drawn partner's place is nobody else's"
    with pytest.raises(Unreachable):
        desk.find(key, another, 9)


@pytest.mark.rule("G10")
def test_where_nobody_was_drawn_only_those_who_step_in_are_served() -> None:
    desk = Outbox()
    desk.publish(a_key(), a_snapshot(), None, standing_in(7))
    with pytest.raises(Unreachable):
        desk.find(a_key(), TAKER.peer, SEAT)
    assert desk.find(a_key(), STRANGER.peer, 7) is desk.given(a_key())


@pytest.mark.rule("G10", "G12")
def test_who_stepped_in_is_given_chunks_and_moves_no_receipt() -> None:
    desk, key = Outbox(), a_key()
    desk.publish(key, a_snapshot(), TAKER.peer, standing_in(7))
    given = desk.find(key, STRANGER.peer, 7)
    assert given is not None
    given.packed[Codec.INT8] = packed = pack(key, given.snapshot, Codec.INT8)
    name = packed.offer.payload_hash
    with pytest.raises(Unreachable):
        desk.chunks(name, 0, 1, STRANGER.peer)
    given.admit(STRANGER.peer, 7)
    assert desk.chunks(name, 0, 1, STRANGER.peer).parts
    desk.acknowledge(Receipt(key, 7, name, bytes(64)), STRANGER.peer)
    assert given.receipt is None, "a residual moves with the drawn partner's word alone"


def test_a_fragment_is_published_once() -> None:
    desk = Outbox()
    published(desk, a_key())
    with pytest.raises(UsageError):
        published(desk, a_key())


@pytest.mark.rule("G11")
def test_fragments_are_forgotten_after_two_rounds() -> None:
    desk = Outbox()
    published(desk, a_key(round_index=5))
    published(desk, a_key(round_index=6))
    assert desk.given(a_key(round_index=5)) is not None
    published(desk, a_key(round_index=7))
    assert desk.given(a_key(round_index=5)) is None
    with pytest.raises(UsageError):
        published(desk, a_key(round_index=5))


def test_the_rounds_of_two_runs_do_not_meet() -> None:
    desk = Outbox()
    published(desk, a_key(round_index=5, run=1))
    published(desk, a_key(round_index=90, run=2))
    assert desk.given(a_key(round_index=5, run=1)) is not None


@pytest.mark.rule("G11")
def test_only_the_next_round_may_be_asked_for_early() -> None:
    desk = Outbox()
    assert desk.find(a_key(round_index=70), TAKER.peer, SEAT) is None
    published(desk, a_key(round_index=5))
    assert desk.find(a_key(round_index=6), TAKER.peer, SEAT) is None
    assert desk.find(a_key(round_index=4), TAKER.peer, SEAT) is None
    for round_index in (3, 7):
        with pytest.raises(Unreachable):
            desk.find(a_key(round_index=round_index), TAKER.peer, SEAT)


def test_the_oldest_makes_room_for_the_newest() -> None:
    first, second, third = (a_key(fragment=i) for i in range(3))
    desk = Outbox(bytes_max=28 * NUMEL)
    published(desk, first)
    published(desk, second)
    published(desk, third)
    assert desk.given(first) is None
    assert desk.given(second) is not None
    assert desk.given(third) is not None


def test_one_fragment_stays_even_if_it_is_larger_than_the_limit() -> None:
    desk = Outbox(bytes_max=1)
    published(desk, a_key())
    assert desk.given(a_key()) is not None


def test_chunks_are_handed_out_in_order_and_in_range() -> None:
    desk = Outbox()
    packed = published(desk, a_key(), numel=200_000).packed[Codec.INT8]
    name = packed.offer.payload_hash
    whole = desk.chunks(name, 0, packed.manifest.num_chunks, TAKER.peer).parts
    assert b"".join(whole) == packed.wire
    assert all(len(part) <= EXCHANGE_CHUNK_BYTES for part in whole)
    assert desk.chunks(name, 1, 2, TAKER.peer).parts == whole[1:3]


@pytest.mark.parametrize(
    ("first", "count"), [(0, 0), (0, -1), (-1, 1), (0, 17), (3, 2), (1 << 60, 1)]
)
def test_an_absurd_range_is_the_peers_fault(first: int, count: int) -> None:
    desk = Outbox()
    packed = published(desk, a_key(), numel=200_000).packed[Codec.INT8]
    with pytest.raises(OutOfTurn):
        desk.chunks(packed.offer.payload_hash, first, count, TAKER.peer)


@pytest.mark.rule("G28")
def test_one_payload_of_two_rounds_travels_in_the_same_bytes() -> None:
    """Plain in one round, compressed in the next: whoever asks for its chunks names its hash and no round."""
    desk, numel = Outbox(), 200_000
    first = published(desk, a_key(round_index=5), numel=numel).packed[Codec.INT8]
    other = pack(a_key(round_index=6), a_snapshot(numel=numel), Codec.INT8, is_plain=True)
    assert len(other.wire) > len(first.wire)
    settled = desk.settled(other)
    assert (settled.wire, settled.manifest) == (first.wire, first.manifest)
    assert settled.offer.key == a_key(round_index=6)
    assert settled.offer.wire_bytes == len(first.wire)
    assert settled.offer.chunk_root == first.manifest.root
    distinct = pack(a_key(round_index=6), a_snapshot(seed=9), Codec.INT8, is_plain=True)
    assert desk.settled(distinct) is distinct


@pytest.mark.rule("G10")
def test_chunks_of_nothing_and_for_strangers_are_declined() -> None:
    desk = Outbox()
    name = published(desk, a_key()).packed[Codec.INT8].offer.payload_hash
    for payload_hash, peer in ((NO_DIGEST, TAKER.peer), (name, STRANGER.peer)):
        with pytest.raises(Unreachable):
            desk.chunks(payload_hash, 0, 1, peer)


def test_a_receipt_is_kept_with_what_it_is_for() -> None:
    desk = Outbox()
    given = published(desk, a_key())
    name = given.packed[Codec.INT8].offer.payload_hash
    receipt = Receipt(a_key(), 4, name, bytes(64))
    desk.acknowledge(receipt, TAKER.peer)
    assert given.receipt == receipt
    assert given.offered == {TAKER.peer: name}


def test_what_was_acknowledged_is_the_payload_that_the_receipt_names() -> None:
    desk = Outbox()
    given = published(desk, a_key())
    given.packed[Codec.INT4] = coarse = a_packed(a_key(), codec=Codec.INT4)
    given.packed[Codec.BF16] = wide = a_packed(a_key(), codec=Codec.BF16)
    assert given.acknowledged is None
    for packed in (coarse, wide):
        receipt = Receipt(a_key(), 4, packed.offer.payload_hash, bytes(64))
        desk.acknowledge(receipt, TAKER.peer)
        assert given.acknowledged is packed
    assert given.num_bytes >= 16 * given.snapshot.theta.numel()


@pytest.mark.rule("G12")
def test_a_receipt_for_what_was_never_offered_is_the_peers_fault() -> None:
    desk = Outbox()
    given = published(desk, a_key())
    name = given.packed[Codec.INT8].offer.payload_hash
    with pytest.raises(OutOfTurn):
        desk.acknowledge(Receipt(a_key(), 4, NO_DIGEST, bytes(64)), TAKER.peer)
    with pytest.raises(OutOfTurn):
        desk.acknowledge(Receipt(a_key(), 4, name, bytes(64)), STRANGER.peer)
    assert given.receipt is None


def test_a_receipt_that_comes_too_late_is_nobodys_fault() -> None:
    Outbox().acknowledge(Receipt(a_key(), 4, NO_DIGEST, bytes(64)), TAKER.peer)


def test_parking_is_limited_for_one_peer_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PARKED_PER_PEER_MAX", 2)
    monkeypatch.setattr(rules, "PARKED_MAX", 3)
    desk = Outbox()
    desk.park(TAKER.peer)
    desk.park(TAKER.peer)
    with pytest.raises(Unreachable):
        desk.park(TAKER.peer)
    desk.park(STRANGER.peer)
    with pytest.raises(Unreachable):
        desk.park(STRANGER.peer)
    desk.unpark(TAKER.peer)
    desk.park(STRANGER.peer)
