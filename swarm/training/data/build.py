"""Build a dataset: find documents, assign them to the halves, encode them, and publish the complete folder.

Shell: reads and writes the disk. Memory does not grow with the input.

Documents are sorted by their names and duplicates dropped, in bounded memory. Everything is written in a hidden
folder beside the final one, which is renamed when all of it is durable. A build that is killed leaves that
folder behind; the next build of the same name empties it first.
"""

import errno
import fcntl
import heapq
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from swarm.config.bounds import token_dtype
from swarm.errors import BadConfig, Corrupt, UsageError
from swarm.primitives.codec import encode
from swarm.training.data.dataset import (
    DATASET_FILES,
    FORMAT,
    HELDOUT_FILE,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    TRAIN_FILE,
    DatasetManifest,
    Split,
    document_name,
    read_manifest,
)
from swarm.training.data.disk import Dataset, Progress, TokenWriter, tokenizer_root
from swarm.training.data.documents import Form, Inputs, Tally, documents
from swarm.training.data.tokenizer import Tokenizer
from swarm.types import NO_DIGEST

MEMORY_BYTES = 64 << 20
"""Bytes of documents held before they are written to a run."""
ENTRY_BYTES = 200
"""Bytes of memory per document beside its text."""
FAN_IN = 64
"""Runs merged at once: one open file each."""
NAMES_MAX = 10_000
"""Names of documents counted: with as many there is always a whole one to hold out."""
_NAME_BYTES = len(NO_DIGEST)
_LENGTH_BYTES = 8
KINDS_SHOWN = 4
"""Kinds named where nothing is text: a sentence, not a table."""


class Sorter:
    """External sort of documents: takes them in any order and yields each once, by name."""

    def __init__(self, folder: Path, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._held: dict[bytes, bytes] = {}
        self._held_bytes = 0
        self._runs = list[Path]()
        self._num_runs = 0
        self.num_added = 0
        """Documents added, duplicates included."""
        self._names = set[bytes]()

    def add(self, document: bytes) -> None:
        """Add a document; a duplicate of one in memory is dropped."""
        self.num_added += 1
        name = document_name(document)
        if len(self._names) < NAMES_MAX:
            self._names.add(name)
        if name in self._held:
            return
        self._held[name] = document
        self._held_bytes += len(document) + ENTRY_BYTES
        if self._held_bytes >= self._memory_bytes:
            self._spill()

    @property
    def num_distinct(self) -> int:
        """Distinct documents added, up to ``NAMES_MAX``."""
        return len(self._names)

    def drain(self, progress: Progress) -> Iterator[bytes]:
        """Yield all distinct documents, in the order of their names; the sorter is empty afterwards."""
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
    """The next document of one run; its text stays on the disk until it is yielded."""

    name: bytes
    number: int
    length: int
    file: BinaryIO


def _merged(runs: Sequence[Path]) -> Generator[tuple[bytes, bytes]]:
    """Yield the documents of several sorted runs in one order, duplicates left out."""
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


GROUP_BYTES = 1 << 20
"""Bytes of text encoded at once: enough to share among threads, few enough to hold as token ids."""
GROUP_DOCUMENTS = 1024

BuildProgress = Callable[[str, int], None]
"""Called with the name of a phase and the bytes that it has processed so far."""


@dataclass(frozen=True, slots=True)
class Order:
    """Inputs and settings of a build."""

    inputs: Inputs
    form: Form
    tokenizer: Tokenizer
    heldout_every: int
    max_bytes: int
    memory_bytes: int = MEMORY_BYTES


@dataclass(frozen=True, slots=True)
class Built:
    """A new dataset, and the counts of what was found and left out."""

    dataset: Dataset
    num_found: int
    num_left_out: int
    num_doubles: int
    is_cut: bool
    """True if the ends of documents are held out, because there are too few of them."""
    tally: Tally


def build_dataset(out: Path, order: Order, progress: BuildProgress, *, is_replaced: bool) -> Built:
    """Write a dataset to the folder ``out``, which appears only when it is complete.

    Args:
        out: The folder to create.
        order: Inputs and settings.
        progress: Called with the phase and the bytes it has processed.
        is_replaced: Replace a dataset that is already at ``out``.

    Raises:
        UsageError: ``out`` is occupied by anything but a replaceable dataset, or another build of it runs.
        BadConfig: The input cannot be used, or the disk has no room.
    """
    out = Path(os.path.abspath(out))
    try:
        with _workshop(out) as folder:
            check_target(out, is_replaced=is_replaced)
            built = _build(folder, order, progress)
            check_target(out, is_replaced=is_replaced)
            _show(folder, out)
    except OSError as error:
        hint = "df -h" if error.errno == errno.ENOSPC else "check the path and who owns it"
        where = f": {error.filename}" if error.filename else ""
        raise BadConfig(f"cannot build {out}: {error.strerror}{where}", hint=hint) from None
    return replace(built, dataset=Dataset(out, built.dataset.manifest))


def check_target(out: Path, *, is_replaced: bool) -> None:
    """Raise ``UsageError`` unless a dataset may be written to ``out``."""
    if not os.path.lexists(out):
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else set[str]()
    is_dataset = MANIFEST_FILE in names and names <= set(DATASET_FILES) and not out.is_symlink()
    if not is_dataset:
        raise UsageError(f"{out} is there, and is no dataset", hint="choose another --out")
    if not is_replaced:
        raise UsageError(f"the dataset {out} is there", hint="--yes replaces it")


@contextmanager
def _workshop(out: Path) -> Generator[Path]:
    """Create and lock an empty folder beside ``out``, and delete it afterwards.

    The kernel releases the lock when the process dies for any reason.
    """
    if not out.name:
        raise UsageError(f"{out} is there, and is no dataset", hint="choose another --out")
    folder = out.parent / f".{out.name}.building"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(out) from None
        if not _is_at(handle, folder):
            raise _busy(out)
        for left in folder.iterdir():
            left.unlink()
        if (old := _old(out)).exists() and not out.exists():
            old.rename(out)  # a replacement was interrupted between its two renames
        try:
            yield folder
        finally:
            if _is_at(handle, folder):
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def _busy(out: Path) -> UsageError:
    return UsageError(f"another build of {out} is running", hint="wait for it to end")


def _is_at(handle: int, folder: Path) -> bool:
    """Return True if a path still names the folder that is open: it may have been renamed."""
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False


def _old(out: Path) -> Path:
    """Return the path to which an old dataset is moved while a new one takes its name."""
    return out.parent / f".{out.name}.replaced"


def _build(folder: Path, order: Order, progress: BuildProgress) -> Built:
    sorter = Sorter(folder, memory_bytes=order.memory_bytes)
    tally = Tally()
    for document in documents(order.inputs, order.form, _counted("read", progress), tally):
        sorter.add(document)
    if not sorter.num_added:
        raise _no_text(tally)
    split = Split(
        max_bytes=order.max_bytes,
        heldout_every=order.heldout_every,
        num_documents=sorter.num_distinct,
    )
    manifest = _write_halves(folder, order, _dealt(sorter, split, progress), split, progress)
    for left in folder.glob("run-*"):
        left.unlink()
    raw = order.tokenizer.raw
    if raw:
        _save(folder / TOKENIZER_FILE, raw)
    _save(folder / MANIFEST_FILE, encode(manifest))
    dataset = Dataset(folder, read_manifest(encode(manifest)))
    return Built(
        dataset=dataset,
        num_found=sorter.num_added,
        num_left_out=split.num_left_out,
        num_doubles=sorter.num_added - split.num_seen,
        is_cut=split.is_cut,
        tally=tally,
    )


def _no_text(tally: Tally) -> BadConfig:
    """Return the refusal of inputs without any text, with what they hold, the commonest first."""
    kinds = sorted(tally.left_out.values(), key=lambda found: -found.num_files)
    if not kinds:
        return BadConfig(
            f"there is no text in what was named: empty files {tally.num_empty_files:,}, lines or rows without"
            f" text {tally.num_empty:,}",
            hint="name files that hold text",
        )
    parts = [
        f"{found.kind.name} ({found.num_files:,}, such as {found.example})"
        for found in kinds[:KINDS_SHOWN]
    ]
    return BadConfig(
        f"there is no text in what was named, but: {', '.join(parts)}",
        hint=kinds[0].hint,
    )


def _counted(what: str, progress: BuildProgress) -> Callable[[int], None]:
    """Return a function that adds up the bytes of one phase and reports the total to ``progress``."""
    done = 0

    def add(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        progress(what, done)

    return add


def _dealt(sorter: Sorter, split: Split, progress: BuildProgress) -> Iterator[tuple[int, bytes]]:
    for document in sorter.drain(_counted("sorted", progress)):
        yield from split.deal(document)


def _write_halves(
    folder: Path,
    order: Order,
    dealt: Iterator[tuple[int, bytes]],
    split: Split,
    progress: BuildProgress,
) -> DatasetManifest:
    tokenizer = order.tokenizer
    dtype = token_dtype(tokenizer.num_token_ids)
    with ExitStack() as stack:
        writers = [TokenWriter(folder / name, dtype) for name in (TRAIN_FILE, HELDOUT_FILE)]
        for writer in writers:
            stack.callback(writer.abandon)
        separator = np.array([tokenizer.separator], dtype=np.dtype(dtype))
        tell = _counted("written", progress)
        for group in _groups(dealt):
            encoded = tokenizer.encode([text for _, text in group])
            for (half, text), tokens in zip(group, encoded, strict=True):
                writers[half].add(tokens)
                writers[half].add(separator)
                tell(len(text))
        split.close()
        train, heldout = [writer.close() for writer in writers]
    return DatasetManifest(
        format=FORMAT,
        tokenizer="file" if tokenizer.raw else "bytes",
        tokenizer_root=tokenizer_root(tokenizer.raw) if tokenizer.raw else NO_DIGEST,
        dtype=dtype,
        num_token_ids=tokenizer.num_token_ids,
        separator=tokenizer.separator,
        heldout_every=order.heldout_every,
        num_documents=split.num_taken,
        train=train,
        heldout=heldout,
    )


def _groups(dealt: Iterator[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """Yield documents in groups of about ``GROUP_BYTES``."""
    for first in dealt:
        group, size = [first], len(first[1])
        while size < GROUP_BYTES and len(group) < GROUP_DOCUMENTS:
            following = next(dealt, None)
            if following is None:
                break
            group.append(following)
            size += len(following[1])
        yield group


def _save(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _show(folder: Path, out: Path) -> None:
    """Rename a complete folder to ``out``; a dataset that was there is deleted."""
    _sync(folder)
    old = _old(out)
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    folder.rename(out)
    _sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
