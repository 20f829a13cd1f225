"""Two partners trade over links that are early, late, lossy or hostile, and no honest peer is blamed."""

from dataclasses import dataclass

import pytest
import torch
import trio
import trio.testing

from swarm.errors import Unreachable
from swarm.gossip.trade.messages import (
    ChunkRequest,
    Chunks,
    FirstChunks,
    FragmentKey,
    NotYet,
    Offer,
    Offered,
    OfferRequest,
    Receipt,
    decode_exchange_reply,
    decode_exchange_request,
    payload_digest,
    sign_receipt,
    verify_receipt,
)
from swarm.gossip.trade.outbox import StandbyReceivers
from swarm.gossip.trade.payload import FragmentPayload, ReceivedFragment, read_payload
from swarm.gossip.trade.pull import Wanted
from swarm.gossip.trade.service import EXCHANGE_PROTOCOL, Trades
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey
from swarm.testing.executor import InlineExecutor
from swarm.types import NO_DIGEST, Digest, PeerId
from tests.fakes import FakeHost, FakeNetwork
from tests.gossip.builders import ANCHOR_ROOT, CHAIN, NUMEL, a_key, a_snapshot, some_chunks

LARGE = 3_000_000
"""Values whose payload takes a dozen requests."""
OTHER_ROOT = Digest(b"\x0b" * 32)


@dataclass
class Side:
    """One partner of one pair."""

    host: FakeHost
    trades: Trades
    seat: int

    def key(self, round_index: int = 5) -> FragmentKey:
        return a_key(seat=self.seat, round_index=round_index)

    def snapshot(self, anchor_root: Digest = ANCHOR_ROOT) -> FragmentPayload:
        return a_snapshot(seed=self.seat, anchor_root=anchor_root, tokens=100 * self.seat)

    def publish(self, partner: "Side", *, anchor_root: Digest = ANCHOR_ROOT) -> None:
        self.trades.publish(self.key(), self.snapshot(anchor_root), partner=partner.host.peer)

    async def pull(
        self, partner: "Side", *, within_s: float = 20.0, anchor_root: Digest = ANCHOR_ROOT
    ) -> ReceivedFragment | None:
        wanted = Wanted(partner.key(), partner.host.peer, self.seat, anchor_root, NUMEL)
        deadline = trio.current_time() + within_s
        anchor = a_snapshot().anchor
        return await self.trades.pull(wanted, anchor, deadline=deadline)


def a_side(network: FakeNetwork, number: int) -> Side:
    host = network.host(number)
    trades = Trades(host, host.secret, CHAIN, InlineExecutor(lambda _: 0.01))
    return Side(host, trades, number)


def a_pair(*, seed: int = 0, loss: float = 0.0) -> tuple[Side, Side]:
    network = FakeNetwork(seed=seed, loss=loss)
    return a_side(network, 1), a_side(network, 2)


async def both_pull(left: Side, right: Side) -> dict[int, ReceivedFragment | None]:
    results: dict[int, ReceivedFragment | None] = {}

    async def one(me: Side, partner: Side) -> None:
        results[me.seat] = await me.pull(partner)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, left, right)
        nursery.start_soon(one, right, left)
    return results


async def test_two_partners_trade_and_keep_each_others_receipts(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    left, right = a_pair()
    for side in (left, right):
        nursery.start_soon(side.trades.run)
    left.publish(right)
    right.publish(left)
    results = await both_pull(left, right)
    await trio.sleep(0.1)
    for me, partner in ((left, right), (right, left)):
        traded, fragment = results[me.seat], me.trades.published(me.key())
        assert traded is not None
        assert fragment is not None
        assert fragment.receipt is not None
        assert float((traded.values - partner.snapshot().theta).abs().max()) < 0.01
        assert traded.offer.tokens == 100 * partner.seat
        assert payload_digest(traded.payload) == traded.offer.payload_hash
        again = read_payload(traded.offer.codec, traded.payload, a_snapshot().anchor)
        assert torch.equal(again, traded.values)
        verify_receipt(partner.host.peer, CHAIN, fragment.receipt)
        assert fragment.offered == {partner.host.peer: fragment.receipt.payload_hash}
        assert results[partner.seat] is not None
        assert fragment.receipt.payload_hash == results[partner.seat].offer.payload_hash  # type: ignore[union-attr]
        assert me.host.blamed == []


async def test_a_fragment_of_a_mebibyte_is_there_after_one_round_trip(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A mebibyte are 3.5 million values in int3: the first chunks are requested with the offer."""
    network = FakeNetwork(delay_s=1.0)
    left, right = a_side(network, 1), a_side(network, 2)
    nursery.start_soon(left.trades.run)
    snapshot = a_snapshot(numel=1_000_000)
    left.trades.publish(left.key(), snapshot, partner=right.host.peer)
    wanted = Wanted(left.key(), left.host.peer, right.seat, ANCHOR_ROOT, 1_000_000)
    await trio.sleep(0.1)  # until it is packed
    began = trio.current_time()
    received = await right.trades.pull(wanted, snapshot.anchor, deadline=began + 60.0)
    assert received is not None
    assert received.offer.wire_bytes > 900_000
    assert trio.current_time() - began < 1.1 * 2 * network.delay_s


@pytest.mark.rule("G12")
async def test_a_wait_for_a_receipt_ends_with_it_or_at_the_deadline(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    left, right = a_pair()
    nursery.start_soon(right.trades.run)
    assert await left.trades.acknowledged(left.key(), deadline=trio.current_time() + 5) is None
    left.publish(right)
    began = trio.current_time()
    assert await left.trades.acknowledged(left.key(), deadline=began + 5) is None
    assert trio.current_time() == began + 5
    async with trio.open_nursery() as pulling:
        pulling.start_soon(right.pull, left)
        fragment = await left.trades.acknowledged(left.key(), deadline=began + 30)
    assert fragment is not None
    assert fragment.receipt is not None
    assert fragment.acknowledged is not None
    assert fragment.acknowledged.offer.payload_hash == fragment.receipt.payload_hash
    assert await left.trades.acknowledged(left.key(), deadline=began) is fragment


@pytest.mark.rule("G11")
async def test_a_partner_that_publishes_later_is_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = a_pair()
    results: list[ReceivedFragment | None] = []

    async def pull() -> None:
        results.append(await left.pull(right))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pull)
        await trio.sleep(12)
        right.publish(left)
        started = trio.current_time()
    assert results[0] is not None
    assert trio.current_time() - started < 1
    assert left.host.calls[right.host.peer, EXCHANGE_PROTOCOL] < 8


async def test_a_partner_that_never_publishes_costs_no_more_than_the_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = a_pair()
    started = trio.current_time()
    assert await left.pull(right, within_s=9) is None
    assert trio.current_time() - started == pytest.approx(9, abs=0.1)
    assert left.host.blamed == right.host.blamed == []


@pytest.mark.rule("G26")
@pytest.mark.parametrize("answered", [0, 1, 2, 4])
async def test_a_partner_that_stalls_at_any_chunk_costs_no_more_than_the_deadline(
    autojump_clock: trio.testing.MockClock, answered: int
) -> None:
    left, right = a_pair()
    right.trades.publish(right.key(), a_snapshot(numel=LARGE), partner=left.host.peer)
    honest, left_to_answer = right.host.answer, answered

    async def stall(asker: PeerId, protocol: str, request: bytes) -> bytes:
        nonlocal left_to_answer
        if isinstance(decode_exchange_request(request), ChunkRequest | FirstChunks):
            left_to_answer -= 1
            if left_to_answer < 0:
                await trio.sleep_forever()
        return await honest(asker, protocol, request)

    right.host.answer = stall  # type: ignore[method-assign]
    started = trio.current_time()
    wanted = Wanted(right.key(), right.host.peer, left.seat, ANCHOR_ROOT, LARGE)
    anchor = a_snapshot(numel=LARGE).anchor
    assert await left.trades.pull(wanted, anchor, deadline=started + 50) is None
    assert trio.current_time() - started == pytest.approx(50, abs=0.1)
    assert left.host.blamed == right.host.blamed == []


@pytest.mark.rule("G5", "G28")
async def test_partners_with_different_anchors_trade_in_bf16(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = a_pair()
    right.publish(left, anchor_root=OTHER_ROOT)
    traded = await left.pull(right)
    assert traded is not None
    assert traded.offer.num_bytes == 2 * NUMEL
    assert torch.equal(traded.values, right.snapshot().theta.bfloat16().float())


@pytest.mark.rule("G13")
@pytest.mark.parametrize("seed", range(8))
async def test_loss_delays_a_trade_and_blames_no_peer(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    left, right = a_pair(seed=seed, loss=0.2)
    left.publish(right)
    right.publish(left)
    results = await both_pull(left, right)
    assert left.host.blamed == right.host.blamed == []
    for me in (left, right):
        if (traded := results[me.seat]) is not None:
            assert torch.isfinite(traded.values).all()


async def test_most_trades_survive_loss(autojump_clock: trio.testing.MockClock) -> None:
    done = 0
    for seed in range(20):
        left, right = a_pair(seed=seed, loss=0.1)
        right.publish(left)
        done += await left.pull(right, within_s=60.0) is not None
    assert done >= 19


@pytest.mark.rule("G13")
async def test_a_dead_partner_is_silence_not_a_fault(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = a_pair()
    right.publish(left)
    right.host.is_alive = False
    assert await left.pull(right) is None
    assert left.host.blamed == []


async def test_a_partner_that_dies_in_the_middle_leaves_no_trade(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = a_pair()

    async def die() -> None:
        await trio.sleep(2)
        right.host.is_alive = False

    async with trio.open_nursery() as nursery:
        nursery.start_soon(die)
        assert await left.pull(right) is None
    assert left.host.blamed == []


@pytest.mark.rule("G14")
async def test_a_fragment_that_is_not_finite_is_not_given(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = a_pair()
    bad = right.snapshot()
    bad.theta[3] = float("nan")
    right.trades.publish(right.key(), bad, partner=left.host.peer)
    assert await left.pull(right, within_s=5) is None
    assert left.host.blamed == []


def a_cheat(network: FakeNetwork, honest: Side, bend: "Bend") -> Side:
    """A side that bends what an honest sender with its own key would answer."""
    cheat = a_side(network, 2)
    cheat.publish(honest)
    answer = cheat.host.answer

    async def bent(asker: PeerId, protocol: str, request: bytes) -> bytes:
        return bend(request, await answer(asker, protocol, request))

    cheat.host.answer = bent  # type: ignore[method-assign]
    return cheat


class Bend:
    """Ways in which a cheat changes its answers."""

    def __call__(self, request: bytes, reply: bytes) -> bytes:
        raise NotImplementedError


class Garbage(Bend):
    def __call__(self, request: bytes, reply: bytes) -> bytes:
        return b"\xc1garbage"


class Oversize(Bend):
    def __call__(self, request: bytes, reply: bytes) -> bytes:
        return bytes(2 << 20)


class OutOfTurnReply(Bend):
    def __call__(self, request: bytes, reply: bytes) -> bytes:
        return encode(some_chunks(b"x"))


class WrongChunk(Bend):
    def __call__(self, request: bytes, reply: bytes) -> bytes:
        decoded = decode_exchange_reply(reply)
        if not isinstance(decoded, Chunks):
            return reply
        return encode(some_chunks(*(bytes(len(part)) for part in decoded.parts)))


class TooManyFirst(Bend):
    def __call__(self, request: bytes, reply: bytes) -> bytes:
        decoded = decode_exchange_reply(reply)
        return encode(Chunks(decoded.parts * 2)) if isinstance(decoded, Chunks) else reply


class Unsigned(Bend):
    def __call__(self, request: bytes, reply: bytes) -> bytes:
        decoded = decode_exchange_reply(reply)
        if isinstance(decoded, Offered):
            return encode(replace(decoded, offer=replace(decoded.offer, tokens=1 << 40)))
        return reply


class NeverReady(Bend):
    def __call__(self, request: bytes, reply: bytes) -> bytes:
        return encode(NotYet())


BENDS = [
    Garbage(),
    Oversize(),
    OutOfTurnReply(),
    WrongChunk(),
    TooManyFirst(),
    Unsigned(),
    NeverReady(),
]


@pytest.mark.rule("G13")
@pytest.mark.parametrize("bend", BENDS, ids=lambda bend: type(bend).__name__)
async def test_a_cheat_is_blamed_and_its_fragment_refused(
    autojump_clock: trio.testing.MockClock, bend: Bend
) -> None:
    network = FakeNetwork()
    honest = a_side(network, 1)
    cheat = a_cheat(network, honest, bend)
    assert await honest.pull(cheat) is None
    assert honest.host.faults() == {cheat.host.peer: 1}


async def ask(asker: FakeHost, sender: FakeHost, request: bytes) -> bytes:
    return await asker.call(sender.peer, EXCHANGE_PROTOCOL, request, timeout_s=30)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"\xc1",
        bytes(5000),
        encode(OfferRequest(a_key(seat=-1), 1, ANCHOR_ROOT, 10)),
        encode(OfferRequest(a_key(), 1, ANCHOR_ROOT, -10)),
        encode(FirstChunks(a_key(seat=-1), 1, ANCHOR_ROOT, 0, 8)),
        encode(FirstChunks(a_key(seat=2), 1, ANCHOR_ROOT, 0, 0)),
        encode(FirstChunks(a_key(seat=2), 1, ANCHOR_ROOT, -1, 8)),
        encode(Receipt(a_key(), 1, NO_DIGEST, bytes(64))),
    ],
    ids=[
        "empty",
        "garbage",
        "oversize",
        "negative seat",
        "negative wait",
        "first of no partner",
        "none first",
        "less than none",
        "forged receipt",
    ],
)
async def test_a_hostile_request_is_blamed_and_the_sender_lives_on(
    autojump_clock: trio.testing.MockClock, request_bytes: bytes
) -> None:
    left, right = a_pair()
    right.publish(left)
    with pytest.raises(Unreachable):
        await ask(left.host, right.host, request_bytes)
    assert right.host.faults() == {left.host.peer: 1}
    assert await left.pull(right) is not None


@pytest.mark.rule("G12")
async def test_a_receipt_for_what_was_not_offered_is_blamed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = a_pair()
    right.publish(left)
    secret: SecretKey = left.host.secret
    receipt = sign_receipt(secret, CHAIN, Receipt(right.key(), 1, NO_DIGEST, b""))
    with pytest.raises(Unreachable):
        await ask(left.host, right.host, encode(receipt))
    assert right.host.faults() == {left.host.peer: 1}


@pytest.mark.rule("G10")
async def test_a_peer_that_is_no_partner_gets_nothing_and_no_blame(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = FakeNetwork()
    left, right, outsider = (a_side(network, number) for number in (1, 2, 3))
    right.publish(left)
    assert await outsider.pull(right, within_s=3) is None
    assert right.host.blamed == outsider.host.blamed == []


async def test_parked_asks_are_limited(autojump_clock: trio.testing.MockClock) -> None:
    left, right = a_pair()
    declined = 0

    async def one(fragment: int) -> None:
        nonlocal declined
        request = OfferRequest(a_key(fragment=fragment), 1, ANCHOR_ROOT, 5000)
        try:
            await ask(left.host, right.host, encode(request))
        except Unreachable:
            declined += 1

    async with trio.open_nursery() as nursery:
        for fragment in range(100):
            nursery.start_soon(one, fragment)
    assert declined == 100 - 32
    assert isinstance(
        decode_exchange_reply(
            await ask(left.host, right.host, encode(OfferRequest(a_key(), 1, ANCHOR_ROOT, 1)))
        ),
        NotYet,
    )


@pytest.mark.rule("G12")
async def test_a_receipt_lost_on_the_way_costs_no_trade(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = a_pair()
    right.publish(left)
    answer = right.host.answer

    async def deaf(asker: PeerId, protocol: str, request: bytes) -> bytes:
        if isinstance(decode_exchange_request(request), Receipt):
            raise Unreachable("lost")
        return await answer(asker, protocol, request)

    right.host.answer = deaf  # type: ignore[method-assign]
    assert await left.pull(right) is not None
    fragment = right.trades.published(right.key())
    assert fragment is not None
    assert fragment.receipt is None
    assert fragment.offered


@pytest.mark.rule("G7")
async def test_one_side_may_succeed_without_the_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = a_pair()
    left.publish(right)
    right.publish(left)
    right.host.answer = silent  # type: ignore[method-assign]
    results = await both_pull(left, right)
    assert results[left.seat] is None
    assert results[right.seat] is not None
    assert left.host.blamed == right.host.blamed == []


def stands_in(seat: int, *, most: int = 1) -> StandbyReceivers:
    return StandbyReceivers(lambda asker, _: asker == seat, most)


async def test_without_an_offer_in_time_the_pull_is_given_up_early(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = a_pair()
    right.host.answer = silent  # type: ignore[method-assign]
    began = trio.current_time()
    wanted = Wanted(right.key(), right.host.peer, left.seat, ANCHOR_ROOT, NUMEL)
    anchor = a_snapshot().anchor
    pulled = await left.trades.pull(wanted, anchor, deadline=began + 20, offer_by=began + 6)
    assert pulled is None
    assert trio.current_time() == began + 6
    assert left.host.blamed == []


async def silent(asker: PeerId, protocol: str, request: bytes) -> bytes:
    await trio.sleep_forever()
    raise AssertionError("never")


@pytest.mark.rule("G10")
async def test_a_fallback_partner_gets_the_fragment_and_the_next_one_is_refused_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    network = FakeNetwork(seed=0, loss=0.0)
    sender, partner, first, second = (a_side(network, number) for number in range(1, 5))
    for side in (sender, partner, first, second):
        nursery.start_soon(side.trades.run)
    any_of_them = StandbyReceivers(lambda seat, _: seat in {first.seat, second.seat}, 1)
    sender.trades.publish(
        sender.key(), sender.snapshot(), partner=partner.host.peer, fallbacks=any_of_them
    )
    assert await first.pull(sender) is not None
    began = trio.current_time()
    assert await second.pull(sender) is None
    assert trio.current_time() < began + 1
    assert await partner.pull(sender) is not None
    await trio.sleep(1.0)
    assert sender.trades.receivers(sender.key()) == {first.host.peer: first.seat}
    fragment = sender.trades.published(sender.key())
    assert fragment is not None
    assert fragment.receipt is not None
    assert fragment.receipt.to_seat == partner.seat
    assert not [side for side in (sender, partner, first, second) if side.host.blamed]


@pytest.mark.rule("G10")
async def test_a_seat_that_stands_in_for_no_partner_is_declined(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = FakeNetwork(seed=0, loss=0.0)
    sender, partner, outsider = (a_side(network, number) for number in range(1, 4))
    sender.trades.publish(
        sender.key(), sender.snapshot(), partner=partner.host.peer, fallbacks=stands_in(9)
    )
    assert await outsider.pull(sender, within_s=3) is None
    assert sender.trades.receivers(sender.key()) == {}
    assert sender.host.blamed == []


@pytest.mark.rule("G28a")
async def test_nothing_is_offered_that_its_seat_may_not_sign_any_more(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Each payload is noted once, before its offer is signed; with a closed list there is no offer."""
    left, right = a_pair()
    noted: list[Offer] = []
    is_open = True

    def note(offer: Offer) -> bool:
        noted.append(offer)
        return is_open

    nursery.start_soon(left.trades.run)
    nursery.start_soon(right.trades.run)
    left.trades.publish(left.key(), left.snapshot(), partner=right.host.peer, note=note)
    received = await right.pull(left)
    assert received is not None
    assert [replace(received.offer, signature=b"")] == noted
    is_open = False
    assert await right.pull(left) is not None, "it was signed before"
    assert await right.pull(left, anchor_root=OTHER_ROOT) is None
    assert len(noted) > 1
