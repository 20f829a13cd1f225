"""A small swarm of pipeline seats in memory, under virtual time: real torch, no sockets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import trio
from torch import Tensor

from swarm.config.load import parse_run_file, run_spec
from swarm.config.spec import DataSpec, RunSpec
from swarm.gossip.trade.messages import FragmentKey, payload_digest, sign_offer
from swarm.gossip.trade.payload import ReceivedFragment, open_payload, pack
from swarm.primitives.codec import replace as changed
from swarm.primitives.commitments import hash_of
from swarm.primitives.crypto import digest
from swarm.testing.executor import InlineExecutor
from swarm.training.averaging.outer_step import (
    FragmentSnapshot,
    Merge,
    outer_scalars,
    weight_nano,
)
from swarm.training.averaging.payload import fragment_payload
from swarm.training.model.stages import init_flat, plans_of
from swarm.training.pipeline import Pipeline
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.training.record.segment import SegmentLog
from swarm.training.record.window import WindowData
from swarm.training.seat import SeatWorker
from swarm.training.shard import Shard
from swarm.training.starts import starts_of
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from tests.fakes import FakeHost, FakeNetwork

CHAIN = digest("test", b"chain")
JOB_S = 0.02
TEXT = b"def add(a, b):\n    return a + b\n\n\nfor i in range(10):\n    print(add(i, i))\n" * 40
SMALL = """
[run]
recipe = "noloco"
numerics = "{numerics}"
[model]
hidden_size = 16
num_layers = {layers}
num_heads = 2
num_kv_heads = 2
intermediate_size = 32
seq_len = 16
[training]
num_stages = {stages}
microbatch_size = 4
microbatches_per_step = 2
inner_steps_max = {steps}
round_blocks = 150
checkpoint_rounds = 8
[optimizer]
adamw_rate = 0.3
name = "{optimizer}"
learning_rate = 0.01
warmup_steps = 0
[outer]
fragments = 2
[wire]
activations = "{form}"
rank = {rank}
[checks]
window_steps = 4
[deadlines]
step_s = 3.0
hop_s = 1.0
exchange_s = 60.0
[ledger]
epoch_blocks = 720
"""


def with_seeded_starts(spec: RunSpec) -> RunSpec:
    """Return a small run with the starts of its stages, all of which are drawn and hashed here."""
    weights = [hash_of(init_flat(plan, spec.seed)) for plan in plans_of(spec)]
    return changed(spec, starts=starts_of(spec, weights))


def a_spec(
    *,
    stages: int = 2,
    steps: int = 50,
    numerics: str = "native",
    optimizer: str = "adamw",
    form: str = "bf16",
    rank: int = 0,
) -> RunSpec:
    """``form`` and ``rank``: what crosses a cut, and how many values of a token."""
    text = SMALL.format(
        stages=stages,
        layers=max(stages, 2),
        steps=steps,
        numerics=numerics,
        optimizer=optimizer,
        form=form,
        rank=rank,
    )
    data = DataSpec("bytes", NO_DIGEST, len(TEXT), NO_DIGEST, 1000)
    return with_seeded_starts(run_spec(parse_run_file(text, "test.toml"), data=data))


@dataclass
class Node:
    """One peer with one seat."""

    host: FakeHost
    pipeline: Pipeline
    runner: SeatWorker
    kept: trio.MemoryReceiveChannel[WindowData] | None = None
    windows: list[WindowData] = field(default_factory=list)

    async def keep_windows(self) -> None:
        """Collect what the runner records."""
        if self.kept is not None:
            async for window in self.kept:
                self.windows.append(window)


class Swarm:
    """``replicas`` peers in each stage of one run."""

    def __init__(
        self,
        spec: RunSpec,
        replicas: int,
        *,
        loss: float = 0.0,
        seed: int = 0,
        buffer: int | None = None,
        slow: Mapping[tuple[int, int], float] | None = None,
        bases: Sequence[Tensor | None] = (),
    ) -> None:
        """``buffer``: complete windows that may wait to be kept; None records nothing.

        ``slow``: how many times as long a seat of (stage, index) computes. ``bases``: by stage, the weights
        below the adapter of the run.
        """
        self.spec = spec
        self.network = FakeNetwork(seed=seed, loss=loss)
        tokens = np.frombuffer(TEXT, dtype=np.uint8)
        self.nodes: dict[tuple[int, int], Node] = {}
        for stage in range(spec.num_stages):
            for index in range(replicas):
                host = self.network.host(1 + stage * replicas + index)
                pipeline = Pipeline(host, host.secret)
                pipeline.serve()
                windows, kept = None, None
                if buffer is not None:
                    windows, kept = trio.open_memory_channel[WindowData](buffer)
                runner = SeatWorker(
                    Shard.initial(spec, StageIndex(stage), bases[stage] if bases else None),
                    index,
                    tokens=tokens,
                    compute=InlineExecutor(_taking(JOB_S * (slow or {}).get((stage, index), 1.0))),
                    forward=pipeline.forward,
                    incarnation=1,
                    windows=windows,
                )
                pipeline.add(runner)
                self.nodes[stage, index] = Node(host, pipeline, runner, kept)
        self.plan = RoundPlan(
            chain=CHAIN,
            run=RunIndex(1),
            run_digest=spec.digest,
            spec=spec,
            round=RoundIndex(0),
            beacon=Digest(digest("test", b"beacon")),
            rosters=tuple(
                tuple(
                    RosterSeat(index, self.nodes[stage, index].host.peer, 0)
                    for index in range(replicas)
                )
                for stage in range(spec.num_stages)
            ),
        )

    async def train(
        self, seconds: float, rounds: int = 1, *, trades: bool = False, keeps: bool = True
    ) -> list[dict[tuple[int, int], SegmentLog]]:
        """Run ``rounds`` rounds of ``seconds`` virtual seconds; the logs of every seat per round.

        ``trades``: every fragment is traded once a round, between seats 0 and 1 of each stage.
        """
        out: list[dict[tuple[int, int], SegmentLog]] = []
        async with trio.open_nursery() as nursery:
            for node in self.nodes.values():
                nursery.start_soon(node.runner.run)
                if keeps:
                    nursery.start_soon(node.keep_windows)
            for round_index in range(rounds):
                plan = replace(self.plan, round=RoundIndex(round_index))
                for node in self.nodes.values():
                    if node.host.is_alive:
                        await node.runner.begin_round(plan, None)
                if trades:
                    nursery.start_soon(self._trade_all, plan, seconds)
                await trio.sleep(seconds)
                logs: dict[tuple[int, int], SegmentLog] = {}
                for key, node in self.nodes.items():
                    if node.runner.log is not None:
                        logs[key] = await node.runner.close_round()
                out.append(logs)
            nursery.cancel_scope.cancel()
        return out

    async def _trade_all(self, plan: RoundPlan, seconds: float) -> None:
        async with trio.open_nursery() as nursery:
            for fragment in range(self.spec.outer.fragments):
                await trio.sleep(seconds / (self.spec.outer.fragments + 1))
                for stage in range(self.spec.num_stages):
                    nursery.start_soon(self._trade, plan, StageIndex(stage), fragment)

    async def _trade(self, plan: RoundPlan, stage: StageIndex, fragment: int) -> None:
        runners = [self.nodes[stage, index].runner for index in (0, 1)]
        snapshots = [await runner.jobs.snapshot(fragment) for runner in runners]
        await trio.sleep(3 * JOB_S)  # Both go on meanwhile.
        async with trio.open_nursery() as nursery:
            for me in (0, 1):
                merge = self.a_merge(plan, stage, me, snapshots[me], snapshots[1 - me])
                nursery.start_soon(runners[me].merge, merge)

    def a_merge(
        self,
        plan: RoundPlan,
        stage: StageIndex,
        me: int,
        mine: FragmentSnapshot,
        theirs: FragmentSnapshot,
    ) -> Merge:
        """What seat ``me`` of a stage applies once seat ``1 - me`` sent ``theirs``."""
        exchange, partner = mine.exchange, 1 - me
        secret = self.nodes[stage, partner].host.secret
        key = FragmentKey(plan.run, stage, exchange, plan.round, partner)
        offered = fragment_payload(plan.spec, plan.round, theirs)
        packed = pack(key, offered, offered.codec)
        offer = sign_offer(secret, plan.chain, packed.offer)
        payload, theta_hat_P = open_payload(offer, packed.wire, mine.anchor_P)
        own = fragment_payload(plan.spec, plan.round, mine)
        ours = pack(replace_seat(key, me), own, own.codec).offer.payload_hash
        assert payload_digest(payload) == offer.payload_hash
        return Merge(
            snapshot=mine,
            theta_hat_P=theta_hat_P,
            weight_nano=weight_nano(
                mine.tokens, theirs.tokens, 0, plan.spec.outer.age_weights_nano
            ),
            scalars=outer_scalars(plan.spec.outer, plan.round),
            partner=plan.rosters[stage][partner].peer,
            partner_seat=partner,
            my_payload=ours,
            received=ReceivedFragment(offer, payload, theta_hat_P),
        )


def _taking(seconds: float) -> Callable[[object], float]:
    return lambda _: seconds


def replace_seat(key: FragmentKey, seat: int) -> FragmentKey:
    return FragmentKey(key.run, key.stage, key.exchange, key.round, seat)
