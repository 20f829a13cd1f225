"""Messages between a node and the process of one of its devices.

Core: messages and their bounds. Numbers travel in shared memory; the messages say where they are.

    node     Setup, then any of Load Forward Backward Loss Mean, each answered by Done or Failed,
             and Count Clear, which are not answered
    process  Done after Setup: it is ready
"""

import struct
from typing import cast

from swarm.config.spec import Recompute
from swarm.primitives.codec import Message, decode

FRAME_BYTES = 1 << 20
"""Bytes of one frame: several times a run spec with a full table of learning rates."""
REASON_CHARS = 300


class Setup(Message, frozen=True, tag=0):
    """Configuration of a process: its stage, device, and rank among ``world`` processes."""

    spec: bytes
    stage: int
    device: str
    rank: int
    world: int
    folder: str
    compiles: bool
    recompute: Recompute
    threads: int


class Load(Message, frozen=True, tag=1):
    """New weights are in the vector; forward passes with the old ones are dropped."""


class Forward(Message, frozen=True, tag=2):
    """Order to compute this process's sequences of a micro-batch and keep the pass as ``number``."""

    number: int
    batch: int
    length: int


class Backward(Message, frozen=True, tag=3):
    """Order for a backward pass: the gradient of the output of pass ``number`` is in the inputs."""

    number: int
    batch: int
    length: int


class Loss(Message, frozen=True, tag=4):
    """Order to the last stage: inputs and labels are in shared memory."""

    batch: int
    length: int


class Count(Message, frozen=True, tag=5):
    """Order to add the gradient computed last to the step's sum."""


class Mean(Message, frozen=True, tag=6):
    """Order to add up the sums of all processes, write the mean to the vector and begin the next step."""


class Clear(Message, frozen=True, tag=7):
    """Order to drop the sum and begin the next step."""


Command = Setup | Load | Forward | Backward | Loss | Count | Mean | Clear
UNANSWERED = (Count, Clear)


class Done(Message, frozen=True, tag=20):
    """Success."""

    is_sound: bool = True
    """True if the gradient is finite and not far too large."""
    loss: bytes = bytes(8)
    """Mean over the sequences of this process, in nats: a big-endian double."""
    notices: tuple[str, ...] = ()


class Failed(Message, frozen=True, tag=21):
    """Failure; the process ends."""

    reason: str


Reply = Done | Failed


def command_of(raw: bytes) -> Command:
    """Decode a message of the node; raise ``BadEncoding``."""
    return decode(cast("type[Command]", Command), raw, limit=FRAME_BYTES)


def reply_of(raw: bytes) -> Reply:
    """Decode a message of a process; raise ``BadEncoding``."""
    return decode(cast("type[Reply]", Reply), raw, limit=FRAME_BYTES)


def loss_bytes(loss: float) -> bytes:
    """Return a loss as the bytes of ``Done.loss``."""
    return struct.pack(">d", loss)


def loss_of(done: Done) -> float:
    """Return the loss of ``Done``, in nats."""
    (loss,) = struct.unpack(">d", done.loss[:8].ljust(8, b"\0"))
    return float(loss)
