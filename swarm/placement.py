"""Place flat tensors that are seldom touched: in spill files, outside of the memory of the process, or in it.

Core: copies, in spill files that the node installs; without one, for small tensors and where they have no room,
memory is used. Like the allocator of torch they are one for the process. A process in which no tensor is large
does nothing of this: it has no spill files, and gives nothing back.

    spilled, moved, zeros --touched--> resident --let_go--> in spill files, nothing is lost
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from swarm.types import Bytes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LARGE_BYTES_MIN = 16 << 20
"""Bytes of the tensor with which spilling begins: 4 million parameters. All that a smaller seat could spill is
less than a process has without a seat (600 MiB), and the faults for pages that were given back cost a seat of
.25 million parameters a fifth of its time."""
SPILLED_BYTES_MIN = 1 << 20
"""Bytes of the smallest tensor that is written to a spill file: below, what is saved is not worth a file."""
SLICE_BYTES = 16 << 20
"""Bytes that are written at once, so that pages of a mapped source can be given back in between."""


class Spill(Protocol):
    """Room for tensors outside of the memory: ``swarm.spill.SpillFolder``."""

    def place(self, num_bytes: int) -> memoryview | None:
        """Return zeros that can be written; None if there is no room."""
        ...

    def let_go(self) -> None:
        """Give the resident pages of everything in spill files back to the system."""

    def trim(self) -> None:
        """Let go, and give back the memory that was freed, too."""


class _NoSpill:
    def place(self, num_bytes: int) -> memoryview | None:  # noqa: ARG002
        return None

    def let_go(self) -> None:
        pass

    def trim(self) -> None:
        pass


class _Installed:
    waiting: Spill = _NoSpill()
    """Spill that takes over with the first large tensor."""
    spill: Spill = _NoSpill()


def use_spill(spill: Spill | None) -> None:
    """Write tensors to ``spill`` from the first large one on; None: hold them in memory from now on."""
    _Installed.waiting, _Installed.spill = spill or _NoSpill(), _NoSpill()


def spilled(tensor: "Tensor") -> "Tensor":
    """Return a copy of a flat tensor in spill files, or in memory if it is small."""
    source = tensor.detach()
    room = _tensor_room(source.numel() * source.element_size())
    if room is None:
        return source.to("cpu", copy=True)
    return _copied(source, room)


def moved(tensor: "Tensor") -> "Tensor":
    """Return a flat tensor of the CPU from spill files, or itself if it is small."""
    room = _tensor_room(tensor.numel() * tensor.element_size())
    if room is None:
        return tensor
    return _copied(tensor.detach(), room)


def zeros(numel: int) -> "Tensor":
    """Return ``numel`` float32 zeros in spill files, or in memory if they are few."""
    import torch  # noqa: PLC0415

    room = _tensor_room(4 * numel)
    return torch.zeros(numel) if room is None else _tensor(room, torch.float32)


def spilled_bytes(data: Bytes) -> Bytes:
    """Return bytes that are kept for long from spill files, or themselves if they are few."""
    room = _room(len(data))
    return data if room is None else _filled(room, [data])


def spilled_pieces(pieces: Sequence[Bytes]) -> Bytes:
    """Return the pieces one after another, as bytes in spill files, or in memory if they are few."""
    room = _room(sum(map(len, pieces)))
    return b"".join(pieces) if room is None else _filled(room, pieces)


def let_go() -> None:
    """Give the resident pages of what lies in spill files back to the system; touched, they are read again."""
    _Installed.spill.let_go()


def trim() -> None:
    """Let go, and give back the memory that was freed, too: allocators keep blocks of tens of megabytes."""
    _Installed.spill.trim()


def _tensor_room(num_bytes: int) -> memoryview | None:
    if num_bytes >= LARGE_BYTES_MIN:
        _Installed.spill = _Installed.waiting
    return _room(num_bytes)


def _room(num_bytes: int) -> memoryview | None:
    return None if num_bytes < SPILLED_BYTES_MIN else _Installed.spill.place(num_bytes)


def _copied(source: "Tensor", room: memoryview) -> "Tensor":
    copy = _tensor(room, source.dtype)
    count = max(SLICE_BYTES // source.element_size(), 1)
    let_go()
    for start in range(0, source.numel(), count):
        copy[start : start + count] = source[start : start + count]
        let_go()
    return copy


def _tensor(room: memoryview, dtype: "torch.dtype") -> "Tensor":
    import torch  # noqa: PLC0415  who adds a file to the blobs does without it

    return torch.frombuffer(room, dtype=torch.uint8).view(dtype)


def _filled(room: memoryview, pieces: Sequence[Bytes]) -> Bytes:
    at = 0
    for piece in pieces:
        for start in range(0, len(piece), SLICE_BYTES):
            part = piece[start : start + SLICE_BYTES]
            room[at : at + len(part)] = part
            at += len(part)
            let_go()
    return room.toreadonly()
