"""A poisoned partner among the honest: they go on, their loss falls, and what they did still replays."""

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import trio
from trio.testing import MockClock

from swarm.config.spec import NANO, RunSpec
from swarm.gossip.trade.messages import FragmentKey
from swarm.gossip.trade.outbox import NO_STANDBY, NoteOffer, StandbyReceivers
from swarm.gossip.trade.payload import FragmentPayload
from swarm.gossip.trade.service import Trades
from swarm.primitives.codec import replace as changed
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import SegmentLog
from swarm.training.shard import Shard
from swarm.types import PeerId, RoundIndex, StageIndex
from swarm.verify.replay import replay
from swarm.verify.transcript import window_results
from tests.node.fakes import FakeNode, a_trading_node
from tests.node.trading import begin_trade
from tests.training.pipeline import TEXT, Swarm, a_spec

ROUNDS = 8
CLEAN_ROUNDS = 4
"""Before the poison: what is usual has to be known."""
SEATS = 3
POISONER = 2
ROUND_S = 12.0
STAGE = StageIndex(0)
TOKENS = np.frombuffer(TEXT, dtype=np.uint8)


class Poisoned(Trades):
    """A trader that offers other weights than it has."""

    factor = 1.0

    def publish(
        self,
        key: FragmentKey,
        snapshot: FragmentPayload,
        *,
        partner: PeerId | None,
        fallbacks: StandbyReceivers = NO_STANDBY,
        outdated: Iterable[FragmentKey] = (),
        note: NoteOffer | None = None,
    ) -> None:
        if key.round >= CLEAN_ROUNDS:
            snapshot = replace(snapshot, theta=snapshot.theta * self.factor)
        others: dict[str, Any] = {"fallbacks": fallbacks, "outdated": outdated, "note": note}
        super().publish(key, snapshot, partner=partner, **others)


def a_run(*, distance_max: float, loss_margin: float) -> RunSpec:
    spec = a_spec(stages=1, steps=6)
    outer = changed(
        spec.outer,
        codec="bf16",
        distance_max_nano=round(distance_max * NANO),
        loss_margin_nano=round(loss_margin * NANO),
        alpha_nano=0,
    )
    return changed(
        spec,
        model=changed(spec.model, num_layers=1),
        rounds=ROUNDS,
        outer=outer,
        deadlines=changed(spec.deadlines, exchange_ms=6_000),
    )


def trained(
    spec: RunSpec, factor: float
) -> tuple[Swarm, list[tuple[RoundPlan, dict[Any, SegmentLog]]]]:
    """All rounds; the last seat multiplies what it offers from the fifth on."""
    swarm, out = Swarm(spec, SEATS, buffer=200), list[tuple[RoundPlan, dict[Any, SegmentLog]]]()
    contexts = list[FakeNode]()
    for index in range(SEATS):
        host = swarm.nodes[0, index].host
        node = a_trading_node(host, Poisoned if index == POISONER else Trades)
        if isinstance(node.trades, Poisoned):
            node.trades.factor = factor
        contexts.append(node)

    async def one(plan: RoundPlan, me: int, fragment: int) -> None:
        await begin_trade(contexts[me], swarm.nodes[0, me].runner, plan, fragment)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for node in swarm.nodes.values():
                nursery.start_soon(node.runner.run)
                nursery.start_soon(node.keep_windows)
            for number in range(ROUNDS):
                plan = replace(swarm.plan, round=RoundIndex(number))
                for node in swarm.nodes.values():
                    await node.runner.begin_round(plan, None)
                await trio.sleep(1.0)
                for me in range(SEATS):
                    for fragment in range(spec.outer.fragments):
                        nursery.start_soon(one, plan, me, fragment)
                await trio.sleep(ROUND_S)
                logs = {key: await node.runner.close_round() for key, node in swarm.nodes.items()}
                out.append((plan, logs))
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return swarm, out


def last_loss(rounds: list[tuple[RoundPlan, dict[Any, SegmentLog]]]) -> float:
    """Of the honest, in nats; infinite when one of them has no finite loss left to measure."""
    _, logs = rounds[-1]
    honest = (log for (_, index), log in logs.items() if index != POISONER)
    return max(log.loss_micro / 1e6 if log.loss_count else math.inf for log in honest)


@cache
def unpoisoned(spec: RunSpec) -> list[tuple[RoundPlan, dict[Any, SegmentLog]]]:
    return trained(spec, 1.0)[1]


@pytest.mark.rule("S12")
@pytest.mark.parametrize("factor", [100.0, -3.0])
def test_a_poisoned_partner_is_survived_where_it_is_doubted(factor: float) -> None:
    doubting = a_run(distance_max=1.5, loss_margin=0.2)
    swarm, rounds = trained(doubting, factor)
    trusting = trained(a_run(distance_max=0, loss_margin=0), factor)[1]
    clean = unpoisoned(doubting)
    assert all(log.num_steps for _, logs in rounds for log in logs.values()), "no peer stops"
    assert last_loss(rounds) < last_loss(trusting)
    assert last_loss(rounds) < 1.35 * last_loss(clean)
    for index in range(SEATS - 1):
        assert bool(torch.isfinite(swarm.nodes[0, index].runner.shard.params_P).all())
    shard = Shard.initial(doubting, STAGE)
    for plan, logs in rounds[CLEAN_ROUNDS:]:
        windows = [d for d in swarm.nodes[0, 0].windows if d.key.round == plan.round]
        anchors = {shard.anchor_root: shard.anchor_P}
        results = [replay(plan, data, TOKENS, anchors) for data in windows]
        assert results == window_results(logs[0, 0])
