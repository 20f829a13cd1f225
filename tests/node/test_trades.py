"""Two nodes trade as nodes do, over links that lose, and what they did replays bit for bit."""

from collections.abc import Sequence

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from swarm.config.spec import RunSpec
from swarm.gossip.trade.messages import Codec
from swarm.primitives.codec import replace
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import MergeRecord, SegmentLog, StepRecord
from swarm.training.record.window import FragmentMerged, WindowData
from swarm.training.shard import Shard
from swarm.types import RoundIndex, StageIndex
from swarm.verify.replay import replay
from swarm.verify.transcript import COMPONENTS, window_results
from tests.node.fakes import a_trading_node
from tests.node.trading import begin_trade
from tests.training.pipeline import TEXT, Swarm, a_spec

ROUNDS = 3
"""The last tenth is one of them."""
ROUND_S = 20.0
TOKENS = np.frombuffer(TEXT, dtype=np.uint8)
STAGE = StageIndex(0)
RESIDUAL = COMPONENTS.index("residual")


def a_run(codec: str, *, two: bool) -> RunSpec:
    spec = a_spec(stages=1, steps=8, numerics="seq-f32/1")
    gamma = 900_000_000 if two else spec.outer.beta_nano
    outer = replace(spec.outer, codec=codec, gamma_nano=gamma)
    deadlines = replace(spec.deadlines, exchange_ms=8_000)
    model = replace(spec.model, num_layers=1)
    return replace(spec, model=model, rounds=ROUNDS, outer=outer, deadlines=deadlines)


class Traders:
    """Two seats of one stage, with real runners, trades and messages."""

    def __init__(self, spec: RunSpec, loss: float, pulls_only: Sequence[int]) -> None:
        self.spec, self.pulls_only = spec, pulls_only
        self.swarm = Swarm(spec, 2, buffer=100)
        self.swarm.network.loss = loss
        self.contexts = [a_trading_node(self.swarm.nodes[0, index].host) for index in (0, 1)]

    async def train(self) -> list[tuple[RoundPlan, dict[tuple[int, int], SegmentLog]]]:
        done, nodes = [], self.swarm.nodes
        async with trio.open_nursery() as nursery:
            for context in self.contexts:
                nursery.start_soon(context.trades.run)
            for node in nodes.values():
                nursery.start_soon(node.runner.run)
                nursery.start_soon(node.keep_windows)
            for number in range(ROUNDS):
                seats = self.swarm.plan.rosters[0]
                trailing = (replace(s, trails=s.index in self.pulls_only) for s in seats)
                rosters = (tuple(trailing),)
                plan = replace(self.swarm.plan, round=RoundIndex(number), rosters=rosters)
                for node in nodes.values():
                    await node.runner.begin_round(plan, None)
                await trio.sleep(1.0)
                for fragment in range(self.spec.outer.fragments):
                    for me in (0, 1):
                        nursery.start_soon(self._trade, plan, me, fragment)
                await trio.sleep(ROUND_S)
                logs = {key: await node.runner.close_round() for key, node in nodes.items()}
                done.append((plan, logs))
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
        return done

    async def _trade(self, plan: RoundPlan, me: int, fragment: int) -> None:
        await begin_trade(self.contexts[me], self.swarm.nodes[0, me].runner, plan, fragment)


def trained(
    spec: RunSpec, *, loss: float = 0.0, pulls_only: Sequence[int] = ()
) -> tuple[Traders, list[tuple[RoundPlan, dict[tuple[int, int], SegmentLog]]]]:
    async def main() -> tuple[Traders, list[tuple[RoundPlan, dict[tuple[int, int], SegmentLog]]]]:
        traders = Traders(spec, loss, pulls_only)
        return traders, await traders.train()

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def windows_of(traders: Traders, index: int, number: int) -> list[WindowData]:
    windows = traders.swarm.nodes[0, index].windows
    return [data for data in windows if data.key.round == number]


def check_replay(
    traders: Traders, plan: RoundPlan, log: SegmentLog, windows: list[WindowData]
) -> None:
    shard = Shard.initial(traders.spec, STAGE)
    anchors = {shard.anchor_root: shard.anchor_P}
    assert [replay(plan, data, TOKENS, anchors) for data in windows] == window_results(log)


def merges(windows: list[WindowData]) -> list[FragmentMerged]:
    return [event for data in windows for event in data.events if isinstance(event, FragmentMerged)]


@pytest.mark.parametrize("two", [False, True], ids=["one tensor", "two tensors"])
@pytest.mark.parametrize("codec", ["int8", "int4", "int4-mean", "int3-mean", "bf16"])
def test_two_nodes_trade_in_the_runs_codec_and_their_windows_replay(codec: str, two: bool) -> None:
    traders, rounds = trained(a_run(codec, two=two))
    for plan, logs in rounds:
        is_early = plan.round < ROUNDS - 1
        fed_back = codec == "int4" and is_early
        coarse = Codec.INT4 if is_early or codec == "int4-mean" else Codec.INT8
        due = {"int8": Codec.INT8, "bf16": Codec.BF16, "int3-mean": Codec.INT3}.get(codec, coarse)
        for (_, index), log in logs.items():
            windows = windows_of(traders, index, plan.round)
            check_replay(traders, plan, log, windows)
            traded = merges(windows)
            assert len(traded) == traders.spec.outer.fragments
            assert {one.offer.codec for one in traded if one.offer} == {due}
            assert all((one.receipt is not None) == fed_back for one in traded)
            assert (log.start[RESIDUAL] != log.end[RESIDUAL]) == fed_back
    assert all(not node.host.blamed for node in traders.swarm.nodes.values())


@pytest.mark.parametrize("loss", [0.1, 0.2, 0.5])
def test_what_was_lost_on_the_way_replays_too(loss: float) -> None:
    traders, rounds = trained(a_run("int4", two=False), loss=loss)
    seen = set[tuple[bool, bool]]()
    for plan, logs in rounds:
        for (_, index), log in logs.items():
            windows = windows_of(traders, index, plan.round)
            check_replay(traders, plan, log, windows)
            before = log.start[RESIDUAL]
            records = [record for record in log.records if isinstance(record, MergeRecord)]
            for one, record in zip(merges(windows), records, strict=True):
                after = record.components[RESIDUAL]
                assert (after != before) == (one.receipt is not None)
                before = after
                seen.add((one.receipt is not None, one.offer is not None))
    assert {has_receipt for has_receipt, _ in seen} == ({False, True} if loss < 0.5 else {False})
    assert any(isinstance(record, StepRecord) for record in rounds[0][1][0, 0].records)


@pytest.mark.rule("T21b")
def test_what_a_partner_that_only_pulls_acknowledged_moves_the_residual_of_a_solo_step() -> None:
    traders, rounds = trained(a_run("int4", two=False), pulls_only=(1,))
    for plan, logs in rounds:
        windows = windows_of(traders, 0, plan.round)
        solo = merges(windows)
        assert solo
        assert all(one.offer is None for one in solo)
        assert all((one.receipt is not None) == (plan.round < ROUNDS - 1) for one in solo)
        check_replay(traders, plan, logs[0, 0], windows)
    giver, taker = (context.stats for context in traders.contexts)
    assert giver.solo == taker.trades > 0, "what goes one way is no trade that was missed"
    assert all(note.is_one_way and not note.is_done and note.target for note in giver.notes)
    assert all(note.is_done and not note.is_one_way for note in taker.notes)
