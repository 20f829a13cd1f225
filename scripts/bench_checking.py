"""What being checkable costs: a part of the benchmark ``verify``.

Two stages of the demo's model train one segment in this thread, with signed micro-batches between them and no
network. *Plain* takes the steps and keeps nothing. *Committing* hashes the state where a window begins, keeps
the windows, makes the leaves and roots of the commit, and writes every window out under its name. *Replaying*
computes all windows of both stages again from those bytes. Processor time, the three in turns.
"""

import statistics
import time
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from scripts.bench_common import Outcome, say, spread
from swarm.codec import replace
from swarm.config import parse_run_file, run_spec
from swarm.crypto import SecretKey, digest
from swarm.packaged import packaged_file
from swarm.spec import DataSpec, RunSpec
from swarm.tensors import tensor_hash
from swarm.training.data import TokenSource, build_corpus
from swarm.training.data_files import read_source
from swarm.training.messages import (
    MicroBatch,
    MicroBatchGrad,
    sign_grad,
    sign_microbatch,
)
from swarm.training.round_plan import RosterSeat, RoundPlan
from swarm.training.scribe import Scribe
from swarm.training.segment import SegmentLog
from swarm.training.shard import Shard
from swarm.training.window import WindowData, decode_window, encode_window
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.replay import replay
from swarm.verify.transcript import segment_roots

CHAIN = digest("test", b"bench-checking")
SALT = bytes(32)
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
        bench.train(keeps=False)
        trained = time.thread_time()
        windows = bench.commit()
        committed = time.thread_time()
        bench.replay(windows)
        replayed = time.thread_time()
        if number:  # The first time warms caches.
            plain.append(trained - began)
            committing.append(committed - trained)
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
            init_root=NO_DIGEST,
        )
        self.secrets = (SecretKey.from_seed(b"1" * 32), SecretKey.from_seed(b"2" * 32))
        shards = [Shard.initial(self.spec, StageIndex(stage)) for stage in range(2)]
        self.anchors = {shard.anchor_root: shard.anchor_P for shard in shards}

    def plan(self, spec: RunSpec) -> RoundPlan:
        """Round 0 with one seat in each stage."""
        rosters = tuple((RosterSeat(0, secret.peer, 0),) for secret in self.secrets)
        beacon = digest("test", b"beacon")
        return RoundPlan(CHAIN, RunIndex(0), spec.digest, spec, RoundIndex(0), beacon, rosters)

    def train(self, *, keeps: bool) -> tuple[list[SegmentLog], list[WindowData]]:
        """One segment of both stages; without ``keeps`` only its first step hashes the state."""
        spec = self.spec
        if not keeps:
            spec = replace(spec, checks=replace(spec.checks, window_steps=self.steps))
        plan = self.plan(spec)
        shards = [Shard.initial(spec, StageIndex(stage)) for stage in range(2)]
        scribes = [Scribe(shard, 0, keeps_windows=keeps) for shard in shards]
        logs = [scribe.begin_job(plan, None) for scribe in scribes]
        windows = list[WindowData]()
        for step in range(self.steps):
            for microbatch in range(spec.microbatches_per_step):
                self._carry(plan, scribes, step, microbatch)
            for scribe in scribes:
                windows += scribe.step_job([])
        for scribe in scribes:
            windows += scribe.close_job([])
        return logs, windows

    def commit(self) -> list[Window]:
        """The same, and everything that a commit needs; the windows as they are written out."""
        logs, windows = self.train(keeps=True)
        out = list[Window]()
        for window in windows:
            data = b"".join(encode_window(window))
            tensor_hash("uint8", (len(data),), data)  # the name under which it is served
            out.append((window.key.stage, data))
        for log in logs:
            segment_roots(log, SALT)
        return out

    def replay(self, windows: list[Window]) -> None:
        """Compute every window again."""
        plan = self.plan(self.spec)
        for _, data in windows:
            replay(plan, decode_window(self.spec, data), self.tokens, self.anchors)

    def _carry(self, plan: RoundPlan, scribes: list[Scribe], step: int, microbatch: int) -> None:
        lower, upper = scribes
        payload, passed = lower.shard.origin_job(self.tokens, plan, step, microbatch, 0)
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
        request = sign_microbatch(self.secrets[0], plan.chain, plan.run_digest, unsigned)
        loss_micro, gradient = upper.loss_job(self.tokens, request)
        answer = MicroBatchGrad.reply_to(request, loss_micro, gradient)
        reply = sign_grad(self.secrets[1], plan.chain, plan.run_digest, answer)
        lower.backward_job(passed, None, reply)
