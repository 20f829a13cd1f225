"""Lay tensors that are seldom touched into files of the disk, mapped into memory, instead of holding them.

Shell: unnamed files in one folder, which end with the process, and files that are mapped to be read.

A mapped tensor is used like any other. Its pages come from the disk as they are touched, and ``let_go`` gives
them back: changed ones go to the disk, none are lost. Like the allocator of torch this is one for the process:
without a folder, for small tensors, and where the disk has no room, tensors lie in memory.

    use_folder --> shelved, zeros: a copy on the shelf --touched--> resident --let_go--> on the disk
"""

import ctypes
import mmap
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from swarm.types import Bytes

SHELF = "shelf"
"""Name of the folder in the home of a node."""
SHELVED_BYTES_MIN = 1 << 20
"""Bytes of the smallest tensor that is laid into a file: below, what is saved is not worth a file."""
SLICE_BYTES = 16 << 20
"""Bytes that are written at once, so that pages of a mapped source can be given back in between."""


_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Function of glibc; None where another library allocates."""


class _Shelf:
    """The folder of this process, and what is mapped."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.mapped = WeakSet[mmap.mmap]()
        self.lock = threading.Lock()

    def register(self, mapping: mmap.mmap) -> mmap.mmap:
        with self.lock:
            self.mapped.add(mapping)
        return mapping


_SHELF = _Shelf()


def use_folder(folder: Path | None) -> None:
    """Lay tensors into files of ``folder``, which is created; None: hold them in memory from now on."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    _SHELF.folder = folder


def shelved(tensor: Tensor) -> Tensor:
    """Return a copy of a flat tensor, on the CPU: in a file, or in memory if it is small."""
    source = tensor.detach()
    num_bytes = source.numel() * source.element_size()
    mapping = _file_of(num_bytes)
    if mapping is None:
        return source.to("cpu", copy=True)
    copy = _tensor(mapping, source.dtype)
    count = max(SLICE_BYTES // source.element_size(), 1)
    for start in range(0, source.numel(), count):
        copy[start : start + count] = source[start : start + count]
        let_go()
    return copy


def moved(tensor: Tensor) -> Tensor:
    """Return a flat tensor of the CPU from the shelf, or itself if it is small."""
    is_small = tensor.numel() * tensor.element_size() < SHELVED_BYTES_MIN
    return tensor if is_small or _SHELF.folder is None else shelved(tensor)


def shelved_bytes(data: Bytes) -> Bytes:
    """Return bytes that are kept for long from the shelf, or themselves if they are few."""
    mapping = _file_of(len(data))
    return data if mapping is None else _filled(mapping, [data])


def shelved_pieces(pieces: Sequence[Bytes]) -> Bytes:
    """Return the pieces one after another, as bytes on the shelf, or in memory if they are few."""
    mapping = _file_of(sum(map(len, pieces)))
    return b"".join(pieces) if mapping is None else _filled(mapping, pieces)


def _filled(mapping: mmap.mmap, pieces: Sequence[Bytes]) -> Bytes:
    at = 0
    for piece in pieces:
        for start in range(0, len(piece), SLICE_BYTES):
            part = piece[start : start + SLICE_BYTES]
            mapping[at : at + len(part)] = part
            at += len(part)
            let_go()
    return memoryview(mapping).toreadonly()


def zeros(numel: int) -> Tensor:
    """Return ``numel`` float32 zeros: in a file, or in memory if they are few."""
    mapping = _file_of(4 * numel)
    return torch.zeros(numel) if mapping is None else _tensor(mapping, torch.float32)


def mapped_file(path: Path) -> memoryview:
    """Return the bytes of a file as they are read from the disk; they must not be written to.

    The file may be deleted or replaced meanwhile, but not cut short.
    """
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return memoryview(b"")
        # A private mapping: torch warns of tensors in memory that cannot be written.
        return memoryview(_SHELF.register(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)))


def let_go() -> None:
    """Give the resident pages of everything that is mapped back to the system; nothing is lost."""
    with _SHELF.lock:
        mapped = list(_SHELF.mapped)
    for mapping in mapped:
        mapping.madvise(mmap.MADV_DONTNEED)


def trim() -> None:
    """Let go, and give back the memory that was freed, too: the allocator keeps blocks of up to 32 MiB."""
    let_go()
    if _TRIM is not None:
        _TRIM(0)


def num_mapped() -> int:
    """Return the bytes of all that is mapped, on the shelf and to be read."""
    with _SHELF.lock:
        return sum(len(mapping) for mapping in _SHELF.mapped)


def _file_of(num_bytes: int) -> mmap.mmap | None:
    """Return a new mapped file of zeros; None if a tensor of so many bytes should lie in memory."""
    folder = _SHELF.folder
    if folder is None or num_bytes < SHELVED_BYTES_MIN:
        return None
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                # Room that is not there would end the process when a page is touched.
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            else:
                os.ftruncate(file.fileno(), num_bytes)
            return _SHELF.register(mmap.mmap(file.fileno(), num_bytes))
    except OSError:
        return None


def _tensor(mapping: mmap.mmap, dtype: torch.dtype) -> Tensor:
    raw = torch.from_numpy(np.frombuffer(mapping, dtype=np.uint8))
    return raw.view(dtype)
