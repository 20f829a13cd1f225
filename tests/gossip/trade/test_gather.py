"""A gathering ends with the chunks that were promised, or with nothing, and presses no partner in trouble."""

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


def a_gather(num_chunks: int, *, deadline: float = 1000.0) -> tuple[ChunkScheduler, bytes]:
    wire = random.Random(num_chunks).randbytes(SIZE * num_chunks - 3)
    return ChunkScheduler(OFFER, manifest(wire, SIZE), deadline=deadline), wire


def chunks(wire: bytes, asked: ChunkRequest) -> Chunks:
    places = range(asked.first, asked.first + asked.count)
    return some_chunks(*(wire[SIZE * i : SIZE * (i + 1)] for i in places))


def requests(effects: tuple[Effect, ...]) -> list[ChunkRequest]:
    found = []
    for effect in effects:
        assert isinstance(effect, Call)
        assert isinstance(effect.message, ChunkRequest)
        found.append(effect.message)
    return found


def test_a_small_fragment_is_one_request() -> None:
    gather, wire = a_gather(1)
    assert gather.start(3.0) == (Call(ChunkRequest(OFFER.payload_hash, 0, 1), 3.0, CHUNK_WAIT_S),)
    asked = ChunkRequest(OFFER.payload_hash, 0, 1)
    assert gather.receive(asked, chunks(wire, asked), 4.0) == (Deliver(OFFER, wire),)
    assert gather.deadline is None


@pytest.mark.rule("G30")
@pytest.mark.parametrize("seed", range(50))
def test_chunks_in_any_order_with_any_losses_give_the_same_bytes(seed: int) -> None:
    dice = random.Random(seed)
    gather, wire = a_gather(dice.randint(1, 200))
    waiting, now, on_their_way_max = requests(gather.start(0.0)), 0.0, 0
    losses = 0
    while True:
        on_their_way = sum(asked.count for asked in waiting)
        on_their_way_max = max(on_their_way_max, on_their_way)
        now += dice.choice([0.01, 0.5, 3.0])
        asked = waiting.pop(dice.randrange(len(waiting)))
        assert asked.count <= CHUNKS_PER_REPLY_MAX
        if losses < RETRIES_MAX and dice.random() < 0.2:
            losses += 1
            effects = gather.lost(asked, now)
        else:
            effects = gather.receive(asked, chunks(wire, asked), now)
        if effects and isinstance(effects[0], Deliver):
            break
        waiting += requests(effects)
    assert effects == (Deliver(OFFER, wire),)
    assert not waiting
    assert on_their_way_max <= BUDGET_MAX


@pytest.mark.rule("G30")
def test_several_requests_travel_at_once_and_more_while_answers_are_quick() -> None:
    gather, wire = a_gather(1000)
    waiting = requests(gather.start(0.0))
    assert [asked.count for asked in waiting] == [BUDGET_FIRST // REQUESTS_MAX] * REQUESTS_MAX
    for now in range(20):
        asked = waiting.pop(0)
        waiting += requests(gather.receive(asked, chunks(wire, asked), 0.1 * now))
    assert [asked.count for asked in waiting] == [BUDGET_MAX // REQUESTS_MAX] * REQUESTS_MAX


@pytest.mark.rule("G30")
def test_a_slow_line_is_asked_for_less() -> None:
    gather, wire = a_gather(1000)
    waiting, now = requests(gather.start(0.0)), 0.0
    for _ in range(40):
        now += 1.1 * SLOW_S
        asked = waiting.pop(0)
        waiting += requests(gather.receive(asked, chunks(wire, asked), now))
    assert sum(asked.count for asked in waiting) == 1


@pytest.mark.rule("G30")
def test_after_a_loss_one_chunk_is_asked_for_alone_and_after_growing_pauses() -> None:
    gather, _ = a_gather(100)
    first, *others = requests(gather.start(0.0))
    for asked in others:
        assert gather.lost(asked, 100.0) == ()
    starts, asked = [], first
    for _ in range(RETRIES_MAX):
        (effect,) = gather.lost(asked, 100.0)
        assert isinstance(effect, Call)
        assert isinstance(effect.message, ChunkRequest)
        asked = effect.message
        assert (asked.first, asked.count) == (0, 1)
        starts.append(effect.start_at - 100.0)
    assert starts == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert isinstance(gather.lost(asked, 100.0)[0], GiveUp)


def test_nothing_is_asked_or_taken_at_the_deadline() -> None:
    assert isinstance(a_gather(5, deadline=1.0)[0].start(1.0)[0], GiveUp)
    gather, wire = a_gather(5, deadline=7.0)
    (first, *_) = gather.start(0.0)
    assert isinstance(first, Call)
    assert first.timeout_s == 7.0
    assert isinstance(first.message, ChunkRequest)
    assert isinstance(gather.receive(first.message, chunks(wire, first.message), 7.0)[0], GiveUp)
    late, _ = a_gather(1, deadline=7.0)
    (asked,) = requests(late.start(0.0))
    assert isinstance(late.lost(asked, 6.9)[0], GiveUp)
    assert isinstance(late.lost(asked, 7.5)[0] if late.deadline else GiveUp(""), GiveUp)


@pytest.mark.parametrize(
    "reply",
    [NotYet(), Taken(), Offered(OFFER, b""), Chunks(())],
    ids=lambda reply: type(reply).__name__,
)
def test_only_the_chunks_that_were_asked_for_are_in_turn(reply: ExchangeReply) -> None:
    gather, wire = a_gather(100)
    asked = requests(gather.start(0.0))[1]
    with pytest.raises(OutOfTurn):
        gather.receive(asked, reply, 1.0)
    assert requests(gather.receive(asked, chunks(wire, asked), 1.0))


@pytest.mark.rule("G9")
def test_chunks_that_are_wrong_missing_or_too_many_are_refused() -> None:
    gather, wire = a_gather(100)
    asked = requests(gather.start(0.0))[1]
    honest = [bytes(part) for part in chunks(wire, asked).parts]
    other = chunks(wire, ChunkRequest(OFFER.payload_hash, 0, asked.count)).parts
    for parts in (
        honest[:-1],
        [*honest, honest[0]],
        [*honest[1:], honest[0]],
        [honest[0][:-1], *honest[1:]],
        [bytes(SIZE), *honest[1:]],
        other,
    ):
        with pytest.raises(PeerFault):
            gather.receive(asked, some_chunks(*parts), 1.0)
    assert requests(gather.receive(asked, some_chunks(*honest), 1.0))


def test_a_manifest_of_one_short_chunk_is_whole_at_once() -> None:
    gather = ChunkScheduler(OFFER, Manifest(3, SIZE, manifest(b"abc", SIZE).hashes), deadline=9.0)
    (asked,) = requests(gather.start(0.0))
    assert gather.receive(asked, some_chunks(b"abc"), 1.0) == (Deliver(OFFER, b"abc"),)


def a_started(
    num_chunks: int, first_count: int
) -> tuple[ChunkScheduler, bytes, list[ChunkRequest]]:
    wire = random.Random(num_chunks).randbytes(SIZE * num_chunks - 3)
    gather = ChunkScheduler(
        OFFER, manifest(wire, SIZE), deadline=1000.0, first_counts=(first_count,)
    )
    return gather, wire, requests(gather.start(0.0))


def first_of(wire: bytes, count: int) -> Chunks:
    return chunks(wire, ChunkRequest(OFFER.payload_hash, 0, count))


@pytest.mark.rule("G27")
def test_chunks_asked_for_with_the_offer_count_in_the_budget_and_are_not_asked_for_again() -> None:
    gather, wire, asked = a_started(100, FIRST_COUNT)
    assert [one.first for one in asked] == [8, 18]
    assert FIRST_COUNT + sum(one.count for one in asked) <= BUDGET_FIRST
    waiting = asked + requests(gather.receive_first(0, first_of(wire, FIRST_COUNT), 1.0))
    seen = list(range(FIRST_COUNT))
    while True:
        one = waiting.pop(0)
        seen += range(one.first, one.first + one.count)
        effects = gather.receive(one, chunks(wire, one), 1.0)
        if effects and isinstance(effects[0], Deliver):
            break
        waiting += requests(effects)
    assert sorted(seen) == list(range(100))
    assert effects == (Deliver(OFFER, wire),)


def test_what_is_left_of_the_budget_is_asked_for_too_unless_it_is_little() -> None:
    wire = random.Random(100).randbytes(SIZE * 100)
    gather = ChunkScheduler(OFFER, manifest(wire, SIZE), deadline=9.0, first_counts=(8, 8))
    assert [(one.first, one.count) for one in requests(gather.start(0.0))] == [(16, 10), (26, 6)]


def test_a_fragment_of_few_chunks_is_whole_with_the_first_answer() -> None:
    gather, wire, asked = a_started(3, FIRST_COUNT)
    assert asked == []
    assert gather.receive_first(0, first_of(wire, 3), 1.0) == (Deliver(OFFER, wire),)


@pytest.mark.rule("G27")
def test_first_chunks_that_nobody_had_are_asked_for_like_any_others_and_cost_nothing() -> None:
    gather, wire, asked = a_started(100, FIRST_COUNT)
    (again,) = requests(gather.receive_first(0, NotYet(), 1.0))
    assert (again.first, again.count) == (0, FIRST_COUNT)
    assert requests(gather.receive(asked[0], chunks(wire, asked[0]), 1.5)), "no pause, full budget"
    late = a_started(100, FIRST_COUNT)[0]
    assert isinstance(late.receive_first(0, NotYet(), 1000.0)[0], GiveUp)
    few, wire, _ = a_started(3, FIRST_COUNT)
    (whole,) = requests(few.receive_first(0, NotYet(), 1.0))
    assert (whole.first, whole.count) == (0, 3)


def test_first_chunks_behind_the_last_one_are_nothing_whatever_is_said_of_them() -> None:
    wire = random.Random(9).randbytes(9 * SIZE)
    for reply in (NotYet(), Taken(), some_chunks(), some_chunks(b"more")):
        gather = ChunkScheduler(
            OFFER, manifest(wire, SIZE), deadline=9.0, first_counts=(4, 4, 4, 4)
        )
        assert gather.start(0.0) == ()
        assert gather.receive_first(3, reply, 1.0) == ()
        for number, first, size in ((0, 0, 4), (2, 8, 1), (1, 4, 4)):
            part = chunks(wire, ChunkRequest(OFFER.payload_hash, first, size))
            effects = gather.receive_first(number, part, 1.0)
        assert effects == (Deliver(OFFER, wire),)


@pytest.mark.rule("G27")
@pytest.mark.parametrize("count", [0, 1, FIRST_COUNT - 1, FIRST_COUNT + 1])
def test_another_number_of_first_chunks_than_there_must_be_is_the_peers_fault(count: int) -> None:
    gather, wire, _ = a_started(100, FIRST_COUNT)
    with pytest.raises(OutOfTurn):
        gather.receive_first(0, first_of(wire, count), 1.0)
    few, wire, _ = a_started(3, FIRST_COUNT)
    with pytest.raises(OutOfTurn):
        few.receive_first(0, first_of(wire + bytes(100), FIRST_COUNT), 1.0)


@pytest.mark.rule("G27")
def test_false_first_chunks_are_found_out() -> None:
    gather, wire, _ = a_started(100, FIRST_COUNT)
    with pytest.raises(PeerFault):
        gather.receive_first(0, first_of(bytes(len(wire)), FIRST_COUNT), 1.0)
