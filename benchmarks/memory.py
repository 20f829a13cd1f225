"""Measure the memory of a seat: bytes per parameter at the highest point of each phase of a round.

``python -m benchmarks.memory NUMERICS OPTIMIZER CODEC`` trains one seat of a model of 11M parameters alone, in
a process of its own and with one thread: the real shard, recorder, outbox and files, its partner's fragments
being its own. It prints the resident memory above that of the same process after the same rounds of a tiny
model. The kernel keeps the high-water mark, file pages that are mapped included; it is set back before each
phase. One sequence of 16 tokens is all of a micro-batch, so that activations count for little.

Legend: P parameters of the shard.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import ROOT, say
from benchmarks.seat import Sizes, TrainedSeat

PHASES = ("open", "begin", "backward", "offer", "receive", "step", "close", "save", "post")
"""Parts of a round, in order; ``step`` includes the merge, ``close`` the windows."""
ROUNDS = 4
"""As many as fill what is kept of earlier rounds: three closed segments, the fragments of two rounds."""
TINY = Sizes(hidden_size=32, num_layers=1, vocab_size=256)
LARGE = Sizes(hidden_size=256, num_layers=6, vocab_size=12_000)
"""The proportions of the model of 125M parameters: a fifth of them in the embedding, a fifth in the head."""
CASES = {
    "native, Muon, int4": ("native", "muon", "int4"),
    "native, Muon, int4-mean": ("native", "muon", "int4-mean"),
    "native, AdamW, int8": ("native", "adamw", "int8"),
    "exact, AdamW, int8": ("seq-f32/1", "adamw", "int8"),
}


def measure_seat(quick: bool = False) -> tuple[float | None, dict[str, object]]:
    """Return (bytes per parameter of a native seat at its highest, the figures of every case and phase)."""
    detail: dict[str, object] = {}
    highest = list[float]()
    for name, case in CASES.items():
        if quick and highest:
            break
        found = _child(*case)
        detail[name] = found
        if name.startswith("native") and "peak" in found:
            highest.append(float(str(found["peak"])))
            say(f"memory of a seat, {name}: {highest[-1]:.1f} bytes per parameter")
    return (max(highest) if highest else None), detail


def _child(*case: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *case],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    found: dict[str, object] = json.loads(done.stdout)
    return found


class HighWater:
    """Resident memory of this process: its highest value since the phase began, by phase."""

    def __init__(self) -> None:
        self.bytes_by_phase: dict[str, int] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Note the highest resident memory of the block under ``name``."""
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        yield
        highest = max(self.bytes_by_phase.get(name, 0), status_bytes("VmHWM"))
        self.bytes_by_phase[name] = highest


def status_bytes(name: str) -> int:
    """Return a line of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) << 10
    return 0


def rollup() -> Mapping[str, int]:
    """Return the proportional memory of this process by kind, in bytes."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}


def live_tensors(least: int) -> list[tuple[str, int, int]]:
    """Return (dtype, values, bytes) of each storage of at least ``least`` bytes that Python can reach."""
    found: dict[int, tuple[str, int, int]] = {}
    for thing in gc.get_objects():
        # Not isinstance: it would wake what torch loads lazily.
        if issubclass(type(thing), torch.Tensor):
            storage = thing.untyped_storage()
            if storage.nbytes() >= least:
                name = str(thing.dtype)
                found[storage.data_ptr()] = (name, thing.numel(), storage.nbytes())
    return sorted(found.values(), key=lambda one: -one[2])


def main() -> None:
    """Train a tiny seat, then the large one, and print the difference as one JSON object."""
    torch.set_num_threads(1)
    numerics, optimizer, codec = sys.argv[1:4]
    tokens = np.frombuffer(bytes(range(256)) * 64, dtype=np.uint8)
    marks: dict[str, HighWater] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, sizes in (("tiny", TINY), ("large", LARGE)):
            gc.collect()
            water = marks[name] = HighWater()
            before = status_bytes("VmRSS")
            began = time.thread_time()
            with water.phase("open"):
                seat = TrainedSeat(
                    sizes,
                    Path(folder) / name,
                    tokens,
                    numerics=numerics,
                    optimizer=optimizer,
                    codec=codec,
                )
            for _ in range(ROUNDS):
                seat.round(water.phase)
            spent_s = time.thread_time() - began
    numel = seat.numel
    phases = {
        name: round((marks["large"].bytes_by_phase[name] - before) / numel, 2)
        for name in PHASES
        if name in marks["large"].bytes_by_phase
    }
    held = rollup()
    tensors = [f"{name} x {count / numel:.2f} P" for name, count, _ in live_tensors(numel // 8)]
    print(
        json.dumps(
            {
                "parameters": numel,
                "peak": max(phases.values()),
                "phases": phases,
                "between_rounds": {
                    "resident": round((status_bytes("VmRSS") - before) / numel, 2),
                    "anonymous": round((held["Pss_Anon"]) / numel, 2)
                    if "Pss_Anon" in held
                    else None,
                },
                "tensors": tensors,
                "cpu_s": round(spent_s, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
