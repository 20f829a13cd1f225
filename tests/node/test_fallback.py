"""When a drawn partner fails, its place is taken: along edges that every peer can recheck, and it replays."""

from dataclasses import replace

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from swarm.config.spec import RunSpec
from swarm.errors import OutOfTurn
from swarm.primitives.codec import replace as changed
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import MergeRecord, SegmentLog
from swarm.training.shard import Shard
from swarm.training.terms import is_standby, terms_of
from swarm.types import RoundIndex, StageIndex
from swarm.verify.replay import replay
from swarm.verify.transcript import window_results
from tests.node.fakes import a_trading_node
from tests.node.trading import begin_trade
from tests.training.pipeline import TEXT, Swarm, a_spec

SEATS, ROUNDS = 5, 4
ROUND_S = 20.0
STAGE = StageIndex(0)
TOKENS = np.frombuffer(TEXT, dtype=np.uint8)


def a_run(num_retries: int, codec: str = "int8") -> RunSpec:
    spec = a_spec(stages=1, steps=4, numerics="seq-f32/1")
    outer = changed(spec.outer, num_retries=num_retries, codec=codec, pull_only_rounds=0)
    deadlines = changed(spec.deadlines, exchange_ms=8_000)
    model = changed(spec.model, num_layers=1)
    return changed(spec, model=model, rounds=ROUNDS, outer=outer, deadlines=deadlines)


class SimulatedRun:
    """Seats of one stage that trade as nodes do."""

    def __init__(self, spec: RunSpec, dead: tuple[int, ...], loss: float) -> None:
        self.spec, self.swarm = spec, Swarm(spec, SEATS, buffer=200)
        self.swarm.network.loss = loss
        self.alive = [index for index in range(SEATS) if index not in dead]
        for index in dead:
            self.swarm.nodes[0, index].host.is_alive = False
        self.contexts = {
            index: a_trading_node(self.swarm.nodes[0, index].host) for index in self.alive
        }
        self.rounds = list[tuple[RoundPlan, dict[int, SegmentLog]]]()

    async def train(self) -> None:
        runners = {index: self.swarm.nodes[0, index].runner for index in self.alive}
        async with trio.open_nursery() as nursery:
            for index in self.alive:
                nursery.start_soon(runners[index].run)
                nursery.start_soon(self.swarm.nodes[0, index].keep_windows)
                nursery.start_soon(self.contexts[index].trades.run)
            for number in range(ROUNDS):
                plan = replace(self.swarm.plan, round=RoundIndex(number))
                for runner in runners.values():
                    await runner.begin_round(plan, None)
                await trio.sleep(1.0)
                for me in self.alive:
                    for fragment in range(self.spec.outer.fragments):
                        nursery.start_soon(self._trade, plan, me, fragment)
                await trio.sleep(ROUND_S)
                logs = {index: await runners[index].close_round() for index in self.alive}
                self.rounds.append((plan, logs))
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()

    async def _trade(self, plan: RoundPlan, me: int, fragment: int) -> None:
        await begin_trade(self.contexts[me], self.swarm.nodes[0, me].runner, plan, fragment)

    def merges(self) -> list[tuple[RoundPlan, int, MergeRecord]]:
        return [
            (plan, index, record)
            for plan, logs in self.rounds
            for index, log in logs.items()
            for record in log.records
            if isinstance(record, MergeRecord)
        ]

    def check_replays(self) -> None:
        shard = Shard.initial(self.spec, STAGE)
        anchors = {shard.anchor_root: shard.anchor_P}
        for plan, logs in self.rounds:
            for index, log in logs.items():
                kept = self.swarm.nodes[0, index].windows
                windows = [data for data in kept if data.key.round == plan.round]
                results = [replay(plan, data, TOKENS, anchors) for data in windows]
                assert results == window_results(log)


def trained(spec: RunSpec, *, dead: tuple[int, ...] = (), loss: float = 0.0) -> SimulatedRun:
    simulated = SimulatedRun(spec, dead, loss)
    trio.run(simulated.train, clock=MockClock(autojump_threshold=0))
    assert len(simulated.merges()) == len(simulated.alive) * ROUNDS * spec.outer.fragments
    assert not [node for node in simulated.swarm.nodes.values() if node.host.blamed]
    return simulated


def num_solo(simulated: SimulatedRun) -> int:
    return sum(record.partner is None for _, _, record in simulated.merges())


@pytest.mark.rule("N12", "T18b")
@pytest.mark.parametrize("codec", ["int8", "int4"])
def test_whose_partner_is_dead_trades_with_another_and_both_sides_replay(codec: str) -> None:
    simulated = trained(a_run(1, codec), dead=(4,))
    without = trained(a_run(0, codec), dead=(4,))
    assert num_solo(simulated) < num_solo(without)
    stepped_in = 0
    for plan, index, record in simulated.merges():
        terms = terms_of(plan, STAGE, index, record.exchange)
        if record.partner is not None and (
            terms is None or terms.partner.index != record.partner_seat
        ):
            stepped_in += 1
            where = (record.exchange, index, record.partner_seat, record.partner)
            assert is_standby(plan, STAGE, *where)
    assert stepped_in
    assert any(
        "in place of" in text for one in simulated.contexts.values() for text in one.report.texts()
    )
    simulated.check_replays()


@pytest.mark.rule("T18b")
def test_a_merge_with_whom_the_run_lets_nobody_turn_to_is_refused() -> None:
    simulated = trained(a_run(1), dead=(4,))
    shard = Shard.initial(simulated.spec, STAGE)
    refused = 0
    for plan, index, record in simulated.merges():
        terms = terms_of(plan, STAGE, index, record.exchange)
        if record.partner is None or (terms and terms.partner.index == record.partner_seat):
            continue
        stricter = replace(plan, spec=a_run(0))
        for data in simulated.swarm.nodes[0, index].windows:
            if data.key.round == plan.round:
                with pytest.raises(OutOfTurn, match="did not choose"):
                    replay(stricter, data, TOKENS, {shard.anchor_root: shard.anchor_P})
                refused += 1
    assert refused


def test_the_seat_that_is_left_over_is_solo_no_more() -> None:
    simulated, without = trained(a_run(1)), trained(a_run(0))
    assert num_solo(without) == ROUNDS * simulated.spec.outer.fragments
    assert not num_solo(simulated)
    simulated.check_replays()


@pytest.mark.rule("N12")
def test_a_seat_gives_to_as_many_standbys_as_the_run_says() -> None:
    simulated = trained(a_run(1), dead=(2, 4))
    for plan, _ in simulated.rounds:
        taken: dict[tuple[int, int], list[int]] = {}
        for at, index, record in simulated.merges():
            if at.round == plan.round and record.partner is not None:
                taken.setdefault((record.partner_seat, record.exchange), []).append(index)
        for (seat, fragment), receivers in taken.items():
            terms = terms_of(plan, STAGE, seat, fragment)
            others = [i for i in receivers if terms is None or terms.partner.index != i]
            assert len(others) <= 1
    simulated.check_replays()


@pytest.mark.rule("N12")
@pytest.mark.parametrize("loss", [0.2, 0.5])
def test_over_links_that_lose_everybody_ends_its_trades_in_time_and_replays(loss: float) -> None:
    trained(a_run(2), loss=loss).check_replays()
