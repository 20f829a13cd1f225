"""What a node and the process of one of its devices say to each other.

Core: messages and their bounds. Numbers travel in shared memory; these say what is where.

    node     Setup, then any of Load Forward Backward Loss Mean, each answered by Done or Failed,
             and Count Clear, which are not answered
    process  Done after Setup: it is ready
"""

import struct
from typing import cast

from swarm.primitives.codec import Message, decode

FRAME_BYTES = 1 << 20
"""A run spec with a full table of learning rates fits many times."""
REASON_CHARS = 300


class Setup(Message, frozen=True, tag=0):
    """Who the process is, among ``world`` of one stage."""

    spec: bytes
    stage: int
    device: str
    rank: int
    world: int
    folder: str
    compiles: bool
    threads: int


class Load(Message, frozen=True, tag=1):
    """New weights are in the vector; forward passes with the old ones are forgotten."""


class Forward(Message, frozen=True, tag=2):
    """Compute this process' sequences of a micro-batch, remember the pass as ``number``."""

    number: int
    batch: int
    length: int


class Backward(Message, frozen=True, tag=3):
    """The gradient of the output of pass ``number`` is in the inputs."""

    number: int
    batch: int
    length: int


class Loss(Message, frozen=True, tag=4):
    """The last stage: inputs and labels are there."""

    batch: int
    length: int


class Count(Message, frozen=True, tag=5):
    """The gradient computed last belongs to the step."""


class Mean(Message, frozen=True, tag=6):
    """Add up the sums of all processes; the mean goes into the vector, and the next step begins."""


class Clear(Message, frozen=True, tag=7):
    """The next step begins."""


Command = Setup | Load | Forward | Backward | Loss | Count | Mean | Clear
UNANSWERED = (Count, Clear)


class Done(Message, frozen=True, tag=20):
    """It is done."""

    is_sound: bool = True
    """Whether the gradient is finite and not far too large."""
    loss: bytes = bytes(8)
    """Mean over the sequences of this process, in nats: a big-endian double."""
    notices: tuple[str, ...] = ()


class Failed(Message, frozen=True, tag=21):
    """It cannot be done, and the process ends."""

    reason: str


Reply = Done | Failed


def command_of(raw: bytes) -> Command:
    """What the node says; raises ``BadEncoding``."""
    return decode(cast("type[Command]", Command), raw, limit=FRAME_BYTES)


def reply_of(raw: bytes) -> Reply:
    """What a process says; raises ``BadEncoding``."""
    return decode(cast("type[Reply]", Reply), raw, limit=FRAME_BYTES)


def loss_bytes(loss: float) -> bytes:
    """A loss as ``Done.loss``."""
    return struct.pack(">d", loss)


def loss_of(done: Done) -> float:
    """The loss of ``Done``, in nats."""
    (loss,) = struct.unpack(">d", done.loss[:8].ljust(8, b"\0"))
    return float(loss)
