"""Measure what being checkable costs: a part of the benchmark ``verify``.

Two stages of the demo's model train one segment in this thread, with signed micro-batches between them and no
network. *Plain* takes the steps and keeps nothing. *Committing* hashes the state where a window begins, keeps
a window until it is complete, makes its bytes and their name, and the leaves and roots of the commit; the disk
is another thread's. *Replaying* computes all windows of both stages again from those bytes. Processor time, the
three in turns.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from benchmarks.common import Outcome, say, spread
from swarm.config.load import parse_run_file, run_spec
from swarm.config.resources import packaged_file
from swarm.config.spec import DataSpec, RunSpec
from swarm.primitives.codec import replace
from swarm.primitives.commitments import SALT_BYTES, tensor_hash
from swarm.primitives.crypto import SecretKey, digest
from swarm.training.data.dataset import TokenSource
from swarm.training.data.documents import read_source
from swarm.training.data.samples import build_corpus
from swarm.training.messages import MicroBatch, MicroBatchGrad, sign_grad, sign_microbatch
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.training.record.segment import SegmentLog
from swarm.training.record.window import (
    WindowData,
)
from swarm.training.record.window_bytes import (
    decode_window,
    encode_window,
)
from swarm.training.recorder import SegmentRecorder
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.replay import replay
from swarm.verify.transcript import segment_roots

CHAIN = digest("test", b"bench-checking")
SALT = bytes(SALT_BYTES)
DEMO = "demo.toml"
TEXT_BYTES = 1_000_000
BOUNDARY = StageIndex(1)
Window = tuple[StageIndex, bytes]
"""A window as it is written out, and the stage it is of."""


def measure_checking(outcome: Outcome, quick: bool) -> None:
    """Fill ``commit_overhead`` and ``replay_over_train``."""
    steps, repetitions = (10, 1) if quick else (20, 15)
    bench = Bench(steps)
    plain, committing, replaying = list[float](), list[float](), list[float]()
    sizes = list[int]()
    for number in range(repetitions + 1):
        began = time.thread_time()
        bench.train(None)
        trained = time.thread_time()
        windows, committing_s = bench.commit()
        committed = time.thread_time()
        bench.replay(windows)
        replayed = time.thread_time()
        if number:  # The first time warms caches.
            plain.append(trained - began)
            committing.append(committing_s)
            replaying.append(replayed - committed)
            sizes += [len(data) for _, data in windows]
    # A machine that slows down slows all three of a turn: ratios are taken within turns.
    overhead = round(_ratio(committing, plain) - 1.0, 4)
    ratio = round(_ratio(replaying, plain), 4)
    outcome.figures |= {"commit_overhead": overhead, "replay_over_train": ratio}
    outcome.detail["checking"] = {
        "steps": steps,
        "window_steps": bench.spec.checks.window_steps,
        "window_bytes": spread(sizes),
        "plain_s": spread(plain),
        "committing_s": spread(committing),
        "replaying_s": spread(replaying),
    }
    say(f"committing adds {overhead:+.1%} to a step; a replay takes {ratio:.3f} of the training")


def _ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


@dataclass(slots=True)
class Bench:
    """Two stages, one seat each, and the text they read."""

    steps: int
    spec: RunSpec = field(init=False)
    tokens: TokenSource = field(init=False)
    secrets: tuple[SecretKey, SecretKey] = field(init=False)
    anchors: dict[Digest, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        text = bytes(
            build_corpus(read_source("python-stdlib"), max_bytes=TEXT_BYTES, heldout_every=20).train
        )
        self.tokens = np.frombuffer(text, dtype=np.uint8)
        self.spec = run_spec(
            parse_run_file(packaged_file(DEMO), DEMO),
            data=DataSpec("bytes", NO_DIGEST, len(text), NO_DIGEST, len(text)),
        )
        self.secrets = (SecretKey.from_seed(b"1" * 32), SecretKey.from_seed(b"2" * 32))
        shards = [Shard.initial(self.spec, StageIndex(stage)) for stage in range(2)]
        self.anchors = {shard.anchor_root: shard.anchor_P for shard in shards}

    def plan(self, spec: RunSpec) -> RoundPlan:
        """Round 0 with one seat in each stage."""
        rosters = tuple((RosterSeat(0, secret.peer, 0),) for secret in self.secrets)
        beacon = digest("test", b"beacon")
        return RoundPlan(
            chain=CHAIN,
            run=RunIndex(0),
            run_digest=spec.digest,
            spec=spec,
            round=RoundIndex(0),
            beacon=beacon,
            rosters=rosters,
        )

    def train(self, keep: Callable[[WindowData], None] | None) -> list[SegmentLog]:
        """Train one segment of both stages; give every window to ``keep`` (without it one step hashes)."""
        spec = self.spec
        if keep is None:
            spec = replace(spec, checks=replace(spec.checks, window_steps=self.steps))
        plan = self.plan(spec)
        shards = [Shard.initial(spec, StageIndex(stage)) for stage in range(2)]
        recorders = [SegmentRecorder(shard, 0, keeps_windows=keep is not None) for shard in shards]
        logs = [recorder.begin(plan, None) for recorder in recorders]
        for step in range(self.steps):
            for microbatch in range(spec.microbatches_per_step):
                self._carry(plan, recorders, step, microbatch)
            for recorder in recorders:
                for window in recorder.step([]):
                    assert keep is not None, "only who keeps windows completes any"
                    keep(window)
        for recorder in recorders:
            for window in recorder.close([]):
                assert keep is not None, "only who keeps windows completes any"
                keep(window)
        return logs

    def commit(self) -> tuple[list[Window], float]:
        """Train with all that a commit needs; return the windows as they go to the disk, and the seconds."""
        reads = list[tuple[StageIndex, int]]()
        disk_s = 0.0
        with tempfile.TemporaryFile() as disk:

            def keep(window: WindowData) -> None:
                nonlocal disk_s
                data = b"".join(encode_window(window))
                tensor_hash("uint8", (len(data),), data)  # the name under which it is served
                began = time.thread_time()
                disk.write(data)
                reads.append((window.key.stage, len(data)))
                disk_s += time.thread_time() - began

            began = time.thread_time()
            for log in self.train(keep):
                segment_roots(log, SALT)
            spent_s = time.thread_time() - began - disk_s
            disk.seek(0)
            return [(stage, disk.read(size)) for stage, size in reads], spent_s

    def replay(self, windows: list[Window]) -> None:
        """Compute every window again."""
        plan = self.plan(self.spec)
        for _, data in windows:
            replay(plan, decode_window(self.spec, data), self.tokens, self.anchors)

    def _carry(
        self, plan: RoundPlan, recorders: list[SegmentRecorder], step: int, microbatch: int
    ) -> None:
        lower, upper = recorders
        payload, passed = lower.shard.forward_tokens(self.tokens, plan, step, microbatch, 0)
        spec = plan.spec
        unsigned = MicroBatch(
            run=plan.run,
            round=plan.round,
            step=step,
            microbatch=microbatch,
            origin=0,
            stage=BOUNDARY,
            source=0,
            destination=0,
            incarnation=1,
            version=step,
            budget_ms=1000,
            batch=spec.microbatch_size,
            length=spec.model.seq_len,
            features=spec.model.hidden_size,
            payload=payload,
            signature=b"",
        )
        wire = passed.record.out_activation
        request = sign_microbatch(self.secrets[0], plan.chain, plan.run_digest, unsigned, wire)
        loss_micro, gradient = upper.loss(self.tokens, request)
        answer = MicroBatchGrad.reply_to(request, 0, wire, loss_micro, gradient)
        reply = sign_grad(self.secrets[1], plan.chain, plan.run_digest, answer)
        lower.backward(passed, None, reply)
