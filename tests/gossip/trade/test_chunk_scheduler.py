"""A download ends with the chunks of its manifest, or with nothing, and presses no partner in trouble."""

import random

import pytest

from swarm.errors import OutOfTurn, PeerFault
from swarm.gossip.blobs.chunks import Manifest, manifest
from swarm.gossip.trade.messages import (
    CHUNKS_PER_REPLY_MAX,
    ChunkRequest,
    Chunks,
    ExchangeReply,
    NotYet,
    Offered,
    Taken,
)
from swarm.gossip.trade.pull import (
    BUDGET_FIRST,
    BUDGET_MAX,
    CHUNK_WAIT_S,
    REQUESTS_MAX,
    RETRIES_MAX,
    SLOW_S,
    Call,
    ChunkScheduler,
    Deliver,
    Effect,
    GiveUp,
)
from tests.gossip.builders import a_key, a_packed, some_chunks

FIRST_COUNT = 8
SIZE = 10
"""A small chunk: what is tested here does not depend on its length."""
OFFER = a_packed(a_key()).offer


def a_scheduler(num_chunks: int, *, deadline: float = 1000.0) -> tuple[ChunkScheduler, bytes]:
    wire = random.Random(num_chunks).randbytes(SIZE * num_chunks - 3)
    return ChunkScheduler(OFFER, manifest(wire, SIZE), deadline=deadline), wire


def chunks(wire: bytes, request: ChunkRequest) -> Chunks:
    indices = range(request.first, request.first + request.count)
    return some_chunks(*(wire[SIZE * i : SIZE * (i + 1)] for i in indices))


def requests(effects: tuple[Effect, ...]) -> list[ChunkRequest]:
    found = []
    for effect in effects:
        assert isinstance(effect, Call)
        assert isinstance(effect.message, ChunkRequest)
        found.append(effect.message)
    return found


def test_a_small_fragment_is_one_request() -> None:
    scheduler, wire = a_scheduler(1)
    assert scheduler.start(3.0) == (
        Call(ChunkRequest(OFFER.payload_hash, 0, 1), 3.0, CHUNK_WAIT_S),
    )
    request = ChunkRequest(OFFER.payload_hash, 0, 1)
    assert scheduler.receive(request, chunks(wire, request), 4.0) == (Deliver(OFFER, wire),)
    assert scheduler.deadline is None


@pytest.mark.rule("G30")
@pytest.mark.parametrize("seed", range(50))
def test_chunks_in_any_order_with_any_losses_give_the_same_bytes(seed: int) -> None:
    rng = random.Random(seed)
    scheduler, wire = a_scheduler(rng.randint(1, 200))
    waiting, now, on_their_way_max = requests(scheduler.start(0.0)), 0.0, 0
    losses = 0
    while True:
        on_their_way = sum(request.count for request in waiting)
        on_their_way_max = max(on_their_way_max, on_their_way)
        now += rng.choice([0.01, 0.5, 3.0])
        request = waiting.pop(rng.randrange(len(waiting)))
        assert request.count <= CHUNKS_PER_REPLY_MAX
        if losses < RETRIES_MAX and rng.random() < 0.2:
            losses += 1
            effects = scheduler.lost(request, now)
        else:
            effects = scheduler.receive(request, chunks(wire, request), now)
        if effects and isinstance(effects[0], Deliver):
            break
        waiting += requests(effects)
    assert effects == (Deliver(OFFER, wire),)
    assert not waiting
    assert on_their_way_max <= BUDGET_MAX


@pytest.mark.rule("G30")
def test_several_requests_travel_at_once_and_more_while_answers_are_quick() -> None:
    scheduler, wire = a_scheduler(1000)
    waiting = requests(scheduler.start(0.0))
    assert [request.count for request in waiting] == [BUDGET_FIRST // REQUESTS_MAX] * REQUESTS_MAX
    for now in range(20):
        request = waiting.pop(0)
        waiting += requests(scheduler.receive(request, chunks(wire, request), 0.1 * now))
    assert [request.count for request in waiting] == [BUDGET_MAX // REQUESTS_MAX] * REQUESTS_MAX


@pytest.mark.rule("G30")
def test_a_slow_line_is_asked_for_less() -> None:
    scheduler, wire = a_scheduler(1000)
    waiting, now = requests(scheduler.start(0.0)), 0.0
    for _ in range(40):
        now += 1.1 * SLOW_S
        request = waiting.pop(0)
        waiting += requests(scheduler.receive(request, chunks(wire, request), now))
    assert sum(request.count for request in waiting) == 1


@pytest.mark.rule("G30")
def test_after_a_loss_one_chunk_is_asked_for_on_its_own_and_after_growing_pauses() -> None:
    scheduler, _ = a_scheduler(100)
    first, *others = requests(scheduler.start(0.0))
    for request in others:
        assert scheduler.lost(request, 100.0) == ()
    starts, request = [], first
    for _ in range(RETRIES_MAX):
        (effect,) = scheduler.lost(request, 100.0)
        assert isinstance(effect, Call)
        assert isinstance(effect.message, ChunkRequest)
        request = effect.message
        assert (request.first, request.count) == (0, 1)
        starts.append(effect.start_at - 100.0)
    assert starts == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert isinstance(scheduler.lost(request, 100.0)[0], GiveUp)


def test_nothing_is_asked_or_taken_at_the_deadline() -> None:
    assert isinstance(a_scheduler(5, deadline=1.0)[0].start(1.0)[0], GiveUp)
    scheduler, wire = a_scheduler(5, deadline=7.0)
    (first, *_) = scheduler.start(0.0)
    assert isinstance(first, Call)
    assert first.timeout_s == 7.0
    assert isinstance(first.message, ChunkRequest)
    assert isinstance(scheduler.receive(first.message, chunks(wire, first.message), 7.0)[0], GiveUp)
    late, _ = a_scheduler(1, deadline=7.0)
    (request,) = requests(late.start(0.0))
    assert isinstance(late.lost(request, 6.9)[0], GiveUp)
    assert isinstance(late.lost(request, 7.5)[0] if late.deadline else GiveUp(""), GiveUp)


@pytest.mark.parametrize(
    "reply",
    [NotYet(), Taken(), Offered(OFFER, b""), Chunks(())],
    ids=lambda reply: type(reply).__name__,
)
def test_only_the_chunks_that_were_asked_for_are_in_turn(reply: ExchangeReply) -> None:
    scheduler, wire = a_scheduler(100)
    request = requests(scheduler.start(0.0))[1]
    with pytest.raises(OutOfTurn):
        scheduler.receive(request, reply, 1.0)
    assert requests(scheduler.receive(request, chunks(wire, request), 1.0))


@pytest.mark.rule("G9")
def test_chunks_that_are_wrong_missing_or_too_many_are_refused() -> None:
    scheduler, wire = a_scheduler(100)
    request = requests(scheduler.start(0.0))[1]
    honest = [bytes(part) for part in chunks(wire, request).parts]
    other = chunks(wire, ChunkRequest(OFFER.payload_hash, 0, request.count)).parts
    for parts in (
        honest[:-1],
        [*honest, honest[0]],
        [*honest[1:], honest[0]],
        [honest[0][:-1], *honest[1:]],
        [bytes(SIZE), *honest[1:]],
        other,
    ):
        with pytest.raises(PeerFault):
            scheduler.receive(request, some_chunks(*parts), 1.0)
    assert requests(scheduler.receive(request, some_chunks(*honest), 1.0))


def test_a_manifest_of_one_short_chunk_is_whole_at_once() -> None:
    scheduler = ChunkScheduler(
        OFFER, Manifest(3, SIZE, manifest(b"abc", SIZE).hashes), deadline=9.0
    )
    (request,) = requests(scheduler.start(0.0))
    assert scheduler.receive(request, some_chunks(b"abc"), 1.0) == (Deliver(OFFER, b"abc"),)


def a_started(
    num_chunks: int, first_count: int
) -> tuple[ChunkScheduler, bytes, list[ChunkRequest]]:
    wire = random.Random(num_chunks).randbytes(SIZE * num_chunks - 3)
    scheduler = ChunkScheduler(
        OFFER, manifest(wire, SIZE), deadline=1000.0, first_counts=(first_count,)
    )
    return scheduler, wire, requests(scheduler.start(0.0))


def first_of(wire: bytes, count: int) -> Chunks:
    return chunks(wire, ChunkRequest(OFFER.payload_hash, 0, count))


@pytest.mark.rule("G27")
def test_chunks_asked_for_with_the_offer_count_in_the_budget_and_are_not_asked_for_again() -> None:
    scheduler, wire, request = a_started(100, FIRST_COUNT)
    assert [one.first for one in request] == [8, 18]
    assert FIRST_COUNT + sum(one.count for one in request) <= BUDGET_FIRST
    waiting = request + requests(scheduler.receive_first(0, first_of(wire, FIRST_COUNT), 1.0))
    seen = list(range(FIRST_COUNT))
    while True:
        one = waiting.pop(0)
        seen += range(one.first, one.first + one.count)
        effects = scheduler.receive(one, chunks(wire, one), 1.0)
        if effects and isinstance(effects[0], Deliver):
            break
        waiting += requests(effects)
    assert sorted(seen) == list(range(100))
    assert effects == (Deliver(OFFER, wire),)


def test_what_is_left_of_the_budget_is_asked_for_too_unless_it_is_little() -> None:
    wire = random.Random(100).randbytes(SIZE * 100)
    scheduler = ChunkScheduler(OFFER, manifest(wire, SIZE), deadline=9.0, first_counts=(8, 8))
    assert [(one.first, one.count) for one in requests(scheduler.start(0.0))] == [(16, 10), (26, 6)]


def test_a_fragment_of_few_chunks_is_whole_with_the_first_answer() -> None:
    scheduler, wire, request = a_started(3, FIRST_COUNT)
    assert request == []
    assert scheduler.receive_first(0, first_of(wire, 3), 1.0) == (Deliver(OFFER, wire),)


@pytest.mark.rule("G27")
def test_first_chunks_that_were_not_ready_are_asked_for_like_any_others_and_cost_nothing() -> None:
    scheduler, wire, request = a_started(100, FIRST_COUNT)
    (again,) = requests(scheduler.receive_first(0, NotYet(), 1.0))
    assert (again.first, again.count) == (0, FIRST_COUNT)
    assert requests(scheduler.receive(request[0], chunks(wire, request[0]), 1.5)), (
        "no pause, full budget"
    )
    late = a_started(100, FIRST_COUNT)[0]
    assert isinstance(late.receive_first(0, NotYet(), 1000.0)[0], GiveUp)
    few, wire, _ = a_started(3, FIRST_COUNT)
    (single,) = requests(few.receive_first(0, NotYet(), 1.0))
    assert (single.first, single.count) == (0, 3)


def test_first_chunks_behind_the_last_one_are_nothing_whatever_the_answer() -> None:
    wire = random.Random(9).randbytes(9 * SIZE)
    for reply in (NotYet(), Taken(), some_chunks(), some_chunks(b"more")):
        scheduler = ChunkScheduler(
            OFFER, manifest(wire, SIZE), deadline=9.0, first_counts=(4, 4, 4, 4)
        )
        assert scheduler.start(0.0) == ()
        assert scheduler.receive_first(3, reply, 1.0) == ()
        for number, first, size in ((0, 0, 4), (2, 8, 1), (1, 4, 4)):
            part = chunks(wire, ChunkRequest(OFFER.payload_hash, first, size))
            effects = scheduler.receive_first(number, part, 1.0)
        assert effects == (Deliver(OFFER, wire),)


@pytest.mark.rule("G27")
@pytest.mark.parametrize("count", [0, 1, FIRST_COUNT - 1, FIRST_COUNT + 1])
def test_another_number_of_first_chunks_than_there_must_be_is_the_peers_fault(count: int) -> None:
    scheduler, wire, _ = a_started(100, FIRST_COUNT)
    with pytest.raises(OutOfTurn):
        scheduler.receive_first(0, first_of(wire, count), 1.0)
    few, wire, _ = a_started(3, FIRST_COUNT)
    with pytest.raises(OutOfTurn):
        few.receive_first(0, first_of(wire + bytes(100), FIRST_COUNT), 1.0)


@pytest.mark.rule("G27")
def test_false_first_chunks_are_found_out() -> None:
    scheduler, wire, _ = a_started(100, FIRST_COUNT)
    with pytest.raises(PeerFault):
        scheduler.receive_first(0, first_of(bytes(len(wire)), FIRST_COUNT), 1.0)
