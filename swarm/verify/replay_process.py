"""Replay a log that lies in a file.

Shell: reads the file; the rest is ``replay``'s. Runs in a worker thread, never in the event loop.

What a blob gives depends on its bytes alone, so that it is the same for a verifier, a judge and an auditor:
bytes that are no log at all, or another window's, give the answer of a log that nobody honest writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.errors import BrokenPromise, PeerFault
from swarm.primitives.commitments import tensor_hash
from swarm.training.data.samples import TokenSource
from swarm.training.plan import RoundPlan
from swarm.training.record.window import WindowData, anchors_named, decode_window
from swarm.types import Digest
from swarm.verify.manifest import WindowManifest
from swarm.verify.replay import REFUSED, Answer, answer


@dataclass(frozen=True, slots=True)
class Log:
    """A log in a file, and what its replay depends on."""

    path: Path
    manifest: WindowManifest
    plan: RoundPlan
    start_root: Digest
    """Of its segment, as committed."""


class ReplayPort(Protocol):
    """The two things that are done with a log; ``FileReplays``, or a stand-in where a real one would be slow.

    Both raise ``BrokenPromise`` if the file is not what the manifest names: our disk has changed it, or its
    solver gave it a form that is not a log's.
    """

    def anchors(self, log: Log) -> frozenset[Digest]:
        """Return the anchors that its replay reads."""
        ...

    def answer(self, log: Log, tokens: TokenSource, anchors: Mapping[Digest, Tensor]) -> Answer:
        """Return the answer of the replay; ``REFUSED`` for a log that no honest solver writes."""
        ...


class FileReplays:
    """The real ones."""

    def anchors(self, log: Log) -> frozenset[Digest]:
        """Return the anchors that its replay reads."""
        data = _read(log.path, log.manifest, log.plan.spec)
        return frozenset() if data is None else anchors_named(data)

    def answer(self, log: Log, tokens: TokenSource, anchors: Mapping[Digest, Tensor]) -> Answer:
        """Return the answer of the replay; ``REFUSED`` for a log that no honest solver writes."""
        data = _read(log.path, log.manifest, log.plan.spec)
        if data is None:
            return REFUSED
        return answer(log.start_root, log.plan, data, tokens, anchors)


def _read(path: Path, manifest: WindowManifest, spec: RunSpec) -> WindowData | None:
    """Return the log in a file; None if its bytes are not one of this window."""
    raw = path.read_bytes()
    if tensor_hash("uint8", (len(raw),), raw) != manifest.root:
        raise BrokenPromise("a log that is not what its manifest names")
    try:
        data = decode_window(spec, raw)
    except PeerFault:
        return None
    return data if data.key == manifest.key else None
