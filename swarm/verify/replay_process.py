"""Replay a log that is stored in a file.

Shell: reads the file; ``replay`` does the rest. Runs in a worker thread, never in the event loop.

The answer of a blob depends on its bytes and its manifest alone, so it is the same for a verifier, a witness
and an auditor: bytes that are no log at all, the log of another window, or one that is not as its manifest
says, give the answer of a log that no honest solver writes.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Protocol

from torch import Tensor

from swarm.errors import Unreachable
from swarm.ledger.edges import EdgeMessage
from swarm.primitives.commitments import REFUSED, WindowResult
from swarm.training.data.dataset import TokenSource
from swarm.training.plan import RoundPlan
from swarm.training.record.window import WindowData, anchors_named
from swarm.types import Digest
from swarm.verify.edges import edges_in
from swarm.verify.manifest import WindowManifest
from swarm.verify.program.account import answer_or_lie
from swarm.verify.program.computed import Log as ProgramLog
from swarm.verify.replay import Committed, as_manifest_says, filled, log_in
from swarm.verify.tolerance import Comparison, compare

MARKER_BYTES = 32
"""Bytes of what stands in an answer for all that cannot be computed; nobody knows them before it is shown."""


@dataclass(frozen=True, slots=True)
class Log:
    """Log in a file, with what its replay needs."""

    path: Path
    manifest: WindowManifest
    plan: RoundPlan
    committed: Committed


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that the replay of a log reads."""

    log: Log
    tokens: TokenSource
    anchors: Mapping[Digest, Tensor]
    base_W: Tensor | None


class ReplayPort(Protocol):
    """Interface of the operations on a log: ``FileReplays``, or a fake where a real replay would be slow.

    They raise ``BrokenPromise`` if the file is not what the manifest names: the disk has changed it, or its
    solver gave the blob a form that is not a log's.
    """

    def anchors(self, log: Log) -> frozenset[Digest]:
        """Return the roots of the anchors that the replay reads."""
        ...

    def answer(
        self,
        log: Log,
        tokens: TokenSource,
        anchors: Mapping[Digest, Tensor],
        base_W: Tensor | None = None,
    ) -> WindowResult:
        """Return the answer of the replay; ``REFUSED`` for a log that no honest solver writes.

        ``base_W`` are the weights below the adapter of the run; None in a run without one.
        """
        ...

    def compare(
        self,
        log: Log,
        tokens: TokenSource,
        anchors: Mapping[Digest, Tensor],
        base_W: Tensor | None = None,
    ) -> Comparison:
        """Return the answer of the replay in a run without exact numerics; arguments as ``answer``."""
        ...

    def edges(self, log: Log) -> Sequence[EdgeMessage]:
        """Return the messages in a log that other seats signed, without their payloads."""
        ...


class FileReplays:
    """Implementation of ``ReplayPort`` that reads the files."""

    def anchors(self, log: Log) -> frozenset[Digest]:
        """Return the roots of the anchors that the replay reads; none if the bytes are no log of the window."""
        data = read_window(log)
        return frozenset() if data is None else anchors_named(data)

    def answer(
        self,
        log: Log,
        tokens: TokenSource,
        anchors: Mapping[Digest, Tensor],
        base_W: Tensor | None = None,
    ) -> WindowResult:
        """Return the answer of the replay; ``REFUSED`` for a log that no honest solver writes."""
        data = read_window(log)
        if data is None:
            return REFUSED
        marker = secrets.token_bytes(MARKER_BYTES)
        found = answer_or_lie(log.committed, log.plan, data, tokens, anchors, base_W, marker)
        return as_manifest_says(log.manifest, found)

    def compare(
        self,
        log: Log,
        tokens: TokenSource,
        anchors: Mapping[Digest, Tensor],
        base_W: Tensor | None = None,
    ) -> Comparison:
        """Return the answer of the replay in a run without exact numerics; a log of no window is refused."""
        data = read_window(log)
        if data is None:
            return Comparison(REFUSED, inf, 0.0)
        return compare(log.committed, log.plan, data, tokens, anchors, base_W)

    def edges(self, log: Log) -> Sequence[EdgeMessage]:
        """Return the messages in a log that other seats signed, without their payloads; none if it is no log.

        Their signatures are not checked here: a proof with one that is false convicts nobody.
        """
        data = read_window(log)
        return () if data is None else tuple(edges_in(data))


def read_filled(materials: Sequence[Material]) -> ProgramLog:
    """Return the last of some logs that follow one another, of which the first has its start state.

    Those between are replayed for the state that the last one begins with. Raises ``Unreachable`` if a file is
    no log of its window.
    """
    found = [read_window(one.log) for one in materials]
    windows = [one for one in found if one is not None]
    if len(windows) < len(materials):
        raise Unreachable("a log of this node is none")
    last, anchors = materials[-1], dict[Digest, Tensor]()
    for one in materials:
        anchors |= one.anchors
    plan, tokens, base_W = last.log.plan, last.tokens, last.base_W
    data = filled(plan, windows, tokens, anchors, base_W)
    return ProgramLog(plan, data, tokens, anchors, base_W)


def read_window(log: Log) -> WindowData | None:
    """Return the log in a file; None if it is none of this window. Raises as ``ReplayPort`` does."""
    return log_in(log.path.read_bytes(), log.manifest, log.plan.spec)
