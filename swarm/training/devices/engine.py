"""Compute the passes of a shard and sum its gradients: an interface, and its engine on one device.

Core: an interface, and its implementation on one device of this process.

Inputs and outputs lie on the CPU in float32, because they are hashed, signed and sent. Only the gradient of the
parameters stays on the device that computed it, until a step takes the mean. The weights and the moments of a
shard lie on ``home``. ``CompiledStage`` runs the passes through torch.compile.

``DeviceSum`` keeps the exact sum of micro-batch gradients on the device that computes them, equal to
``GradientSum`` bit for bit. Fixed point makes the sum over several devices independent of their order: it is a
sum of integers.

Legend: P parameters of the shard, B batch, T time, D hidden.
"""

import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from swarm.config.spec import Recompute, RunSpec
from swarm.errors import PeerFault, SwarmError, UsageError
from swarm.training.devices.select import CPU, is_recomputed
from swarm.training.model.exact.reference import FIXED_POINT, GRADIENT_MAX, mean_units
from swarm.training.model.exact.selftest import is_exact_device
from swarm.training.model.operators import are_finite
from swarm.training.model.optimizer import (
    MICROBATCHES_MAX,
    GradientSum,
    mean_in_place,
    slices,
)
from swarm.training.model.profiles import table_on
from swarm.training.model.stages import (
    Forward,
    Params,
    Sink,
    Stage,
    plans_of,
    run_backward,
    run_forward,
    run_loss,
    stage_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledStage(Stage):
    """A stage with compiled passes; the first call of a pass or its backward raises the compiler's errors."""

    forward_pass: Callable[..., Any]
    loss_pass: Callable[..., Any]

    @classmethod
    def of(cls, stage: Stage) -> "CompiledStage":
        """Wrap ``stage``; compilation happens once, at the first call, because a run has one tensor shape."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of torch's own modules while they load
            forward_pass = torch.compile(stage.forward, dynamic=False)
        return cls(
            stage.plan,
            stage.ops,
            stage.base_W,
            forward_pass=forward_pass,
            loss_pass=torch.compile(stage.loss, dynamic=False),
        )

    def forward(self, params_P: Params, inputs: Tensor) -> Tensor:
        """Compute ``Stage.forward``, compiled."""
        return _quietly(self.forward_pass, params_P, inputs)

    def loss(self, params_P: Params, inputs: Tensor, labels_BT: Tensor) -> Tensor:
        """Compute ``Stage.loss``, compiled."""
        return _quietly(self.loss_pass, params_P, inputs, labels_BT)


def _quietly(compiled: Callable[..., Any], *tensors: Params) -> Tensor:
    """Call a compiled pass without the compiler's warnings, which are of no use to a node operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Tensor = compiled(*tensors)
    return found


class DeviceSum:
    """``GradientSum`` on ``device``, for one of ``num_devices`` that split each micro-batch."""

    def __init__(self, num_parameters: int, device: torch.device, *, num_devices: int = 1) -> None:
        self.count = 0
        self._num_parameters = num_parameters
        self.total_P = torch.zeros(num_parameters, dtype=torch.int64, device=device)
        """Sum in units of 2^-44; the totals of the other devices are added to it before ``mean``."""
        self._bound = GRADIENT_MAX / num_devices  # so that the sum over devices keeps to 63 bits

    def is_sound(self, grad_P: Tensor) -> bool:
        """Return True if ``add`` would accept a gradient."""
        return are_finite(grad_P, bound=self._bound)

    def add(self, grad_P: Tensor) -> None:
        """Add one micro-batch, or this device's part of it; raises as ``GradientSum.add``."""
        if self.count >= MICROBATCHES_MAX or grad_P.shape != (self._num_parameters,):
            raise UsageError(f"at most {MICROBATCHES_MAX} gradients of {self._num_parameters}")
        if not self.is_sound(grad_P):
            raise PeerFault("a micro-batch whose gradient is not finite or far too large")
        if not self.total_P.numel():  # the last mean took its memory
            self.total_P = torch.zeros_like(grad_P, dtype=torch.int64)
        for part in slices(grad_P.numel()):
            units_C = grad_P[part].double().mul_(FIXED_POINT).round_().to(torch.int64)
            self.total_P[part].add_(units_C)
        self.count += 1

    def skip(self) -> None:
        """Count a micro-batch of which this device had no sequences."""
        self.count += 1

    def mean(self) -> Tensor:
        """Return the mean gradient_P, float32; raise ``UsageError`` if nothing was counted."""
        if self.count == 0:
            raise UsageError("a step needs at least one micro-batch")
        mean_P = torch.empty(self.total_P.shape, device=self.total_P.device)
        for part in slices(self.total_P.numel()):
            mean_P[part] = self._mean(self.total_P[part], self.count)
        return mean_P

    def take_mean(self) -> Tensor:
        """Return the mean gradient_P in the memory of the sum, and begin the next step; raises as ``mean``."""
        if self.count == 0:
            raise UsageError("a step needs at least one micro-batch")
        total_P, count = self.total_P, self.count
        self.total_P = torch.empty(0, dtype=torch.int64, device=total_P.device)
        self.clear()
        return mean_in_place(total_P, lambda part_C: self._mean(part_C, count))

    def clear(self) -> None:
        """Begin the next step."""
        self.total_P.zero_()
        self.count = 0

    @staticmethod
    def _mean(total_C: Tensor, count: int) -> Tensor:
        return mean_units(total_C, count)


ResultT = TypeVar("ResultT")
NOTICES_MAX = 16
"""Notices of an engine that are kept until they are read; more would repeat the same."""
COMPILER_FAULTS = (RuntimeError, OSError, ImportError)
"""Failures of torch.compile: its own errors, no compiler on the machine, no room for its output."""


class Gradients(Protocol):
    """The running sum of one step's micro-batch gradients, as ``inner.GradientSum``."""

    count: int

    def add(self, grad_P: Tensor) -> None:
        """Add one micro-batch; raise ``PeerFault``, changing nothing, if it is not finite or too large."""

    def take_mean(self) -> Tensor:
        """Return the mean gradient_P, float32, and begin the next step; raise ``DeviceLost`` if it was lost."""
        ...

    def clear(self) -> None:
        """Begin the next step."""


class Engine(Protocol):
    """Interface that a shard computes through; calls raise ``DeviceLost`` if the device is gone."""

    notices: deque[str]
    """Messages for the node operator; a reader removes them."""

    @property
    def home(self) -> torch.device:
        """Device on which the weights and moments of the shard lie."""
        ...

    @property
    def is_gone(self) -> bool:
        """True if no device is left to compute on."""
        ...

    def watch(self, forget: Callable[[], None]) -> None:
        """Call ``forget`` when gradients and forward passes are lost with a device."""

    def gradients(self, num_parameters: int) -> Gradients:
        """Return an empty sum."""
        ...

    def forward(self, params_P: Tensor, version: int, inputs: Tensor) -> Forward:
        """Compute ``stages.run_forward``; ``version`` identifies the weights and changes with them."""
        ...

    def backward(
        self, passed: Forward, grad_BTD: Tensor, into: Gradients | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Compute ``stages.run_backward``: (gradient of the inputs, gradient_P for ``Gradients.add``).

        The values may go ``into`` the sum at once, so that a whole gradient is never in memory; gradient_P is
        empty then, and ``take_back`` undoes it unless it was added.
        """
        ...

    def loss(
        self,
        params_P: Tensor,
        version: int,
        inputs: Tensor,
        labels_BT: Tensor,
        into: Gradients | None = None,
    ) -> tuple[float, Tensor | None, Tensor]:
        """Compute ``stages.run_loss``; ``into`` is that of ``backward``."""
        ...

    def take_back(self) -> None:
        """Take the values of the last gradient out of the sum that they went into, if they did."""

    def probe(self, params_P: Tensor, inputs: Tensor, labels_BT: Tensor) -> float:
        """Return the loss alone, in nats; ``params_P`` lies on ``home``."""
        ...

    def close(self) -> None:
        """End everything that was started for this engine."""


class LocalEngine:
    """One device of this process; on the CPU and uncompiled it is exactly the functions of ``stages``."""

    def __init__(
        self, stage: Stage, device: str = CPU, *, compiles: bool = False, recomputes: bool = False
    ) -> None:
        """Open the device; ``recomputes`` lets a waiting pass be computed again, and keep its inputs alone."""
        self._keeps_graphs = not recomputes
        self.home = torch.device(device)
        self.notices: deque[str] = deque(maxlen=NOTICES_MAX)
        self.is_gone = False
        if stage.base_W is not None:
            stage = replace(stage, base_W=stage.base_W.to(self.home))
        self._eager = self._stage = stage
        self._undo: Callable[[], None] = _nothing
        if compiles:
            try:
                self._stage = CompiledStage.of(stage)
            except COMPILER_FAULTS as fault:
                self._report(fault)

    def watch(self, forget: Callable[[], None]) -> None:
        """Ignore ``forget``: a device of this process is not lost separately."""

    def gradients(self, num_parameters: int) -> Gradients:
        """Return a sum on the device if it is CUDA, else on the CPU: Apple's GPU has no 64-bit arithmetic."""
        if self.home.type == "cuda":
            return DeviceSum(num_parameters, self.home)
        return GradientSum(num_parameters, self._eager.ops)

    def forward(self, params_P: Tensor, version: int, inputs: Tensor) -> Forward:  # noqa: ARG002
        """Compute the forward pass on this device; the output is moved to the CPU."""
        inputs = inputs.to(self.home)
        try:
            passed = run_forward(self._stage, params_P, inputs, keep_graph=self._keeps_graphs)
        except COMPILER_FAULTS as fault:
            if not self._goes_on_without(fault):
                raise
            passed = run_forward(self._stage, params_P, inputs, keep_graph=self._keeps_graphs)
        passed.output = passed.output.cpu()
        return passed

    def backward(
        self, passed: Forward, grad_BTD: Tensor, into: Gradients | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Compute the backward pass on this device; the gradient of the inputs is moved to the CPU."""
        grad_BTD = grad_BTD.to(self.home)
        if isinstance(into, GradientSum) and self._stage is self._eager:
            return self._summed(into, lambda sink: run_backward(passed, grad_BTD, sink))
        try:
            grad_inputs, grad_P = run_backward(passed, grad_BTD)
        except COMPILER_FAULTS as fault:
            if not self._goes_on_without(fault):
                raise
            passed.stage, passed.graph = self._stage, None  # the forward pass is computed again
            grad_inputs, grad_P = run_backward(passed, grad_BTD)
        return None if grad_inputs is None else grad_inputs.cpu(), grad_P

    def loss(
        self,
        params_P: Tensor,
        version: int,  # noqa: ARG002
        inputs: Tensor,
        labels_BT: Tensor,
        into: Gradients | None = None,
    ) -> tuple[float, Tensor | None, Tensor]:
        """Compute the loss and gradients on this device; the gradient of the inputs is moved to the CPU."""
        inputs, labels_BT = inputs.to(self.home), labels_BT.to(self.home)
        if isinstance(into, GradientSum) and self._stage is self._eager:
            run = partial(run_loss, self._eager, params_P, inputs, labels_BT)
            return self._summed(into, run)
        try:
            loss, grad_inputs, grad_P = run_loss(self._stage, params_P, inputs, labels_BT)
        except COMPILER_FAULTS as fault:
            if not self._goes_on_without(fault):
                raise
            loss, grad_inputs, grad_P = run_loss(self._stage, params_P, inputs, labels_BT)
        return loss, None if grad_inputs is None else grad_inputs.cpu(), grad_P

    def probe(self, params_P: Tensor, inputs: Tensor, labels_BT: Tensor) -> float:
        """Return the loss, computed without the compiler because it is rarely needed."""
        with torch.no_grad():
            return float(self._eager.loss(params_P, inputs.to(self.home), labels_BT.to(self.home)))

    def take_back(self) -> None:
        """Compute the last pass again and subtract what it gives, block by block: its bits are the same."""
        undo, self._undo = self._undo, _nothing
        undo()

    def close(self) -> None:
        """Do nothing: no process was started."""

    def _summed(self, into: GradientSum, run: Callable[[Sink], ResultT]) -> ResultT:
        """Return a pass whose gradient goes into a sum, each block as soon as it is there.

        A block that the sum refuses takes the others out again.
        """
        done = set[int]()

        def put(start: int, grad_C: Tensor) -> None:
            into.put(start, grad_C)
            done.add(start)

        def take_back(start: int, grad_C: Tensor) -> None:
            if start in done:
                into.take_back(start, grad_C)

        self._undo = _nothing
        try:
            found = run(put)
        except SwarmError:
            if done:
                run(take_back)
            raise
        self._undo = lambda: _drop(run(take_back))
        return found

    def _goes_on_without(self, fault: BaseException) -> bool:
        """Stop using the compiler, with one notice; return False if it was not in use."""
        if self._stage is self._eager:
            return False
        self._stage = self._eager
        self._report(fault)
        return True

    def _report(self, fault: BaseException) -> None:
        first = str(fault).strip().partition("\n")[0][:200]
        self.notices.append(f"torch.compile failed, going on without it: {first}")


def local_engine(
    spec: RunSpec,
    stage: int,
    device: str = CPU,
    *,
    compiles: bool = False,
    recompute: Recompute = "auto",
    base_W: Tensor | None = None,
) -> LocalEngine:
    """Return the engine of a run's stage on one device; exact runs are never compiled.

    They use the CPU unless ``device`` has passed its self-test (``selftest.device_kernels``).

    ``base_W`` are the weights below the run's adapter, if it has one: they stay on the device.
    """
    recomputes = is_recomputed(spec, plans_of(spec)[stage], recompute)
    is_here = device == CPU and not compiles
    if is_here or (spec.is_exact and not is_exact_device(device)):
        return LocalEngine(stage_of(spec, stage, base_W), recomputes=recomputes)
    module = Stage(plans_of(spec)[stage], table_on(spec.numerics, device), base_W)
    compiles = compiles and not spec.is_exact
    return LocalEngine(module, device, compiles=compiles, recomputes=recomputes)


def _nothing() -> None:
    pass


def _drop(_found: object) -> None:
    pass
