"""Compute on one device, in a process of its own: its share of each micro-batch and gradient.

Shell: obeys the node that started it (``training/devices/group.py``) and ends with it. It opens nothing but the
shared memory named in its setup and, if there are several processes, torch.distributed's links, on loopback.
Legend: P parameters, B batch, T time, D hidden.
"""

import os
import signal
import socket
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.errors import SwarmError
from swarm.primitives.codec import decode, encode
from swarm.training.devices.engine import DeviceSum, local_engine
from swarm.training.devices.protocol import (
    FRAME_BYTES,
    REASON_CHARS,
    Backward,
    Clear,
    Command,
    Count,
    Done,
    Failed,
    Forward,
    Load,
    Loss,
    Mean,
    Setup,
    command_of,
    loss_bytes,
)
from swarm.training.devices.select import CPU, shares
from swarm.training.devices.shared_memory import SharedTensors, receive_frame, send_frame
from swarm.training.model.stages import Forward as ForwardPass

TOGETHER_S = 120.0
"""Seconds that the processes of one node wait for each other, at the start and at a step."""
STORE = "meeting"


class Worker:
    """State of one process: weights, forward passes that wait for a gradient, the last gradient, the sum."""

    def __init__(self, setup: Setup) -> None:
        spec = decode(RunSpec, setup.spec, limit=FRAME_BYTES)
        torch.set_num_threads(setup.threads)
        torch.set_flush_denormal(False)
        self.rank, self.world = setup.rank, setup.world
        self.device = torch.device(setup.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        self.shared = SharedTensors.open(Path(setup.folder), spec, setup.stage)
        self.engine = local_engine(
            spec,
            setup.stage,
            setup.device,
            compiles=setup.compiles,
            recompute=setup.recompute,
            base_W=self.shared.base_W,
        )
        numel = self.shared.vector_P.numel()
        self.params_P = torch.empty(0)
        self.sum = DeviceSum(numel, self.device, num_devices=self.world)
        self.passes: dict[int, ForwardPass] = {}
        self.grad_P: Tensor | None = None
        if self.world > 1:
            _meet(setup)

    def obey(self, command: Command) -> Done | None:
        """Carry out a command of the node; return None if it is not answered."""
        done: Done | None = Done()
        match command:
            case Load():
                self.params_P = self.shared.vector_P.to(self.device, copy=True)
                self.passes.clear()
            case Forward(number, batch, length):
                self._forward(number, self._rows(batch), length)
            case Backward(number, batch, length):
                done = self._backward(number, self._rows(batch), length)
            case Loss(batch, length):
                done = self._loss(self._rows(batch), length)
            case Mean():
                self._mean()
            case Count():
                self._count()
                done = None
            case Clear():
                self.sum.clear()
                done = None
            case Setup():
                raise RuntimeError("a process is set up once")
        return done

    def _rows(self, batch: int) -> slice:
        return slice(*shares(batch, self.world)[self.rank])

    def _forward(self, number: int, rows: slice, length: int) -> None:
        if rows.start < rows.stop:
            passed = self.engine.forward(self.params_P, 0, self.shared.inputs(rows, length))
            self.shared.activations(self.shared.outputs, rows, length).copy_(passed.output)
            self.passes[number] = passed

    def _backward(self, number: int, rows: slice, length: int) -> Done:
        self.grad_P = None
        if rows.start < rows.stop:
            grad = self.shared.activations(self.shared.received, rows, length).clone()
            grad_inputs, self.grad_P = self.engine.backward(self.passes.pop(number), grad)
            if grad_inputs is not None:
                self.shared.activations(self.shared.outputs, rows, length).copy_(grad_inputs)
        return self._done(0.0)

    def _loss(self, rows: slice, length: int) -> Done:
        self.grad_P, loss = None, 0.0
        if rows.start < rows.stop:
            inputs, labels = self.shared.inputs(rows, length), self.shared.labels(rows, length)
            loss, grad_inputs, self.grad_P = self.engine.loss(self.params_P, 0, inputs, labels)
            share = (rows.stop - rows.start) / self.shared.batch
            self.grad_P.mul_(share)  # the mean over the whole micro-batch, not this part
            if grad_inputs is not None:
                grad_inputs.mul_(share)
                self.shared.activations(self.shared.outputs, rows, length).copy_(grad_inputs)
        return self._done(loss)

    def _done(self, loss: float) -> Done:
        is_sound = self.grad_P is None or self.sum.is_sound(self.grad_P)
        notices = tuple(self.engine.notices)
        self.engine.notices.clear()
        return Done(is_sound, loss_bytes(loss), notices)

    def _count(self) -> None:
        if self.grad_P is None:
            self.sum.skip()
        else:
            self.sum.add(self.grad_P)
        self.grad_P = None

    def _mean(self) -> None:
        if self.world > 1:
            dist.all_reduce(self.sum.total_P)
        if self.rank == 0:
            self.shared.vector_P.copy_(self.sum.mean())
        self.sum.clear()


def main() -> None:
    """Serve one node until it closes the socket whose number is the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which then ends it
    link = socket.socket(fileno=int(sys.argv[1]))
    try:
        setup = command_of(receive_frame(link))
        if not isinstance(setup, Setup):
            raise RuntimeError("the first word is Setup")
        worker = Worker(setup)
        send_frame(link, encode(Done()))
        while True:
            done = worker.obey(command_of(receive_frame(link)))
            if done is not None:
                send_frame(link, encode(done))
    except EOFError:
        code = 0
    except (SwarmError, RuntimeError, OSError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).partition("\n")[0]
        with suppress(OSError):  # the node may be gone too
            send_frame(link, encode(Failed(first[:REASON_CHARS])))
        code = 1
    # No orderly shutdown with the other processes: if one is gone, the rest would wait for it.
    os._exit(code)


def _meet(setup: Setup) -> None:
    """Find the other processes of this node through a file, and connect to them over loopback only."""
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ[name] = "lo0" if sys.platform == "darwin" else "lo"
    dist.init_process_group(
        "gloo" if setup.device == CPU else "nccl",
        store=dist.FileStore(  # type: ignore[attr-defined]  # exported by C
            str(Path(setup.folder) / STORE), setup.world
        ),
        rank=setup.rank,
        world_size=setup.world,
        timeout=timedelta(seconds=TOGETHER_S),
    )


if __name__ == "__main__":
    main()
