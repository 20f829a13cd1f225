"""Memory that a node shares with the processes of its devices, and the frames that they exchange.

Shell: files in memory if the system has them, and sockets between processes of one machine.
Legend: P parameters, B batch, T time, S values that a stage sends of a token and J numbers that one takes
(model/stages.py).
"""

import os
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.errors import DeviceLost
from swarm.machine import scratch_folders
from swarm.training.devices.protocol import FRAME_BYTES
from swarm.training.model.bottleneck import input_width, signal_width
from swarm.training.model.stages import plans_of

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class SharedTensors:
    """Tensors in shared files, one file each; all processes map the same ones."""

    vector_P: Tensor
    """New weights on the way to the processes, the mean gradient on the way back."""
    received: Tensor
    """Rows BTJ or gradients BTS, from the node."""
    outputs: Tensor
    """Activations or gradients BTS, from the processes: each writes its own sequences."""
    tokens: Tensor
    """int64: token ids BT, then labels BT."""
    batch: int
    input_width: int
    """J"""
    signal_width: int
    """S"""
    is_first: bool
    base_W: Tensor | None = None
    """Weights below the adapter of the run, if it has one: written by the node before the processes start."""

    @classmethod
    def open(cls, folder: Path, spec: RunSpec, stage: int) -> "SharedTensors":
        """Map the files, which are created if missing."""
        sizes = _sizes(spec, stage)
        vector_P, received, outputs = (
            torch.from_file(str(folder / name), shared=True, size=sizes[name] // 4)
            for name in ("vector", "given", "outputs")
        )
        tokens = torch.from_file(
            str(folder / "tokens"), shared=True, size=sizes["tokens"] // 8, dtype=torch.int64
        )
        base_W = None
        if "base" in sizes:
            name, size = str(folder / "base"), sizes["base"] // 4
            base_W = torch.from_file(name, shared=True, size=size)
        return cls(
            vector_P=vector_P,
            received=received,
            outputs=outputs,
            tokens=tokens,
            batch=spec.microbatch_size,
            input_width=input_width(spec.model),
            signal_width=signal_width(spec.model),
            is_first=stage == 0,
            base_W=base_W,
        )

    def activations(self, held: Tensor, rows: slice, length: int) -> Tensor:
        """Return sequences of ``outputs``, or of gradients in ``received``, as a view BTS."""
        return _sequences(held, rows, length, self.signal_width)

    def ids(self, rows: slice, length: int) -> Tensor:
        """Return sequences of token ids as a view BT."""
        found = self.tokens[rows.start * length : rows.stop * length]
        return found.view(rows.stop - rows.start, length)

    def inputs(self, rows: slice, length: int) -> Tensor:
        """Return a copy of the inputs, ids BT or rows BTJ; the next micro-batch overwrites them."""
        if self.is_first:
            return self.ids(rows, length).clone()
        return _sequences(self.received, rows, length, self.input_width).clone()

    def labels(self, rows: slice, length: int) -> Tensor:
        """Return a copy of the labels BT."""
        start = self.tokens.numel() // 2
        found = self.tokens[start + rows.start * length : start + rows.stop * length]
        return found.view(rows.stop - rows.start, length).clone()

    def put_labels(self, labels_BT: Tensor) -> None:
        """Write the labels of a whole micro-batch."""
        start = self.tokens.numel() // 2
        self.tokens[start : start + labels_BT.numel()] = labels_BT.reshape(-1)

    def put_inputs(self, inputs: Tensor) -> None:
        """Write the ids or rows of a whole micro-batch, or the gradient of its output."""
        held = self.received if inputs.dtype == torch.float32 else self.tokens
        held[: inputs.numel()] = inputs.reshape(-1)


def _sequences(held: Tensor, rows: slice, length: int, width: int) -> Tensor:
    per_row = length * width
    found = held[rows.start * per_row : rows.stop * per_row]
    return found.view(rows.stop - rows.start, length, width)


def make_folder(spec: RunSpec, stage: int) -> Path:
    """Create a folder for this user alone, with space reserved for every tensor.

    Space is reserved because a process is killed if shared memory runs out later. Raises ``DeviceLost`` if
    neither memory nor the disk for temporary files has enough.
    """
    needed = sum(_sizes(spec, stage).values())
    for parent in scratch_folders():
        folder = Path(tempfile.mkdtemp(prefix="swarm-", dir=parent))
        try:
            for name, size in _sizes(spec, stage).items():
                _reserve(folder / name, size)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            return folder
    raise DeviceLost(
        f"several devices share {needed:,} bytes of memory, and there is no room for them",
        hint="df -h /dev/shm (docker run --shm-size), or TMPDIR=FOLDER with room; or one device under [compute]"
        " of node.toml",
    )


def forget_files(folder: Path) -> None:
    """Delete the file names once all processes have mapped them; the memory is freed with the last process."""
    for name in ("vector", "given", "outputs", "tokens", "base"):
        (folder / name).unlink(missing_ok=True)


def send_frame(link: socket.socket, raw: bytes) -> None:
    """Send one frame; raise ``OSError`` if the other side is gone."""
    link.sendall(len(raw).to_bytes(_LENGTH_BYTES, "big") + raw)


def receive_frame(link: socket.socket) -> bytes:
    """Receive one frame; raise ``EOFError`` if the other side is gone, ``ValueError`` for one too long."""
    length = int.from_bytes(_receive(link, _LENGTH_BYTES), "big")
    if length > FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes")
    return _receive(link, length)


def _receive(link: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        piece = link.recv(count - len(found))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)


def _sizes(spec: RunSpec, stage: int) -> dict[str, int]:
    """Return the bytes of each shared file by name."""
    positions = spec.microbatch_size * spec.model.seq_len
    plan = plans_of(spec)[stage]
    given, outputs = (4 * positions * width for width in (plan.input_width, plan.signal_width))
    sizes = {"vector": 4 * plan.num_parameters, "given": given, "outputs": outputs}
    if plan.base is not None:
        sizes["base"] = 4 * plan.base.num_parameters
    return sizes | {"tokens": 2 * 8 * positions}


def _reserve(path: Path, size: int) -> None:
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
