"""The swarm on this machine against one plain torch process: speed, and loss after equal tokens.

A B A B: the run of ``pair.toml``, two peers with one stage each, one of them the launcher and the ledger's
validator; then the baseline for as many tokens with as many cores, repeated. The swarm's speed is taken while
each peer holds its one seat: before that, the launcher trains both stages alone.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import ROOT, Outcome, busy_s, cores, median, say, spread
from benchmarks.pair_meter import KINDS, PairMeter, Sight, others_share, shares
from swarm.cli.demo.command import run_demo
from swarm.cli.demo.report import Result
from swarm.cli.demo.scenario import Role
from swarm.cli.demo.watch import DemoWatch
from swarm.cli.model_sources import run_of_home
from swarm.cli.options import GlobalOptions
from swarm.cli.terminal import Terminal
from swarm.config.spec import RunSpec
from swarm.gossip.blobs.disk import BLOBS
from swarm.primitives.codec import encode

PLAIN_TIMEOUT_S = 1200
SHARES = ("compute", "wire", "wait", "commit")
"""The figures; what measuring checkpoints takes ("check") is in detail, and makes the rest of the whole."""
REPEATS, REPEATS_QUICK = 3, 1
MINUTES = 4.0
"""Nothing of one swarm runs longer: six rounds of 15 s, the start and the end."""
PAIR = ROOT / "benchmarks" / "pair.toml"
ROLES = (Role(0, solves=True, validates=True), Role(1, solves=True, validates=False))
MILLION = 1_000_000


@dataclass(slots=True)
class Series:
    """Results of repeated measurements."""

    swarm_rate: list[float] = field(default_factory=list[float])
    plain_rate: list[float] = field(default_factory=list[float])
    swarm_nats: list[float] = field(default_factory=list[float])
    plain_nats: list[float] = field(default_factory=list[float])
    swarm_cpu_s: list[float] = field(default_factory=list[float])
    """Of a million tokens."""
    plain_cpu_s: list[float] = field(default_factory=list[float])
    swarm_others: list[float] = field(default_factory=list[float])
    """The part of this machine that others took."""
    plain_others: list[float] = field(default_factory=list[float])
    shares: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """By stage, by kind."""


def measure(quick: bool) -> Outcome:
    """Alternate the two; quote medians."""
    repeats = REPEATS_QUICK if quick else REPEATS
    threads = cores()
    outcome = Outcome({"repeats": repeats, "peers": len(ROLES), "plain_threads": threads})
    series = Series()
    for number in range(repeats):
        say(f"swarm, {number + 1} of {repeats}")
        folder = Path(tempfile.mkdtemp(prefix="swarm-bench-"))
        try:
            _alternate(folder, threads, series, outcome)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    swarm, plain = median(series.swarm_rate), median(series.plain_rate)
    by_kind = {kind: [x for stage in series.shares.values() for x in stage[kind]] for kind in KINDS}
    outcome.figures |= {
        "swarm_tokens_per_s": swarm,
        "plain_tokens_per_s": plain,
        "swarm_over_plain": round(swarm / plain, 4) if swarm and plain else None,
        "swarm_nats": median(series.swarm_nats),
        "plain_nats_equal_tokens": median(series.plain_nats),
        **{f"share_{kind}": _mean(by_kind[kind]) for kind in SHARES},
    }
    _explain(series, outcome)
    return outcome


def _explain(series: Series, outcome: Outcome) -> None:
    """Return the shares of the time, and how quiet this machine was."""
    for name in ("swarm_rate", "plain_rate", "swarm_nats", "plain_nats"):
        outcome.detail[name] = spread(getattr(series, name))
    outcome.detail["shares_by_stage"] = {
        stage: {kind: median(values) for kind, values in kinds.items()}
        for stage, kinds in series.shares.items()
    }
    outcome.detail["cpu_s_per_million_tokens"] = {
        "swarm": spread(series.swarm_cpu_s),
        "plain": spread(series.plain_cpu_s),
    }
    outcome.detail["share_of_machine_used_by_others"] = {
        "swarm": spread(series.swarm_others),
        "plain": spread(series.plain_others),
    }


def _alternate(folder: Path, threads: int, series: Series, outcome: Outcome) -> None:
    """Measure one swarm and one baseline for as many tokens."""
    screen = Terminal(GlobalOptions(plain=True))
    with PairMeter([folder / role.folder for role in ROLES]) as meter:
        result, watch = run_demo(
            screen, folder, str(PAIR), minutes=MINUTES, kills=False, roles=ROLES
        )
    _note_swarm(meter, watch, result, series, outcome)
    spec = run_of_home(folder / ROLES[0].folder).spec
    batch = spec.microbatch_size * spec.microbatches_per_step
    outcome.parameters |= {
        "stages": spec.num_stages,
        "replicas": 1,
        "rounds": spec.rounds,
        "round_blocks": spec.round_blocks,
        "swarm_tokens": result.tokens,
        "plain_batch": batch,
    }
    if not result.tokens:
        outcome.detail["plain_reason"] = "the swarm committed no tokens to compare with"
        return
    say(f"plain, {result.tokens} tokens with {threads} threads")
    _plain(folder, spec, result.tokens, threads, series, outcome)


def _note_swarm(
    meter: PairMeter, watch: DemoWatch, result: Result, series: Series, outcome: Outcome
) -> None:
    """Return the speed between the first and the last commit that was seen while each peer held one seat."""
    if result.final_loss_nats is not None:
        series.swarm_nats.append(result.final_loss_nats)
    alone = meter.steady(0.0, time.monotonic())
    since_s = alone[0].at_s if alone else float("inf")
    curve = [(watch.began + at_s, tokens) for at_s, tokens, _ in watch.curve]
    curve = [point for point in curve if point[0] >= since_s]
    ends = meter.steady(curve[0][0], curve[-1][0]) if len(curve) > 1 else None
    if ends is None:
        outcome.detail["swarm_reason"] = "the peers did not hold one seat each for two commits"
        return
    (began, first), (ended, last) = curve[0], curve[-1]
    rate = (last - first) / (ended - began)
    series.swarm_rate.append(rate)
    outcome.parameters["steady_s"] = round(ended - began, 1)
    _note_time(*ends, rate, series)


def _note_time(first: Sight, last: Sight, rate: float, series: Series) -> None:
    for stage, kinds in shares(first, last).items():
        noted = series.shares.setdefault(stage, {kind: [] for kind in KINDS})
        for kind, share in kinds.items():
            noted[kind].append(share)
    cores = (last.ours_s - first.ours_s) / (last.at_s - first.at_s)
    series.swarm_cpu_s.append(cores / rate * MILLION)
    if (theirs := others_share(first, last)) is not None:
        series.swarm_others.append(theirs)


def _plain(
    folder: Path, spec: RunSpec, tokens: int, threads: int, series: Series, outcome: Outcome
) -> None:
    (folder / "spec.bin").write_bytes(encode(spec))
    blobs = folder / ROLES[0].folder / BLOBS
    args = [sys.executable, "-m", "benchmarks.plain"]
    args += ["--spec", str(folder / "spec.bin"), "--tokens", str(tokens)]
    args += ["--train", str(blobs / spec.data.train_root.hex())]
    args += ["--heldout", str(blobs / spec.data.heldout_root.hex())]
    args += ["--batch", str(spec.microbatch_size * spec.microbatches_per_step)]
    args += ["--threads", str(threads), "--piece", str(outcome.parameters.get("plain_piece", 0))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        args, capture_output=True, text=True, timeout=PLAIN_TIMEOUT_S, check=False,
        env=environment, cwd=ROOT,
    )  # fmt: skip
    if done.returncode:
        outcome.detail["plain_reason"] = done.stderr[-400:]
        return
    found: Mapping[str, float] = json.loads(done.stdout)
    outcome.parameters["plain_piece"] = found["piece"]
    series.plain_rate.append(found["tokens_per_s"])
    series.plain_nats.append(found["nats"])
    series.plain_cpu_s.append(found["cpu_s"] / found["tokens"] * MILLION)
    if busy_s():
        theirs_s = found["busy_s"] - found["cpu_s"]
        series.plain_others.append(theirs_s / found["seconds"] / (os.cpu_count() or 1))


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
