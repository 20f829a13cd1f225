"""The door of the pipeline: strangers and impossible rounds take no place from those who train."""

import pytest
import trio
from trio.testing import MockClock

from swarm.errors import Unreachable
from swarm.primitives.codec import LONGEST_FRAME_BYTES, decode, encode, replace
from swarm.primitives.crypto import SecretKey
from swarm.training.messages import (
    MicroBatch,
    MicroBatchGrad,
    MicroBatchRefused,
    Refusal,
    decode_answer,
    sign_microbatch,
)
from swarm.training.pipeline import CONCURRENCY_MAX, EARLY_STRANGERS_MAX, PER_PEER_MAX, PROTOCOL
from swarm.types import RoundIndex
from tests.fakes import FakeHost
from tests.training.pipeline import CHAIN, Swarm, a_spec

HOP_S = 1.0


def a_request(swarm: Swarm, secret: SecretKey, **changes: object) -> bytes:
    """An honest micro-batch of round 0 from seat 0 of stage 0, before ``changes``."""
    shard, plan = swarm.nodes[0, 0].runner.shard, swarm.plan
    payload, _ = shard.forward_tokens(swarm.nodes[0, 0].runner.jobs._tokens, plan, 0, 0, 0)
    spec = swarm.spec
    shape = (spec.microbatch_size, spec.model.seq_len, spec.model.hidden_size)
    message_id = (plan.run, plan.round, 0, 0, 0, 1, 0, 0, 1, 0)
    request = MicroBatch(*message_id, round(HOP_S * 1000), *shape, payload, b"")  # type: ignore[arg-type]
    return encode(sign_microbatch(secret, CHAIN, plan.run_digest, replace(request, **changes)))


async def ask(asker: FakeHost, swarm: Swarm, raw: bytes) -> tuple[object, float]:
    """The answer, or what came instead, and how long it took."""
    began = trio.current_time()
    try:
        peer, limit = swarm.nodes[1, 0].host.peer, LONGEST_FRAME_BYTES
        answer = await asker.call(peer, PROTOCOL, raw, timeout_s=60, reply_limit=limit)
    except Unreachable as error:
        return error, trio.current_time() - began
    return decode_answer(answer), trio.current_time() - began


@pytest.mark.rule("S6")
@pytest.mark.parametrize(
    "changes",
    [{"round": RoundIndex(1 << 53)}, {"round": RoundIndex(2)}, {"round": RoundIndex(1)}],
    ids=["never", "the one after the next", "the next"],
)
async def test_a_round_that_is_not_here_holds_nobody_longer_than_a_hop(
    autojump_clock: MockClock, changes: dict[str, object]
) -> None:
    swarm = Swarm(a_spec(), 1)
    await swarm.nodes[1, 0].runner.begin_round(swarm.plan, None)
    seat = swarm.nodes[0, 0].host
    answer, took_s = await ask(seat, swarm, a_request(swarm, seat.secret, **changes))
    assert answer == MicroBatchRefused(Refusal.BUSY)
    assert took_s <= HOP_S + 0.1
    assert swarm.nodes[1, 0].host.blamed == []


async def test_the_longest_micro_batch_is_taken_and_answered(autojump_clock: MockClock) -> None:
    """A payload of 8 MiB up, and as much down."""
    model = replace(a_spec().model, seq_len=128, hidden_size=32)
    swarm = Swarm(replace(a_spec(), model=model, microbatch_size=1024), 1)
    await swarm.nodes[1, 0].runner.begin_round(swarm.plan, None)
    seat = swarm.nodes[0, 0].host
    answer, _ = await ask(seat, swarm, a_request(swarm, seat.secret))
    assert isinstance(answer, MicroBatchGrad)
    assert len(answer.payload) == 8 << 20


@pytest.mark.rule("S6")
@pytest.mark.parametrize("budget_ms", [-1, 1_001, 600_000, 1 << 53])
@pytest.mark.parametrize("round_index", [0, 1])
async def test_nobody_asks_for_more_time_than_a_hop(
    autojump_clock: MockClock, budget_ms: int, round_index: int
) -> None:
    swarm = Swarm(a_spec(), 1)
    await swarm.nodes[1, 0].runner.begin_round(swarm.plan, None)
    seat = swarm.nodes[0, 0].host
    raw = a_request(swarm, seat.secret, budget_ms=budget_ms, round=RoundIndex(round_index))
    _, took_s = await ask(seat, swarm, raw)
    assert took_s <= 0.1
    assert swarm.nodes[1, 0].host.faults() == {seat.peer: 1}


@pytest.mark.rule("S6")
async def test_a_crowd_of_strangers_leaves_places_for_those_who_train(
    autojump_clock: MockClock,
) -> None:
    """As many strangers as fill every place of a node, each as often as one peer may, for the next round."""
    swarm = Swarm(a_spec(), 1)
    strangers = [swarm.network.host(100 + n) for n in range(CONCURRENCY_MAX // PER_PEER_MAX)]
    await swarm.nodes[1, 0].runner.begin_round(swarm.plan, None)
    waited = list[float]()

    async def push(stranger: FakeHost) -> None:
        raw = a_request(swarm, stranger.secret, round=RoundIndex(1))
        waited.append((await ask(stranger, swarm, raw))[1])

    async with trio.open_nursery() as nursery:
        for stranger in strangers:
            for _ in range(PER_PEER_MAX):
                nursery.start_soon(push, stranger)
        await trio.sleep(0.1)
        seat = swarm.nodes[0, 0].host
        raw = a_request(swarm, seat.secret)
        answer, took_s = await ask(seat, swarm, raw)
        assert not isinstance(answer, MicroBatchRefused | Unreachable)
        assert took_s < 0.2
    assert sum(took_s > 0.5 for took_s in waited) == EARLY_STRANGERS_MAX
    assert decode(MicroBatch, raw).round == 0


@pytest.mark.rule("S6")
async def test_a_stranger_in_this_round_is_blamed_at_once(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(), 1)
    await swarm.nodes[1, 0].runner.begin_round(swarm.plan, None)
    stranger = swarm.network.host(100)
    _, took_s = await ask(stranger, swarm, a_request(swarm, stranger.secret))
    assert took_s <= 0.1
    assert swarm.nodes[1, 0].host.faults() == {stranger.peer: 1}
