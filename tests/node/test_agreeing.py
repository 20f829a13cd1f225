"""Nodes agree at the end as nodes do: no steps, one model bit for bit, and any peer can replay it."""

import numpy as np
import pytest
import torch
import trio
from trio.testing import MockClock

from swarm.config.spec import NANO, RunSpec
from swarm.errors import OutOfTurn, PeerFault
from swarm.gossip.pairing import final_rounds
from swarm.gossip.trade.messages import Codec
from swarm.ledger.check_statements import check_statement_shape
from swarm.ledger.transition.checks import shown_claims
from swarm.node.seat.commits import commit_of
from swarm.primitives.codec import replace
from swarm.primitives.commitments import REFUSED, SALT_BYTES, leaves_root
from swarm.primitives.state_parts import PHI
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import MergeRecord, SegmentLog
from swarm.training.record.window import (
    FragmentMerged,
    WindowData,
)
from swarm.training.record.window_bytes import (
    decode_window,
    encode_window,
)
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.replay import Committed, answer, replay
from swarm.verify.transcript import merge_leaf, reveal_of, state_root, window_results
from tests.ledger.checking import a_case
from tests.node.fakes import a_trading_node
from tests.node.trading import begin_trade
from tests.training.pipeline import TEXT, Swarm, a_spec

TOKENS = np.frombuffer(TEXT, dtype=np.uint8)
STAGE = StageIndex(0)
ROUND_S = 20.0
Logs = dict[tuple[int, int], SegmentLog]


def a_run(*, two: bool = False, codec: str = "int8") -> RunSpec:
    spec = a_spec(stages=1, steps=4, numerics="seq-f32/1")
    gamma = 900_000_000 if two else spec.outer.beta_nano
    outer = replace(spec.outer, codec=codec, gamma_nano=gamma)
    return replace(
        spec, rounds=1, outer=outer, deadlines=replace(spec.deadlines, exchange_ms=8_000)
    )


class Ending:
    """One round of training of ``count`` seats without trades, then the rounds of final averaging."""

    def __init__(self, spec: RunSpec, count: int, loss: float = 0.0) -> None:
        self.spec, self.count = spec, count
        self.swarm = Swarm(spec, count, buffer=100)
        self.swarm.network.loss = loss
        self.contexts = [a_trading_node(self.swarm.nodes[0, index].host) for index in range(count)]
        self.rounds: list[tuple[RoundPlan, Logs]] = []

    async def train(self) -> None:
        nodes = self.swarm.nodes
        async with trio.open_nursery() as nursery:
            for context in self.contexts:
                nursery.start_soon(context.trades.run)
            for node in nodes.values():
                nursery.start_soon(node.runner.run)
                nursery.start_soon(node.keep_windows)
            for number in range(1 + final_rounds(self.count)):
                plan = replace(self.swarm.plan, round=RoundIndex(number), consensus=number - 1)
                for node in nodes.values():
                    await node.runner.begin_round(plan, None)
                if plan.is_final_averaging:
                    for index in range(self.count):
                        for fragment in range(self.spec.outer.fragments):
                            nursery.start_soon(self._trade, plan, index, fragment)
                await trio.sleep(ROUND_S)
                logs = {key: await node.runner.close_round() for key, node in nodes.items()}
                self.rounds.append((plan, logs))
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()

    async def _trade(self, plan: RoundPlan, me: int, fragment: int) -> None:
        await begin_trade(self.contexts[me], self.swarm.nodes[0, me].runner, plan, fragment)

    def windows(self, index: int, round_: int) -> list[WindowData]:
        return [d for d in self.swarm.nodes[0, index].windows if d.key.round == round_]

    def shards(self) -> list[Shard]:
        return [self.swarm.nodes[0, index].runner.shard for index in range(self.count)]


def ended(spec: RunSpec, count: int, loss: float = 0.0) -> Ending:
    async def main() -> Ending:
        ending = Ending(spec, count, loss)
        await ending.train()
        return ending

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def anchors(spec: RunSpec) -> dict[Digest, torch.Tensor]:
    shard = Shard.initial(spec, STAGE)
    return {shard.anchor_root: shard.anchor_P}


@pytest.mark.rule("G21", "T20b")
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_all_seats_end_with_one_model_bit_for_bit_and_it_is_the_mean(count: int) -> None:
    spec = a_run()
    ending = ended(spec, count)
    (last, logs) = ending.rounds[-1]
    assert len({log.end[PHI] for log in logs.values()}) == 1
    shards = ending.shards()
    assert all(torch.equal(shard.params_P, shards[0].params_P) for shard in shards)
    if count > 1:
        trained = [d.start.params_P for i in range(count) for d in ending.windows(i, 1)]
        mean = torch.stack(trained).mean(0)
        torch.testing.assert_close(shards[0].phi_P, mean, rtol=1e-5, atol=1e-6)
        assert torch.equal(shards[0].phi_P, shards[0].params_P)
        assert not bool(shards[0].momentum_P.any())
        assert last.consensus == final_rounds(count) - 1


@pytest.mark.rule("T20b", "V13b")
@pytest.mark.parametrize(
    ("count", "two", "codec", "loss"),
    [(2, False, "int8", 0.0), (3, True, "int8", 0.0), (4, False, "int4", 0.2)],
)
def test_a_round_of_final_averaging_is_one_window_that_any_peer_replays(
    count: int, two: bool, codec: str, loss: float
) -> None:
    spec = a_run(two=two, codec=codec)
    ending = ended(spec, count, loss)
    merges = 0
    for plan, logs in ending.rounds[1:]:
        for (_, index), log in logs.items():
            assert (log.num_steps, log.tokens) == (0, 0)
            (data,) = ending.windows(index, plan.round)
            again = decode_window(spec, b"".join(bytes(part) for part in encode_window(data)))
            result = replay(plan, again, TOKENS, anchors(spec))
            assert [result] == window_results(log)
            records = [record for record in log.records if isinstance(record, MergeRecord)]
            assert len(records) == len(log.records)
            assert result.leaves_root == leaves_root(list(map(merge_leaf, records)))
            assert result.start_root == state_root(log.start)
            assert result.end_root == state_root(log.end)
            assert result.tokens == 0
            traded = [e for e in data.events if isinstance(e, FragmentMerged)]
            assert len(traded) == spec.outer.fragments
            codecs = {e.offer.codec for e in traded if e.offer}
            assert codecs <= {Codec.F32}
            assert all(len(e.payload) == e.offer.num_bytes for e in traded if e.offer)
            merges += sum(e.offer is not None for e in traded)
    assert merges


@pytest.mark.rule("L40")
def test_what_a_round_of_final_averaging_commits_to_can_be_shown() -> None:
    spec = a_run()
    ending = ended(spec, 2)
    plan, logs = ending.rounds[-1]
    log = logs[0, 0]
    salt = b"s" * SALT_BYTES
    body = commit_of(log, RunIndex(1), 0, salt)
    assert (body.num_steps, body.tokens) == (0, 0)
    reveal = reveal_of(log, RunIndex(1), salt)
    assert (reveal.state_roots, reveal.tokens) == ((), (0,))
    check_statement_shape(reveal)
    (data,) = ending.windows(0, plan.round)
    committed = Committed(Digest(body.start), 0, 0, log.sent)
    answered = answer(committed, plan, data, TOKENS, anchors(spec))
    commit = {"start_root": Digest(body.start), "end_root": body.end_root, "num_steps": 0}
    record = replace(a_case().record, trace_commit=body.trace_commit, tokens=0, **commit)
    assert shown_claims(record, spec.checks.window_steps, reveal) == (answered.claim,)


@pytest.mark.rule("V13b")
def test_a_lie_about_a_round_of_final_averaging_is_refused() -> None:
    spec = a_run()
    ending = ended(spec, 2)
    plan, logs = ending.rounds[-1]
    (data,) = ending.windows(0, plan.round)
    committed = Committed(state_root(logs[0, 0].start), 0, 0, logs[0, 0].sent)
    merged = next(e for e in data.events if isinstance(e, FragmentMerged))

    def changed_data(lie: FragmentMerged | None) -> WindowData:
        return replace(data, events=tuple(lie or e if e is merged else e for e in data.events))

    taken = ending.windows(0, 0)[-1].events[-1]
    lies = [
        changed_data(replace(merged, weight_nano=NANO // 4)),
        changed_data(replace(merged, weight_nano=NANO)),
        changed_data(replace(merged, payload=bytes(len(merged.payload)))),
        replace(data, events=(*data.events, taken)),
        replace(data, is_last=False),
        replace(data, key=replace(data.key, window=1)),
    ]
    for lie in lies:
        assert answer(committed, plan, lie, TOKENS, anchors(spec)) == REFUSED
    forged = changed_data(
        replace(
            merged, partner_seat=-1, weight_nano=0, my_payload=NO_DIGEST, offer=None, payload=b""
        )
    )
    other = answer(committed, plan, forged, TOKENS, anchors(spec))
    assert other != REFUSED
    (said,) = window_results(logs[0, 0])
    assert other.leaves_root != said.leaves_root, "declined, which is another claim"
    assert other.claim != said.claim
    training = replace(plan, consensus=-1)
    with pytest.raises(PeerFault):
        replay(training, data, TOKENS, anchors(spec))


@pytest.mark.rule("T20b")
def test_no_microbatch_is_let_in_while_replicas_agree() -> None:
    async def main() -> None:
        ending = Ending(a_run(), 2)
        runner = ending.swarm.nodes[0, 0].runner
        await runner.begin_round(replace(ending.swarm.plan, consensus=0), None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run)
            await trio.sleep(5.0)
            nursery.cancel_scope.cancel()
        log = await runner.close_round()
        assert not log.records
        assert log.start == log.end

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.rule("T20b")
def test_a_step_does_not_belong_into_a_round_of_consensus() -> None:
    ending = ended(a_run(), 2)
    plan, _ = ending.rounds[0]
    data = ending.windows(0, 0)[0]
    with pytest.raises(OutOfTurn, match="final averaging"):
        replay(replace(plan, consensus=0), data, TOKENS, anchors(ending.spec))
