"""Share among benchmarks: the shape of a result, the machine, medians, homes and processes."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

from swarm.machine import read_cores, read_memory

ROOT = Path(__file__).parents[1]
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Outcome:
    """Result of one benchmark: a figure that could not be measured is None, its reason in ``detail``."""

    parameters: dict[str, object] = field(default_factory=dict[str, object])
    figures: dict[str, object] = field(default_factory=dict[str, object])
    detail: dict[str, object] = field(default_factory=dict[str, object])


def as_object(name: str, quick: bool, outcome: Outcome) -> dict[str, object]:
    """Return the object that docs/spec/figures.md describes."""
    return {
        "bench": name,
        "version": version("swarm-train"),
        "commit": _commit(),
        "machine": machine(),
        "parameters": {**outcome.parameters, "quick": quick},
        "figures": outcome.figures,
        "detail": outcome.detail,
    }


def say(message: str) -> None:
    """Write one line of the log."""
    print(f"{time.strftime('%H:%M:%S')}  {message}", file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> dict[str, object]:
    """Median, extremes and the values themselves, for ``detail``."""
    if not values:
        return {"n": 0}
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
        "values": [round(value, 4) for value in values],
    }


def median(values: Sequence[float]) -> float | None:
    """Return the median, or None if nothing could be measured."""
    return round(statistics.median(values), 4) if values else None


def cores() -> int:
    """Return the cores that this process may use."""
    return max(int(read_cores()), 1)


def machine() -> Mapping[str, object]:
    """Describe the machine of the measurement."""
    return {
        "cpus": read_cores(),
        "cpu": _cpu_name(),
        "memory_gb": round(read_memory().num_bytes / 1e9, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def busy_s() -> float:
    """Processor seconds that were used on this machine since it was started; 0 where the system does not count
    them.
    """
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq = (int(x) for x in line.split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "none"
