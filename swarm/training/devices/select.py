"""Choose the devices that a node computes on and what it keeps there, from its configuration.

Core: pure functions over names of torch's devices: ``cpu``, ``cuda:0``, ``mps``. An exact run is computed on a
GPU only if the node file names it and its kernels gave every bit of the self-test in this process.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.config.spec import Recompute, RunSpec
from swarm.errors import BadConfig
from swarm.training.messages import in_flight_max
from swarm.training.model.exact.selftest import is_exact_device
from swarm.training.model.stages import StagePlan
from swarm.training.record.checkpoint import FLOAT_BYTES

CPU = "cpu"
KEPT_BYTES_MAX = 1 << 30
"""Bytes that waiting passes may keep under ``auto``. A seat of a model so large that they keep more has a few
gigabytes of its own; to compute its forward passes twice takes a third more operations."""
WIDTHS_KEPT, INNER_WIDTHS_KEPT, LOGITS_KEPT = 10, 4, 3
"""Floats that a forward pass keeps for its gradient, of each token: so many hidden_size and intermediate_size
in each layer, so many vocab_size in the last stage. Measured on operators of the CPU."""


@dataclass(frozen=True, slots=True)
class Present:
    """Devices of this machine besides its CPU."""

    cuda: tuple[str, ...] = ()
    """Names of the CUDA devices, by index."""
    has_mps: bool = False

    @property
    def text(self) -> str:
        """List of the devices, for messages."""
        found = [f"cuda:{index} ({name})" for index, name in enumerate(self.cuda)]
        return ", ".join([CPU, *found, *(["mps"] if self.has_mps else [])])


def chosen(wished: str | Sequence[str], present: Present) -> tuple[str, ...]:
    """Return the devices to compute on: one, or several of one kind that share every micro-batch.

    ``auto`` is the first CUDA device, else mps, else the CPU. Raises ``BadConfig``, listing the devices
    present, for a device that is missing, for one named twice, and for several that cannot work together.
    """
    names = [wished] if isinstance(wished, str) else list(wished)
    if len(names) > 1 and "auto" in names:
        raise BadConfig(
            'device = "auto" stands alone: it is one device', hint="edit [compute] of node.toml"
        )
    found = tuple(_resolved(name, present) for name in names)
    if len(found) > 1:
        kinds = {name.partition(":")[0] for name in found}
        if len(kinds) > 1 or "mps" in kinds:
            raise BadConfig(
                f"{' and '.join(found)} cannot share a micro-batch: only devices of one kind can, cuda or cpu",
                hint="edit [compute] of node.toml",
            )
        if "cuda" in kinds and len(set(found)) < len(found):
            raise BadConfig(
                f"device names {_twice(found)} twice", hint="edit [compute] of node.toml"
            )
    return found


def devices_for(spec: RunSpec, devices: tuple[str, ...]) -> tuple[str, ...]:
    """Return the devices for a run: an exact one has the first if it passed its self-test, else the CPU."""
    if not spec.is_exact:
        return devices
    return devices[:1] if is_exact_device(devices[0]) else (CPU,)


def may_be_exact(wished: str | Sequence[str], devices: Sequence[str]) -> bool:
    """Return True if the first device is worth a self-test: a CUDA device that the node file names."""
    return wished != "auto" and "auto" not in wished and devices[0].startswith("cuda")


def exact_text(wished: str | Sequence[str], present: Present) -> str:
    """Return where an exact run would be computed on this machine, and why, for messages."""
    if not present.cuda:
        return "no CUDA device: exact kernels run on the CPU"
    names = [wished] if isinstance(wished, str) else list(wished)
    if not names[0].startswith("cuda"):
        return (
            f"exact kernels run on the CPU, and CUDA devices rest; present: {present.text}. To try one, name it"
            ' under [compute] of node.toml: device = "cuda:0"'
        )
    return (
        f"exact kernels run on {names[0]} if it gives every bit of the self-test, else on the CPU"
    )


def devices_text(devices: Sequence[str]) -> str:
    """Return the devices as text for messages: ``cuda:0 + cuda:1``."""
    return " + ".join(devices)


def device_notice(
    spec: RunSpec, devices: tuple[str, ...], present: Present, refusal: str = ""
) -> str:
    """Return a notice for the node operator about the use of the devices by a run, or "".

    ``refusal`` is why the first device may not compute exactly, if it was tested and failed.
    """
    used = devices_for(spec, devices)
    if spec.is_exact and devices != used:
        run = f"this run computes in {spec.numerics}, the same bits on every machine"
        if used[0] in devices:
            return f"{run}, on one device, {used[0]}; native runs use {devices_text(devices)}"
        why = refusal or exact_text("auto", present)
        return f"{run}, and {devices_text(devices)} will rest; native runs use it. {why}"
    if spec.is_exact:
        return ""
    if len(devices) == 1 and devices[0].startswith("cuda") and len(present.cuda) > 1:
        names = ", ".join(f'"cuda:{index}"' for index in range(len(present.cuda)))
        return f"computes on {devices[0]} alone; device = [{names}] in node.toml takes all"
    return ""


def pass_bytes(spec: RunSpec, plan: StagePlan) -> int:
    """Return the approximate bytes that a forward pass of one micro-batch keeps for its gradient."""
    model = spec.model
    widths = WIDTHS_KEPT * model.hidden_size + INNER_WIDTHS_KEPT * model.intermediate_size
    floats = plan.num_layers * widths + (LOGITS_KEPT * model.vocab_size if plan.is_last else 0)
    return FLOAT_BYTES * floats * spec.microbatch_size * model.seq_len


def passes_waiting(spec: RunSpec, plan: StagePlan) -> int:
    """Return the forward passes of a seat that wait for their gradients at once; none in the last stage."""
    return 0 if plan.is_last else min(in_flight_max(spec), spec.microbatches_per_step)


def is_recomputed(spec: RunSpec, plan: StagePlan, setting: Recompute) -> bool:
    """Return True if a waiting pass keeps its inputs alone, and is computed again: the bits are the same.

    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
    """
    if setting == "auto":
        return passes_waiting(spec, plan) * pass_bytes(spec, plan) > KEPT_BYTES_MAX
    return setting == "always"


def shares(rows: int, count: int) -> tuple[tuple[int, int], ...]:
    """Return the (start, stop) of ``rows`` sequences for each of ``count`` devices, as even as possible.

    A share is empty if there are fewer rows than devices.
    """
    ends = [rows * i // count for i in range(count + 1)]
    return tuple((ends[i], ends[i + 1]) for i in range(count))


def _resolved(name: str, present: Present) -> str:
    if name == "auto":
        return "cuda:0" if present.cuda else "mps" if present.has_mps else CPU
    if name == CPU or (name == "mps" and present.has_mps):
        return name
    kind, _, index = name.partition(":")
    if kind == "cuda" and int(index or 0) < len(present.cuda):
        return f"cuda:{int(index or 0)}"
    raise BadConfig(
        f"this machine has no {name}; present: {present.text}",
        hint='device = "auto" under [compute] of node.toml',
    )


def _twice(names: Sequence[str]) -> str:
    return next(name for name in names if names.count(name) > 1)
