"""Sort documents by their names and drop the doubles, in memory that does not grow with them.

Shell: spills sorted runs to a folder and merges them.
"""

import heapq
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from swarm.errors import Corrupt
from swarm.training.split import document_name
from swarm.training.token_files import Progress
from swarm.types import NO_DIGEST

MEMORY_BYTES = 64 << 20
"""Documents held before they are written to a run."""
ENTRY_BYTES = 200
"""What a document costs in memory beside its text."""
FAN_IN = 64
"""Runs merged at once: one open file each."""
_NAME_BYTES = len(NO_DIGEST)
_LENGTH_BYTES = 8


class Sorter:
    """Takes documents in any order and gives them back by name, each once."""

    def __init__(self, folder: Path, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._held: dict[bytes, bytes] = {}
        self._held_bytes = 0
        self._runs = list[Path]()
        self._num_runs = 0
        self.num_added = 0
        """Documents that came, doubles included."""

    def add(self, document: bytes) -> None:
        """Take a document."""
        self.num_added += 1
        name = document_name(document)
        if name in self._held:
            return
        self._held[name] = document
        self._held_bytes += len(document) + ENTRY_BYTES
        if self._held_bytes >= self._memory_bytes:
            self._spill()

    def drain(self, progress: Progress) -> Iterator[bytes]:
        """All different documents, in the order of their names; the sorter is empty afterwards."""
        if not self._runs:
            for name in sorted(self._held):
                yield self._held.pop(name)
            return
        self._spill()
        while len(self._runs) > FAN_IN:
            group, self._runs = self._runs[:FAN_IN], self._runs[FAN_IN:]
            self._runs.append(self._write(_merged(group), progress))
            for path in group:
                path.unlink()
        for _, document in _merged(self._runs):
            yield document

    def _spill(self) -> None:
        if self._held:
            names = sorted(self._held)
            self._runs.append(self._write((name, self._held[name]) for name in names))
            self._held.clear()
            self._held_bytes = 0

    def _write(
        self, entries: Iterator[tuple[bytes, bytes]], progress: Progress | None = None
    ) -> Path:
        path = self._folder / f"run-{self._num_runs}"
        self._num_runs += 1
        with path.open("xb") as file:
            for name, document in entries:
                file.write(name + len(document).to_bytes(_LENGTH_BYTES, "big"))
                file.write(document)
                if progress is not None:
                    progress(len(document))
        return path


@dataclass(order=True, slots=True)
class _Cursor:
    """The next document of one run: its text stays on the disk until its turn has come."""

    name: bytes
    number: int
    length: int
    file: BinaryIO


def _merged(runs: Sequence[Path]) -> Generator[tuple[bytes, bytes]]:
    """The documents of several sorted runs in one order, doubles left out."""
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in runs]
        cursors = [_cursor(number, file) for number, file in enumerate(files)]
        heap = [cursor for cursor in cursors if cursor is not None]
        heapq.heapify(heap)
        last = b""
        while heap:
            least = heap[0]
            if least.name == last:
                least.file.seek(least.length, 1)
            else:
                last = least.name
                yield last, _exactly(least.file, least.length)
            following = _cursor(least.number, least.file)
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, following)


def _cursor(number: int, file: BinaryIO) -> _Cursor | None:
    head = file.read(_NAME_BYTES + _LENGTH_BYTES)
    if not head:
        return None
    return _Cursor(head[:_NAME_BYTES], number, int.from_bytes(head[_NAME_BYTES:], "big"), file)


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise Corrupt(f"{file.name} was cut short while it was read", hint="df -h")
    return data
