"""A small swarm of pipeline seats in memory, under virtual time: real torch, no sockets."""

from dataclasses import dataclass, replace

import numpy as np
import trio

from swarm.compute import InlineCompute
from swarm.config import parse_run_file, run_spec
from swarm.crypto import digest
from swarm.spec import DataSpec, RunSpec
from swarm.training.round_plan import RosterSeat, RoundPlan
from swarm.training.runner import SeatRunner
from swarm.training.segment import SegmentLog
from swarm.training.service import Pipeline
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from tests.fakes import FakeHost, FakeNetwork

CHAIN = digest("test", b"chain")
JOB_S = 0.02
TEXT = b"def add(a, b):\n    return a + b\n\n\nfor i in range(10):\n    print(add(i, i))\n" * 40
SMALL = """
[run]
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
[optimizer]
learning_rate = 0.01
warmup_steps = 0
[outer]
fragments = 2
[deadlines]
step_s = 3.0
hop_s = 1.0
"""


def a_spec(*, stages: int = 2, steps: int = 50, numerics: str = "native") -> RunSpec:
    text = SMALL.format(stages=stages, layers=max(stages, 2), steps=steps, numerics=numerics)
    return run_spec(
        parse_run_file(text, "test.toml"),
        data=DataSpec("bytes", NO_DIGEST, len(TEXT), NO_DIGEST, 1000),
        init_root=NO_DIGEST,
    )


@dataclass
class Node:
    """One peer with one seat."""

    host: FakeHost
    pipeline: Pipeline
    runner: SeatRunner


class Swarm:
    """``replicas`` peers in each stage of one run."""

    def __init__(self, spec: RunSpec, replicas: int, *, loss: float = 0.0, seed: int = 0) -> None:
        self.spec = spec
        self.network = FakeNetwork(seed=seed, loss=loss)
        tokens = np.frombuffer(TEXT, dtype=np.uint8)
        self.nodes: dict[tuple[int, int], Node] = {}
        for stage in range(spec.num_stages):
            for index in range(replicas):
                host = self.network.host(1 + stage * replicas + index)
                pipeline = Pipeline(host, host.secret)
                pipeline.serve()
                runner = SeatRunner(
                    Shard.initial(spec, StageIndex(stage)),
                    index,
                    tokens=tokens,
                    compute=InlineCompute(lambda _: JOB_S),
                    forward=pipeline.forward,
                    incarnation=1,
                )
                pipeline.add(runner)
                self.nodes[stage, index] = Node(host, pipeline, runner)
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
        self, seconds: float, rounds: int = 1
    ) -> list[dict[tuple[int, int], SegmentLog]]:
        """Run ``rounds`` rounds of ``seconds`` virtual seconds; the logs of every seat per round."""
        out: list[dict[tuple[int, int], SegmentLog]] = []
        async with trio.open_nursery() as nursery:
            for node in self.nodes.values():
                nursery.start_soon(node.runner.run)
            for round_index in range(rounds):
                plan = replace(self.plan, round=RoundIndex(round_index))
                for node in self.nodes.values():
                    if node.host.is_alive:
                        await node.runner.begin_round(plan, None)
                await trio.sleep(seconds)
                logs: dict[tuple[int, int], SegmentLog] = {}
                for key, node in self.nodes.items():
                    if node.runner.log is not None:
                        logs[key] = await node.runner.close_round()
                out.append(logs)
            nursery.cancel_scope.cancel()
        return out
