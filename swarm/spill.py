"""Map files into memory: spill files for tensors that are seldom touched, and files that are read.

Shell: unnamed files in one folder, which end with the process. ``placement.py`` decides what is spilled.

A mapped tensor is used like any other. Its pages come from the disk as they are touched, and ``let_go`` gives
them back: changed ones go to the disk, none are lost.
"""

import ctypes
import mmap
import os
import tempfile
import threading
from pathlib import Path
from weakref import WeakSet

from swarm import placement

SPILL = "spill"
"""Name of the folder in the home of a node."""
_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Function of glibc; None where another library allocates."""
_MAPPED = WeakSet[mmap.mmap]()
_LOCK = threading.Lock()


class SpillFolder:
    """Spill files of a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def place(self, num_bytes: int) -> memoryview | None:
        """Return a new mapped file of zeros; None if the disk has no room."""
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                if hasattr(os, "posix_fallocate"):
                    # Room that is not there would end the process when a page is touched.
                    os.posix_fallocate(file.fileno(), 0, num_bytes)
                else:
                    os.ftruncate(file.fileno(), num_bytes)
                return _registered(mmap.mmap(file.fileno(), num_bytes))
        except OSError:
            return None

    def let_go(self) -> None:
        """Give the resident pages of everything that is mapped back to the system; nothing is lost."""
        with _LOCK:
            mapped = list(_MAPPED)
        for mapping in mapped:
            mapping.madvise(mmap.MADV_DONTNEED)

    def trim(self) -> None:
        """Let go, and give back the memory that was freed, too: glibc keeps blocks of up to 32 MiB."""
        self.let_go()
        give_back()


def give_back() -> None:
    """Give freed memory back to the system; where the library cannot, do nothing."""
    if _TRIM is not None:
        _TRIM(0)


def use_folder(folder: Path | None) -> None:
    """Lay tensors into files of ``folder``, which is created; None: hold them in memory from now on."""
    placement.use_spill(None if folder is None else SpillFolder(folder))


def file_bytes(path: Path) -> memoryview:
    """Return the bytes of a file, those of a large one as they are read from the disk.

    They must not be written to. The file may be deleted or replaced meanwhile, but not cut short.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < placement.LARGE_BYTES_MIN:
            return memoryview(file.read())
        # A private mapping: torch warns of tensors in memory that cannot be written.
        return _registered(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def mapped_ranges() -> list[tuple[int, int]]:
    """Return the addresses of everything that is mapped: (first, behind the last)."""
    with _LOCK:
        starts = [(ctypes.addressof(ctypes.c_char.from_buffer(one)), len(one)) for one in _MAPPED]
    return [(start, start + size) for start, size in starts]


def _registered(mapping: mmap.mmap) -> memoryview:
    with _LOCK:
        _MAPPED.add(mapping)
    return memoryview(mapping)
