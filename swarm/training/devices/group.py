"""Use several devices of one node as one engine: each micro-batch is split over one process per device.

Shell: starts, addresses and ends the processes; ``training/devices/worker.py`` computes.

Each micro-batch is split by sequences, because a pipeline waits for every micro-batch and a seat computes them
one after another. Weights and moments stay in the node, on the CPU, so that they survive the loss of a device.
Gradients stay on the devices until a step; torch.distributed adds them up as integers.

    a process dies or falls silent -> all are ended, the step's gradients are dropped, DeviceLost is raised
    next micro-batch               -> the other devices start again, with the weights that the node holds
    no device left                 -> DeviceLost at every call: the node steps down at the round boundary

Legend: P parameters, B batch, T time, D hidden.
"""

import select
import shutil
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import swarm
from swarm.config.spec import Recompute, RunSpec
from swarm.errors import BadEncoding, DeviceLost, PeerFault, UsageError
from swarm.primitives.codec import encode
from swarm.training.devices.engine import NOTICES_MAX, Gradients
from swarm.training.devices.protocol import (
    UNANSWERED,
    Backward,
    Clear,
    Command,
    Count,
    Done,
    Failed,
    Load,
    Loss,
    Mean,
    Setup,
    loss_of,
    reply_of,
)
from swarm.training.devices.protocol import Forward as ForwardCommand
from swarm.training.devices.select import devices_text, shares
from swarm.training.devices.shared_memory import (
    SharedTensors,
    forget_files,
    make_folder,
    receive_frame,
    send_frame,
)
from swarm.training.model.optimizer import MICROBATCHES_MAX
from swarm.training.model.stages import Forward, Stage, stage_of

FRAME_S = 10.0
"""Seconds for the rest of a frame that has begun."""
END_S = 1.0
"""Seconds for all killed processes together to end: the event loop waits for it."""
ERROR_BYTES = 4096
"""Bytes read from the end of a dead process's error output."""


class ProcessLost(Exception):
    """The process of rank ``rank`` is gone; ``reason`` is its last error, or the cause."""

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(reason)
        self.rank, self.reason = rank, reason


class Processes:
    """One running process per device; calls raise ``ProcessLost`` for the first that fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._links: list[socket.socket] = []
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids, by rank."""
        return tuple(child.pid for child in self._children)

    def start(self, setups: Sequence[Setup], timeout_s: float) -> None:
        """Start one process for each setup, and wait until all are ready."""
        for setup in setups:
            ours, theirs = socket.socketpair()
            ours.settimeout(FRAME_S)
            self._links.append(ours)
            with theirs, self._errors(setup.rank).open("wb") as errors:
                self._children.append(_spawn(theirs, errors.fileno()))
            self._send(setup.rank, setup)
        self._wait(timeout_s)

    def ask(self, command: Command, timeout_s: float) -> list[Done]:
        """Send a command to all processes, wait for all, and return the answers by rank."""
        self.send(command)
        return self._wait(timeout_s)

    def send(self, command: Command) -> None:
        """Send a command to all processes."""
        for rank in range(len(self._links)):
            self._send(rank, command)

    def close(self) -> None:
        """Kill all processes, close their links and delete the shared folder."""
        for child in self._children:
            child.kill()
        for link in self._links:
            link.close()
        deadline = time.monotonic() + END_S
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):  # a driver may delay its end
                child.wait(max(deadline - time.monotonic(), 0.0))
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self, timeout_s: float) -> list[Done]:
        deadline = time.monotonic() + timeout_s
        waiting = {link: rank for rank, link in enumerate(self._links)}
        found: dict[int, Done] = {}
        while waiting:
            left_s = max(deadline - time.monotonic(), 0.0)
            try:
                ready, _, _ = select.select(list(waiting), [], [], left_s)
            except (OSError, ValueError):  # closed meanwhile, by the event loop's thread
                raise ProcessLost(min(waiting.values()), "closed") from None
            if not ready:
                raise ProcessLost(min(waiting.values()), f"no answer in {timeout_s:.0f} s")
            for link in ready:
                rank = waiting.pop(link)
                found[rank] = self._receive(rank, link)
        return [found[rank] for rank in sorted(found)]

    def _send(self, rank: int, command: Command) -> None:
        try:
            send_frame(self._links[rank], encode(command))
        except OSError:
            raise ProcessLost(rank, self._last_error(rank)) from None

    def _receive(self, rank: int, link: socket.socket) -> Done:
        try:
            reply = reply_of(receive_frame(link))
        except (EOFError, OSError, ValueError, BadEncoding):
            raise ProcessLost(rank, self._last_error(rank)) from None
        if isinstance(reply, Failed):
            raise ProcessLost(rank, reply.reason)
        return reply

    def _errors(self, rank: int) -> Path:
        return self._folder / f"errors-{rank}"

    def _last_error(self, rank: int) -> str:
        path = self._errors(rank)
        output = path.read_bytes()[-ERROR_BYTES:] if path.exists() else b""
        lines = output.decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "its process ended"


def _spawn(link: socket.socket, errors: int) -> subprocess.Popen[bytes]:
    """Start a process that inherits ``link`` and no other file of this process."""
    # Not by fork: this process has threads, and its own contexts on devices.
    root = str(Path(swarm.__file__).parents[1])
    module = "swarm.training.devices.worker"
    program = f"import sys; sys.path.insert(0, {root!r}); from {module} import main; main()"
    return subprocess.Popen(  # noqa: S603  (our own interpreter and our own module)
        [sys.executable, "-P", "-c", program, str(link.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=(link.fileno(),),
    )


START_S = 300.0
"""Seconds for a process to load torch and its device: minutes on a busy machine."""
REPLY_S = 150.0
"""Seconds for a micro-batch or a sum: longer than the processes wait for each other."""
COMPILE_S = 900.0
"""Seconds for the same if passes are compiled, which happens at the first of each kind."""


@dataclass(slots=True)
class FarForward(Forward):
    """A forward pass that the processes hold under ``number``; only its output is in the node."""

    number: int = 0


class GroupEngine:
    """The engine of one stage over several devices of one kind; see ``engine.Engine``."""

    def __init__(
        self,
        spec: RunSpec,
        stage: int,
        devices: Sequence[str],
        *,
        compiles: bool = False,
        recompute: Recompute = "auto",
        threads: int = 1,
        base_W: Tensor | None = None,
    ) -> None:
        """Prepare the engine; ``base_W`` are the weights below the run's adapter, if it has one."""
        self.home = torch.device("cpu")
        self.notices: deque[str] = deque(maxlen=NOTICES_MAX)
        self.devices = list(devices)
        """Devices that are still in use."""
        self._spec, self._index = spec, stage
        self._stage: Stage = stage_of(spec, stage, base_W)
        self._compiles, self._threads = compiles, threads
        self._recompute: Recompute = recompute
        self._processes: Processes | None = None
        self._shared: SharedTensors | None = None
        self._version = -1
        self._number = 0
        self._is_sound = False
        self._is_closed = False
        self._last = ""
        self._forget: Callable[[], None] = _nothing

    @property
    def pids(self) -> tuple[int, ...]:
        """Ids of the running processes, one per device."""
        return () if self._processes is None else self._processes.pids

    @property
    def is_gone(self) -> bool:
        """True if no device is left."""
        return not self.devices

    def watch(self, forget: Callable[[], None]) -> None:
        """Set the callback for lost gradients; see ``Engine.watch``."""
        self._forget = forget

    def start(self) -> None:
        """Start the processes, dropping devices that fail; raise ``DeviceLost`` if none is left."""
        while self._processes is None:
            if self._is_closed or not self.devices:
                last = f": {self._last}" if self._last else ""
                raise DeviceLost(
                    f"no device under [compute] of node.toml answers any more{last}",
                    hint='nvidia-smi; or device = "cpu" under [compute] of node.toml',
                )
            folder = make_folder(self._spec, self._index)
            self._shared = SharedTensors.open(folder, self._spec, self._index)
            if self._shared.base_W is not None and self._stage.base_W is not None:
                self._shared.base_W.copy_(self._stage.base_W)
            self._processes = processes = Processes(folder)
            try:
                processes.start(self._setups(folder), START_S)
            except ProcessLost as died:
                self._lose(died)
            forget_files(folder)
            if self._is_closed:
                processes.close()  # the seat was left while they started

    def gradients(self, num_parameters: int) -> "GroupSum":
        """Return a sum that lies on the devices."""
        return GroupSum(self, num_parameters)

    def forward(self, params_P: Tensor, version: int, inputs: Tensor) -> Forward:
        """Compute ``Engine.forward``; the processes keep the pass until the weights change."""
        self._stage.check(inputs)
        shared = self._loaded(params_P, version)
        shared.put_inputs(inputs)
        self._number += 1
        batch, length = inputs.shape[:2]
        self._ask(ForwardCommand(self._number, batch, length))
        output = shared.activations(shared.outputs, slice(0, batch), length).clone()
        return FarForward(
            stage=self._stage,
            params_P=params_P,
            inputs=inputs,
            output=output,
            graph=None,
            number=self._number,
        )

    def backward(
        self,
        passed: Forward,
        grad_BTD: Tensor,
        into: Gradients | None = None,  # noqa: ARG002
    ) -> tuple[Tensor | None, Tensor]:
        """Compute ``Engine.backward``; raise ``UsageError`` for a gradient of another shape."""
        if not isinstance(passed, FarForward) or grad_BTD.shape != passed.output.shape:
            raise UsageError(f"a gradient of shape {tuple(grad_BTD.shape)} for another output")
        batch, length = grad_BTD.shape[:2]
        self.start()
        self._here.put_inputs(grad_BTD)
        done = self._ask(Backward(passed.number, batch, length))
        return self._gradients(done, batch, length)

    def loss(
        self,
        params_P: Tensor,
        version: int,
        inputs: Tensor,
        labels_BT: Tensor,
        into: Gradients | None = None,  # noqa: ARG002
    ) -> tuple[float, Tensor | None, Tensor]:
        """Compute ``Engine.loss``."""
        self._stage.check(inputs)
        shared = self._loaded(params_P, version)
        shared.put_inputs(inputs)
        shared.put_labels(labels_BT)
        batch, length = labels_BT.shape
        done = self._ask(Loss(batch, length))
        parts = zip(done, shares(batch, len(done)), strict=True)
        loss = sum(loss_of(one) * (stop - start) for one, (start, stop) in parts) / batch
        return (loss, *self._gradients(done, batch, length))

    def probe(self, params_P: Tensor, inputs: Tensor, labels_BT: Tensor) -> float:
        """Return the loss, computed in the node on the CPU because it is rarely needed."""
        with torch.no_grad():
            return float(self._stage.loss(params_P, inputs, labels_BT))

    def take_back(self) -> None:
        """Do nothing: the processes add a gradient only when it is counted."""

    def count(self) -> None:
        """Add the last gradient to the step's sum; raise ``PeerFault`` if it is not finite or too large."""
        if not self._is_sound:
            raise PeerFault("a micro-batch whose gradient is not finite or far too large")
        self._is_sound = False
        self._ask(Count())

    def mean(self) -> Tensor:
        """Return the mean gradient_P of the counted micro-batches; the processes begin the next step."""
        self._ask(Mean())
        return self._here.vector_P.clone()

    def clear(self) -> None:
        """Begin the next step in the processes, if any run."""
        if self._processes is not None:
            with suppress(DeviceLost):  # nothing left to clear; the next call reports it
                self._ask(Clear())

    def close(self) -> None:
        """End the processes and start none again."""
        self._is_closed = True
        if self._processes is not None:
            self._processes.close()

    @property
    def _here(self) -> SharedTensors:
        assert self._shared is not None, "processes share memory"
        return self._shared

    def _loaded(self, params_P: Tensor, version: int) -> SharedTensors:
        """Load ``params_P`` into the processes unless they hold this ``version``; return the shared memory."""
        self.start()
        if version != self._version:
            self._here.vector_P.copy_(params_P)
            self._ask(Load())
            self._version = version
        return self._here

    def _ask(self, command: Command) -> list[Done]:
        if self._processes is None or self._is_closed:
            raise DeviceLost("the devices were closed")
        try:
            if isinstance(command, UNANSWERED):
                self._processes.send(command)
                return []
            done = self._processes.ask(command, COMPILE_S if self._compiles else REPLY_S)
        except ProcessLost as died:
            raise self._lose(died) from None
        for one in done:
            self.notices.extend(one.notices[:NOTICES_MAX])
        return done

    def _gradients(
        self, done: Sequence[Done], batch: int, length: int
    ) -> tuple[Tensor | None, Tensor]:
        """Return the gradient of the inputs (None on stage 0) and a gradient_P without values.

        The values of gradient_P stay on the devices until the step.
        """
        self._is_sound = all(one.is_sound for one in done)
        grad_P = torch.empty(self._here.vector_P.numel(), device="meta")
        if self._stage.plan.is_first:
            return None, grad_P
        shared = self._here
        return shared.activations(shared.outputs, slice(0, batch), length).clone(), grad_P

    def _lose(self, died: ProcessLost) -> DeviceLost:
        """End all processes, drop the lost device, and return the error after adding it to ``notices``."""
        if self._processes is not None:
            self._processes.close()
        self._processes, self._shared, self._version, self._is_sound = None, None, -1, False
        name = self.devices.pop(died.rank)
        rest = f"going on with {devices_text(self.devices)}" if self.devices else "none is left"
        text = f"device {name} is lost, {rest}: {died.reason}"
        self._last = text
        if not self._is_closed:
            self.notices.append(text)
        self._forget()
        return DeviceLost(text)

    def _setups(self, folder: Path) -> list[Setup]:
        spec, world = encode(self._spec), len(self.devices)
        return [
            Setup(
                spec=spec,
                stage=self._index,
                device=device,
                rank=rank,
                world=world,
                folder=str(folder),
                compiles=self._compiles,
                recompute=self._recompute,
                threads=self._threads,
            )
            for rank, device in enumerate(self.devices)
        ]


class GroupSum:
    """The sum of one step's gradients, on the devices of ``engine``."""

    def __init__(self, engine: GroupEngine, num_parameters: int) -> None:
        self.count = 0
        self._engine, self._num_parameters = engine, num_parameters

    def add(self, grad_P: Tensor) -> None:
        """Count the gradient that was computed last; raises as ``GradientSum.add``."""
        if self.count >= MICROBATCHES_MAX or grad_P.shape != (self._num_parameters,):
            raise UsageError(f"at most {MICROBATCHES_MAX} gradients of {self._num_parameters}")
        self._engine.count()
        self.count += 1

    def take_mean(self) -> Tensor:
        """Return the mean gradient_P, and begin the next step; raise ``DeviceLost`` if a device lost it."""
        if self.count == 0:
            raise UsageError("a step needs at least one micro-batch")
        mean_P = self._engine.mean()
        self.count = 0  # the processes have begun it, too
        return mean_P

    def clear(self) -> None:
        """Begin the next step."""
        if self.count:
            self.count = 0
            self._engine.clear()


def _nothing() -> None:
    pass
