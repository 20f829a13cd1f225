"""Watch the peers of a small swarm from outside: when it runs as it should, and where their time goes.

The peers say how many seconds they spent on what; the kernel says how much of this machine others used.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks.common import TICKS, busy_s
from swarm.cli.client import fetch_state, find_node
from swarm.errors import SwarmError
from swarm.node.api.schema import NodeRow

KINDS = ("compute", "wire", "wait", "commit", "check")
"""Kinds of time that a node reports (``node/api/state.py``)."""
POLL_S = 3.0
"""A look costs a node some milliseconds."""
ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Sight:
    """All peers at one moment."""

    at_s: float
    """By ``time.monotonic``."""
    stages: tuple[tuple[int, ...], ...]
    """By peer: the stages of its seats."""
    seconds: tuple[Mapping[str, float], ...]
    """By peer: the seconds since its start, by kind."""
    ours_s: float = 0.0
    """Processor seconds of all peers since their starts."""
    busy_s: float = 0.0
    """Processor seconds of this machine since it was started."""
    steps: tuple[int, ...] = ()
    """By peer: optimizer steps since its start."""
    pids: tuple[int, ...] = ()
    """By peer: its process."""

    @property
    def is_steady(self) -> bool:
        """True if every peer has one seat, each in another stage."""
        return sorted(self.stages) == [(stage,) for stage in range(len(self.stages))]


def shares(first: Sight, last: Sight) -> dict[str, dict[str, float]]:
    """Return, by stage, the part of the time between two sights that its peer spent on each kind."""
    passed_s, found = last.at_s - first.at_s, dict[str, dict[str, float]]()
    for stages, before, after in zip(last.stages, first.seconds, last.seconds, strict=True):
        spent = {kind: round((after[kind] - before[kind]) / passed_s, 4) for kind in KINDS}
        found[f"stage {stages[0]}"] = spent
    return dict(sorted(found.items()))


def others_share(first: Sight, last: Sight) -> float | None:
    """Return the part of this machine that other processes took between two sights; None if not counted."""
    if not last.busy_s:
        return None
    theirs_s = (last.busy_s - first.busy_s) - (last.ours_s - first.ours_s)
    return round(theirs_s / (last.at_s - first.at_s) / (os.cpu_count() or 1), 4)


class PairMeter:
    """Looks at the nodes of some homes every few seconds, in a thread of its own, as long as it is open."""

    def __init__(self, homes: Sequence[Path]) -> None:
        self.sights: list[Sight] = []
        self._homes = homes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll_loop, daemon=True)

    def __enter__(self) -> "PairMeter":
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def steady(self, since_s: float, until_s: float) -> tuple[Sight, Sight] | None:
        """Return the first and the last steady sight within a time, or None."""
        found = [x for x in self.sights if x.is_steady and since_s <= x.at_s <= until_s]
        return (found[0], found[-1]) if len(found) > 1 else None

    def _poll_loop(self) -> None:
        while not self._over.wait(POLL_S):
            sight = read_sight(self._homes)
            if sight is not None:
                self.sights.append(sight)


def read_sight(homes: Sequence[Path]) -> Sight | None:
    """Ask the nodes of some homes; return None if one of them does not answer."""
    nodes, ours_s = list[NodeRow](), 0.0
    try:
        for home in homes:
            address = find_node(home)
            if address is None:
                return None
            nodes.append(fetch_state(address, ANSWER_S).node)
            ours_s += process_s(address.pid)
    except (SwarmError, OSError):
        return None
    return Sight(
        at_s=time.monotonic(),
        stages=tuple(_stages_of(node) for node in nodes),
        seconds=tuple(_seconds_of(node) for node in nodes),
        ours_s=ours_s,
        busy_s=busy_s(),
        steps=tuple(node.steps for node in nodes),
        pids=tuple(node.pid for node in nodes),
    )


def _stages_of(node: NodeRow) -> tuple[int, ...]:
    return tuple(sorted(stage for stage, _ in node.seats))


def _seconds_of(node: NodeRow) -> dict[str, float]:
    return {kind: getattr(node.seconds, kind) for kind in KINDS}


def process_s(pid: int) -> float:
    """Return the processor seconds of a process since its start; 0 where the system does not count them."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
