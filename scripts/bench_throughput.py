"""The swarm on this machine against one plain torch process: speed, and loss after equal tokens.

A B A B: the run of ``pair.toml`` (2 stages of one replica each, and the two peers that keep the ledger and
check them), then the baseline for as many tokens with as many cores, repeated.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from scripts.bench_common import ROOT, Outcome, median, say, spread
from swarm.cli.archive import BLOBS
from swarm.cli.demo import play
from swarm.cli.demo_watch import Watch
from swarm.cli.options import Globals
from swarm.cli.picture import number, part
from swarm.cli.sources import run_of_home
from swarm.cli.terminal import Terminal
from swarm.codec import encode

PLAIN_TIMEOUT_S = 1200
SHARES = ("compute", "wire", "wait", "commit")
MINUTES, MINUTES_QUICK = 4.0, 4.0
PAIR = ROOT / "scripts" / "pair.toml"


@dataclass(slots=True)
class Series:
    """What repeated measurements gave."""

    swarm_rate: list[float] = field(default_factory=list[float])
    plain_rate: list[float] = field(default_factory=list[float])
    swarm_nats: list[float] = field(default_factory=list[float])
    plain_nats: list[float] = field(default_factory=list[float])
    shares: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SHARES})


def measure(quick: bool) -> Outcome:
    """Alternate the two; quote medians."""
    repeats, minutes = (1, MINUTES_QUICK) if quick else (3, MINUTES)
    threads = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    outcome = Outcome({"repeats": repeats, "minutes": minutes, "plain_threads": threads})
    series = Series()
    for number_ in range(repeats):
        say(f"swarm, {number_ + 1} of {repeats}")
        folder = Path(tempfile.mkdtemp(prefix="swarm-bench-"))
        try:
            _alternate(folder, minutes, threads, series, outcome)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    swarm, plain = median(series.swarm_rate), median(series.plain_rate)
    outcome.figures |= {
        "swarm_tokens_per_s": swarm,
        "plain_tokens_per_s": plain,
        "swarm_over_plain": round(swarm / plain, 4) if swarm and plain else None,
        "swarm_nats": median(series.swarm_nats),
        "plain_nats_equal_tokens": median(series.plain_nats),
        **{f"share_{name}": median(series.shares[name]) for name in SHARES},
    }
    for name in ("swarm_rate", "plain_rate", "swarm_nats", "plain_nats"):
        outcome.detail[name] = spread(getattr(series, name))
    if not series.shares["compute"]:
        outcome.detail["share_reason"] = "the node reported no seconds by kind"
    return outcome


def _alternate(
    folder: Path, minutes: float, threads: int, series: Series, outcome: Outcome
) -> None:
    """One swarm and one baseline for as many tokens."""
    desk = Terminal(Globals(plain=True))
    result, watch = play(desk, folder, str(PAIR), minutes=minutes, kills=False)
    rate = _steady_rate(watch)
    if rate is not None:
        series.swarm_rate.append(rate)
    if result.final_loss_nats is not None:
        series.swarm_nats.append(result.final_loss_nats)
    outcome.parameters["swarm_tokens"] = result.tokens
    _note_shares(watch, series)
    run = run_of_home(folder / "peer-0")
    (folder / "spec.bin").write_bytes(encode(run.spec))
    blobs = folder / "peer-0" / BLOBS
    batch = run.spec.microbatch_size * run.spec.microbatches_per_step
    outcome.parameters["stages"], outcome.parameters["replicas"] = run.spec.num_stages, 1
    outcome.parameters["plain_batch"] = batch
    if not result.tokens:
        outcome.detail["plain_reason"] = "the swarm committed no tokens to compare with"
        return
    say(f"plain, {result.tokens} tokens with {threads} threads")
    words = [sys.executable, str(ROOT / "scripts" / "bench_plain.py")]
    words += ["--spec", str(folder / "spec.bin"), "--tokens", str(result.tokens)]
    words += ["--train", str(blobs / run.spec.data.train_root.hex())]
    words += ["--heldout", str(blobs / run.spec.data.heldout_root.hex())]
    words += ["--batch", str(batch), "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=PLAIN_TIMEOUT_S, check=False, env=environment
    )
    if done.returncode:
        outcome.detail["plain_reason"] = done.stderr[-400:]
        return
    found = json.loads(done.stdout)
    series.plain_rate.append(float(found["tokens_per_s"]))
    series.plain_nats.append(float(found["nats"]))


def _steady_rate(watch: Watch) -> float | None:
    """Tokens a second over the last half of the rounds: by then the launcher has yielded its second stage."""
    curve = watch.curve[len(watch.curve) // 2 :]
    if len(curve) < 2:
        return None
    (began, first, _), (ended, last, _) = curve[0], curve[-1]
    return (last - first) / (ended - began) if ended > began else None


def _note_shares(watch: Watch, series: Series) -> None:
    """Where the launcher's time went, if it says so."""
    seconds = part(part(watch.picture, "node"), "seconds")
    spent = {name: number(seconds, name) for name in SHARES}
    known = {name: value for name, value in spent.items() if value is not None}
    total = sum(known.values())
    if len(known) == len(SHARES) and total > 0:
        for name, value in known.items():
            series.shares[name].append(value / total)
