"""Run simulated swarms in worker processes, one per core at a time, for the benchmarks train and tune.

The text is Python's standard library. Its held-out half is cut once more: a validation part, on which settings
are chosen, and a held-out part, on which they are reported.
"""

import json
import os
import queue
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Outcome, cores, say
from swarm.training.data.documents import stdlib_files
from swarm.training.data.samples import build_corpus

TEXT_BYTES, TEXT_BYTES_QUICK = 12_000_000, 2_000_000
STEPS_QUICK = 20
WINDOWS, WINDOWS_QUICK = 256, 16
"""Held-out windows per measurement: 16,384 predictions, the same ones for all variants."""


@dataclass(frozen=True, slots=True)
class Job:
    """One simulated run: a variant by its name, the fields in which it differs, and how long it trains."""

    variant: str
    seed: int
    steps: int
    heldout_windows: int
    is_tuning: bool = False
    """True if it is measured on the validation part."""
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def line(self) -> str:
        """Return the job as the worker reads it."""
        parts = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(parts | {"changes": dict(self.changes)})


def write_text(folder: Path, text_bytes: int, outcome: Outcome) -> None:
    """Write the three parts of the text that the workers read."""
    corpus = build_corpus(stdlib_files(), max_bytes=text_bytes, heldout_every=20)
    middle = len(corpus.heldout) // 2
    parts = {
        "train": corpus.train,
        "heldout": corpus.heldout[middle:],
        "validation": corpus.heldout[:middle],
    }
    for name, part in parts.items():
        (folder / name).write_bytes(part)
        outcome.parameters[f"{name}_bytes"] = len(part)


def run_jobs(
    folder: Path, jobs: Sequence[Job], outcome: Outcome
) -> list[tuple[Job, dict[str, Any]]]:
    """Run every job and return those that ended, in the order of ``jobs``: seeds are compared pair by pair.

    A worker that dies leaves its reason in detail.
    """
    workers = max(min(cores(), 8), 1)
    outcome.parameters["workers"] = workers
    waiting: queue.SimpleQueue[tuple[int, Job]] = queue.SimpleQueue()
    for numbered in enumerate(jobs):
        waiting.put(numbered)
    found = dict[int, dict[str, Any]]()
    failures = list[str]()

    def work(_: int) -> None:
        with _worker(folder) as worker:
            while True:
                try:
                    number, job = waiting.get_nowait()
                except queue.Empty:
                    break
                answer = _request(worker, job)
                if answer is None:
                    failures.append(f"{job.variant}, seed {job.seed}: the worker ended")
                    break
                found[number] = answer
                say(
                    f"{job.variant}{dict(job.changes) or ''}, seed {job.seed}, {job.steps} steps:"
                    f" {answer['nats']:.4f} nats, {answer['cpu_seconds']:.1f} s"
                )
            if worker.stdin is not None:
                worker.stdin.close()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    if failures:
        outcome.detail["failures"] = failures
    return [(jobs[number], found[number]) for number in sorted(found)]


def _worker(folder: Path) -> subprocess.Popen[str]:
    args = [sys.executable, "-m", "benchmarks.simulated"]
    args += [str(folder / name) for name in ("train", "heldout", "validation")]
    return subprocess.Popen(
        args,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _request(worker: subprocess.Popen[str], job: Job) -> dict[str, Any] | None:
    """Run one job in a worker; return None if the worker is gone."""
    assert worker.stdin is not None, "a worker is asked through a pipe"
    assert worker.stdout is not None, "a worker answers through a pipe"
    try:
        worker.stdin.write(job.line() + "\n")
        worker.stdin.flush()
    except BrokenPipeError:
        return None
    line = worker.stdout.readline()
    if not line:
        return None
    answer: dict[str, Any] = json.loads(line)
    return answer
