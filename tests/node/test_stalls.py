"""No inner step ever waits for an exchange; a partner that stalls leaves a whole outer step, or one alone.

A replica trains in virtual time while its partner stalls at every chunk in turn. The trace of its arithmetic is
that of a replica that trades with no peer.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import trio
import trio._core._run as trio_run
from trio.testing import MockClock

from swarm.config.spec import RunSpec
from swarm.gossip.trade import outbox, payload, pull
from swarm.gossip.trade.messages import ChunkRequest, FirstChunks, OfferRequest, Receipt
from swarm.primitives.codec import replace as changed
from swarm.testing.executor import InlineExecutor
from swarm.training.averaging.outer_step import Merge, OuterState, apply_merge
from swarm.training.record.segment import MergeRecord
from swarm.training.shard import Shard
from swarm.types import RoundIndex, StageIndex
from swarm.verify.replay import replay
from swarm.verify.transcript import window_results
from tests.conftest import SEED
from tests.gossip.trade.stalling import (
    Manner,
    Stalling,
    drips,
    mixes_up,
    overtakes,
    stalls,
    vanishes,
)
from tests.node.fakes import a_trading_node
from tests.node.trading import begin_trade
from tests.training.pipeline import JOB_S, TEXT, Swarm, a_spec

TOKENS = np.frombuffer(TEXT, dtype=np.uint8)
ROUND = RoundIndex(0)
EXCHANGE_S = 0.4
ROUND_S = 1.0
STEPS = 10
TRAINING = ("loss_tokens", "forward_tokens", "loss", "backward", "forward", "step")
"""What an inner step is made of; the rest costs nothing here, so that only waiting could show."""
CHUNK_BYTES = 2048
"""A fragment is three of them or, where it is hardly compressed, four; each is asked for alone."""
CHUNKS = 3


@dataclass
class Trace:
    """What one seat computed, and when."""

    jobs: list[tuple[str, float]] = field(default_factory=list)
    moved: list[tuple[Merge, OuterState, OuterState, OuterState]] = field(default_factory=list)
    """Each merge: the slow half of its fragment before and after, and as it should be."""
    took_s: list[float] = field(default_factory=list)

    def cost_s(self, fn: Callable[..., Any]) -> float:
        name = fn.__name__
        if name in TRAINING:
            self.jobs.append((name, trio.current_time()))
            return JOB_S
        return 0.0

    def watch(self, shard: Shard) -> None:
        """Note every merge of a shard, and what it should come to."""
        merge_it = shard.merge

        def merge(merge: Merge) -> MergeRecord:
            merged = merge
            part = shard.spans[merged.snapshot.fragment].slice
            before = OuterState(shard.phi_P[part].clone(), shard.momentum_P[part].clone())
            due = apply_merge(merged, before, shard.params_P[part].clone())[0]
            record = merge_it(merged)
            after = OuterState(shard.phi_P[part].clone(), shard.momentum_P[part].clone())
            self.moved.append((merged, before, after, due))
            return record

        shard.merge = merge  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (payload, pull, outbox):
        monkeypatch.setattr(module, "EXCHANGE_CHUNK_BYTES", CHUNK_BYTES)
    for name in ("BUDGET_FIRST", "BUDGET_MAX"):
        monkeypatch.setattr(pull, name, pull.REQUESTS_MAX)
    monkeypatch.setattr(pull, "FIRST_COUNTS", ())


def a_run(stages: int) -> RunSpec:
    spec = a_spec(stages=stages, steps=STEPS)
    return changed(spec, deadlines=changed(spec.deadlines, exchange_ms=round(EXCHANGE_S * 1000)))


class Replica:
    """Two seats in each stage; seat 0 of stage 0 is watched, seat 1 is its partner, who stalls."""

    def __init__(self, spec: RunSpec) -> None:
        self.swarm, self.trace, self.spec = Swarm(spec, 2, buffer=100), Trace(), spec
        self.me = self.swarm.nodes[0, 0]
        for node in self.swarm.nodes.values():
            trace = self.trace if node is self.me else Trace()
            node.runner.jobs._compute = InlineExecutor(trace.cost_s)
        self.trace.watch(self.me.runner.shard)
        self.contexts = [a_trading_node(self.swarm.nodes[0, index].host) for index in (0, 1)]

    async def _trade(self, me: int, fragment: int) -> None:
        began = trio.current_time()
        await begin_trade(
            self.contexts[me], self.swarm.nodes[0, me].runner, self.swarm.plan, fragment
        )
        if me == 0:
            self.trace.took_s.append(trio.current_time() - began)

    async def _round(self, trades: bool) -> None:
        async with trio.open_nursery() as nursery:
            for context in self.contexts:
                nursery.start_soon(context.trades.run)
            for node in self.swarm.nodes.values():
                nursery.start_soon(node.runner.run)
                nursery.start_soon(node.keep_windows)
            for node in self.swarm.nodes.values():
                await node.runner.begin_round(self.swarm.plan, None)
            await trio.sleep(0.1)
            for fragment in range(self.spec.outer.fragments) if trades else ():
                for me in (0, 1):
                    nursery.start_soon(self._trade, me, fragment)
            await trio.sleep(ROUND_S)
            self.log = await self.me.runner.close_round()
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()

    def run(self, *, trades: bool = True) -> Trace:
        trio_run._r = random.Random(SEED)  # the same order of tasks at one instant in every run
        trio.run(self._round, trades, clock=MockClock(autojump_threshold=0))
        return self.trace


def check_step(replica: Replica, *, is_solo: bool) -> None:
    """Each fragment was merged once, wholly, and nothing else moved the slow half."""
    shard, trace = replica.me.runner.shard, replica.trace
    assert len(trace.moved) == replica.spec.outer.fragments
    phi_P = Shard.initial(replica.spec, StageIndex(0)).phi_P
    for merge, before, after, due in trace.moved:
        part = shard.spans[merge.snapshot.fragment].slice
        assert torch.equal(before.phi_F, phi_P[part])
        assert torch.equal(after.phi_F, due.phi_F)
        assert torch.equal(after.momentum_F, due.momentum_F)
        assert not is_solo or merge.theta_hat_P is None
        phi_P[part] = after.phi_F
    assert torch.equal(shard.phi_P, phi_P)


def check_replay(replica: Replica) -> None:
    """What the seat committed to comes out again, bit for bit."""
    start = Shard.initial(replica.spec, StageIndex(0))
    anchors = {start.anchor_root: start.anchor_P}
    results = [replay(replica.swarm.plan, data, TOKENS, anchors) for data in replica.me.windows]
    assert results == window_results(replica.log)


@pytest.fixture(scope="module")
def undisturbed() -> dict[int, list[tuple[str, float]]]:
    return {stages: Replica(a_run(stages)).run(trades=False).jobs for stages in (1, 2)}


def step_times(jobs: list[tuple[str, float]]) -> list[float]:
    return [at for name, at in jobs if name == "step"]


def chunks_of(merge: Merge) -> int:
    """Return the chunks of what was merged: how far a fragment can be compressed depends on its values."""
    assert merge.received is not None
    return -(-merge.received.offer.wire_bytes // CHUNK_BYTES)


def longest_gap(times: list[float]) -> float:
    return max(after - before for before, after in pairwise(times))


@pytest.mark.rule("G26", "S11")
def test_an_exchange_that_succeeds_delays_no_step(
    undisturbed: dict[int, list[tuple[str, float]]],
) -> None:
    replica = Replica(a_run(1))
    watching = Stalling(replica.swarm.nodes[0, 1].host, stalls, 1_000)
    trace = replica.run()
    assert watching.num_requests == sum(chunks_of(merge) for merge, *_ in trace.moved)
    assert trace.jobs == undisturbed[1]
    assert len(step_times(trace.jobs)) == STEPS
    assert all(merge.theta_hat_P is not None for merge, *_ in trace.moved)
    check_step(replica, is_solo=False)
    check_replay(replica)


def test_nor_in_a_pipeline(undisturbed: dict[int, list[tuple[str, float]]]) -> None:
    """Two origins feed two replicas of the next stage, so who is served first at one instant may change."""
    replica = Replica(a_run(2))
    Stalling(replica.swarm.nodes[0, 1].host, stalls, 1)
    trace = replica.run()
    now, then = step_times(trace.jobs), step_times(undisturbed[2])
    assert len(now) >= len(then) - 1, "the round may end before a last step that is two jobs later"
    assert longest_gap(now) <= longest_gap(then) + 2 * JOB_S + 0.001
    check_step(replica, is_solo=False)


def test_first_chunks_that_never_come_delay_no_step(
    undisturbed: dict[int, list[tuple[str, float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "FIRST_COUNTS", (1,))
    for manner, is_survived in ((stalls, False), (drips, False), (overtakes, True)):
        replica = Replica(a_run(1))
        Stalling(replica.swarm.nodes[0, 1].host, manner, 0, FirstChunks)
        trace = replica.run()
        assert trace.jobs == undisturbed[1]
        assert max(trace.took_s) <= EXCHANGE_S + 3 * JOB_S + 0.001
        assert is_survived == all(m.theta_hat_P is not None for m, *_ in trace.moved)
        check_step(replica, is_solo=not is_survived)
        check_replay(replica)


CASES = [
    *((manner, OfferRequest) for manner in (stalls, drips, vanishes)),
    *((manner, ChunkRequest) for manner in (stalls, drips, vanishes, mixes_up, overtakes)),
    *((manner, Receipt) for manner in (stalls, drips, vanishes)),
]


@pytest.mark.rule("G26", "S11", "S33")
@pytest.mark.parametrize(
    ("manner", "kind"), CASES, ids=[f"{m.__name__}-{k.__name__}" for m, k in CASES]
)
def test_a_partner_that_stalls_anywhere_delays_no_step(
    undisturbed: dict[int, list[tuple[str, float]]],
    manner: Manner,
    kind: type[OfferRequest | ChunkRequest | Receipt],
) -> None:
    fragments = a_run(1).outer.fragments
    for at in range(fragments * CHUNKS if kind is ChunkRequest else fragments):
        replica = Replica(a_run(1))
        Stalling(replica.swarm.nodes[0, 1].host, manner, at, kind)
        trace = replica.run()
        assert trace.jobs == undisturbed[1], at
        # A merge waits for the end of the step that is open: two micro-batches and the update.
        assert max(trace.took_s) <= EXCHANGE_S + 3 * JOB_S + 0.001, at
        is_survived = manner is overtakes or kind is Receipt
        assert is_survived == all(m.theta_hat_P is not None for m, *_ in trace.moved), at
        check_step(replica, is_solo=at == 0 and not is_survived and manner is not mixes_up)
        if at == 0:
            check_replay(replica)
