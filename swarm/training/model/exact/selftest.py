"""Choose the kernels of this machine: every operator is tested against a golden hash before its first use.

Core: a function of the kernels; inputs are made of integers, so they are the same everywhere.

Compiled kernels are preferred; without them, or when one of them gives another bit, the reference takes over
and a notice says so and how to mend it. When the reference itself is wrong here (a library switched on
flush-to-zero, torch or numpy changed an operation), exact runs are refused on this machine. The kernels of a
CUDA device have to pass as well, and to agree with the trusted ones on shapes that span several of their tiles;
a device that fails is refused, with the reason. Legend: see ``reference``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from swarm.errors import BadConfig
from swarm.gossip.codecs.activations import from_wire, to_wire
from swarm.gossip.codecs.int4 import decode_int4, encode_int4
from swarm.gossip.codecs.int8 import decode_bf16, decode_int8, encode_bf16, encode_int8
from swarm.primitives.crypto import expand, fast_digest
from swarm.training.model.exact import native, reference
from swarm.training.model.exact.cuda import open_device
from swarm.training.model.exact.device import DeviceKernels
from swarm.training.model.exact.operators import EXACT_NAME, Kernels, rotary_tables

GOLDEN: dict[str, str] = {
    "matmul": "62fbe1b819f4fc19",
    "weight_gradient": "904a0b7ccab5adac",
    "attention": "ffbc8c45956f2201",
    "swiglu": "d8ec0e0a75a5bf78",
    "rms_norm": "e054042014de2b08",
    "rope": "b71092f133ab84c0",
    "embedding": "eb55bcb3fae8659b",
    "cross_entropy": "09964e062f310c5c",
    "norm": "f606c1b02633a2e4",
    "adamw": "d8cbc5b0b48a2ef5",
    "orthogonal": "88a74a731121d17b",
    "units": "e6c33e7c1ec0714c",
    "codec": "99fbaabb1d38e2b3",
    "coarse": "cb977ec616aab6ac",
}
"""First 8 bytes of the digest of each operator's results; they change only with the profile's name."""
_DIGEST_CHARACTERS = 16
_SCALARS = (0.004, 0.9, 1.0 - 0.9, 0.95, 1.0 - 0.95, 1e-8, 3.690036900369003, 7.01139)


@dataclass(frozen=True, slots=True)
class Trusted:
    """Kernels that passed, their name, and a notice for the person at this machine ("" for none)."""

    kernels: Kernels
    name: str
    notice: str


@lru_cache(maxsize=1)
def trusted_kernels() -> Trusted:
    """Return the kernels of this process, tested once; raise ``BadConfig`` when none can be trusted here."""
    return choose(native.load)


def choose(load: Callable[[], native.Compiled]) -> Trusted:
    """Return the loaded kernels if every bit is right, else the reference and a notice.

    Raises ``BadConfig`` if the reference is wrong here, too.
    """
    try:
        fast = load()
        wrong = wrong_operators(fast)
        reason = f"the compiled kernels ({fast.isa}) get {', '.join(wrong)} wrong" if wrong else ""
        if not wrong:
            return Trusted(fast, f"compiled, {fast.isa}", "")
    except native.NotBuilt as missing:
        reason = str(missing)
    wrong = wrong_operators(reference)
    if wrong:
        raise BadConfig(
            f"this machine computes {', '.join(wrong)} with other bits than {EXACT_NAME} defines, "
            "so its work in an exact run would look like a lie",
            hint='join a run with numerics = "native", or reinstall the pinned torch and numpy',
        )
    return Trusted(
        reference,
        "referee",
        f"exact arithmetic is done by the slow referee, about a hundred times slower: {reason}. "
        f"To mend it: {native.REBUILD}",
    )


_TESTED: dict[str, DeviceKernels | str] = {}
"""For each device that was asked for in this process: its kernels, or why it is refused."""


def device_kernels(device: str) -> DeviceKernels:
    """Return the kernels of a CUDA device, compiled and tested once in a process, which takes some seconds.

    Raises ``NotBuilt``, saying why, if there is no such device or it gives other bits than the profile defines.
    """
    if device not in _TESTED:
        try:
            _TESTED[device] = passed(DeviceKernels(open_device(device)), trusted_kernels().kernels)
        except native.NotBuilt as refused:
            _TESTED[device] = str(refused)
    found = _TESTED[device]
    if isinstance(found, str):
        raise native.NotBuilt(found)
    return found


def is_exact_device(device: str) -> bool:
    """Return True if ``device_kernels`` has accepted a device in this process; nothing is tested here."""
    return isinstance(_TESTED.get(device), DeviceKernels)


def passed(kernels: DeviceKernels, trusted: Kernels) -> DeviceKernels:
    """Return the kernels of a device if every bit is right; raises ``NotBuilt``, naming operators, if not."""
    launcher = kernels.launcher
    moved = cast("Kernels", _Moved(kernels, launcher.device))
    try:
        wrong = wrong_operators(moved)
        wrong += tuple(
            f"{name} of large tensors"
            for name, ask in _LARGE.items()
            if name not in wrong and _digest(ask(moved)) != _digest(ask(trusted))
        )
    except RuntimeError as failed:  # a launch, or torch on that device
        told = str(failed).strip().partition("\n")[0][:200]
        raise native.NotBuilt(f"the self-test failed on {launcher.name}: {told}") from None
    if wrong:
        raise native.NotBuilt(
            f"{launcher.name} gets {', '.join(wrong)} wrong: it gives other bits than {EXACT_NAME} defines"
        )
    return kernels


class _Moved:
    """Kernels of a device, for tensors of the CPU: they go there, and what is found or changed comes back."""

    def __init__(self, kernels: DeviceKernels, device: torch.device) -> None:
        self._kernels = kernels
        self._device = device

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._kernels, name)

        def call(*arguments: object) -> object:
            there = [x.to(self._device) if isinstance(x, Tensor) else x for x in arguments]
            found = function(*there)
            for mine, moved in zip(arguments, there, strict=True):
                if isinstance(mine, Tensor) and isinstance(moved, Tensor) and mine is not moved:
                    mine.copy_(moved)
            if isinstance(found, tuple):
                return tuple(x.cpu() for x in found)
            return found.cpu() if isinstance(found, Tensor) else found

        return call


def wrong_operators(kernels: Kernels) -> tuple[str, ...]:
    """Return the operators whose results do not have the golden hash."""
    return tuple(name for name, digest in answers(kernels).items() if digest != GOLDEN[name])


def answers(kernels: Kernels) -> dict[str, str]:
    """Return the digest of each operator's results for the fixed inputs."""
    return {name: _digest(ask(kernels)) for name, ask in _QUESTIONS.items()}


def numbers(seed: int, *shape: int, spread: int = 0) -> Tensor:
    """Return float32 in (-1, 1) from integers; with ``spread``, times 2^e for e in [-spread, spread)."""
    raw = expand(seed.to_bytes(8, "big"), "repops-selftest", 8 * prod(shape))
    drawn = torch.from_numpy(np.frombuffer(raw, dtype="<u4").astype(np.int64)).view(*shape, 2)
    values = ((drawn[..., 0] >> 8) * 2 - 0xFFFFFF).float() * 2.0**-24
    if spread:
        exponents = drawn[..., 1] % (2 * spread) - spread
        values = values * ((exponents + 127).to(torch.int32) << 23).view(torch.float32)
    return values


def _matmul(kernels: Kernels) -> Sequence[Tensor]:
    wild_a, wild_b = numbers(1, 13, 300, spread=70), numbers(2, 300, 37, spread=70)
    tiny_a, tiny_b = numbers(3, 4, 9) * 2.0**-70, numbers(4, 9, 5) * 2.0**-75
    batch_a, batch_b = numbers(5, 2, 3, 5, 33), numbers(6, 2, 3, 33, 18)
    return (
        kernels.matmul(wild_a, wild_b),
        kernels.matmul(tiny_a, tiny_b),
        kernels.matmul(batch_a, batch_b),
        kernels.matmul(numbers(7, 19, 6).t(), numbers(8, 33, 19).t()),
    )


def _weight_gradient(kernels: Kernels) -> Sequence[Tensor]:
    grad, x = numbers(9, 300, 7, spread=12), numbers(14, 300, 34, spread=12)
    return kernels.weight_gradient(grad, x), kernels.weight_gradient(grad[:9], x[:9])


def _attention(kernels: Kernels) -> Sequence[Tensor]:
    q, k, v = numbers(10, 2, 9, 4, 6), numbers(11, 2, 12, 2, 6), numbers(12, 2, 12, 2, 6)
    grad = numbers(13, 2, 9, 4, 6)
    sharp = q * 64.0
    return (
        kernels.attention(q, k, v),
        *kernels.attention_backward(grad, q, k, v),
        kernels.attention(sharp, k, v),
        *kernels.attention_backward(grad, sharp, k, v),
    )


def _swiglu(kernels: Kernels) -> Sequence[Tensor]:
    gate, up = numbers(20, 5, 67, spread=7), numbers(21, 5, 67, spread=20)
    grad = numbers(22, 5, 67)
    return kernels.swiglu(gate, up), *kernels.swiglu_backward(grad, gate, up)


def _rms_norm(kernels: Kernels) -> Sequence[Tensor]:
    x, weight, grad = numbers(30, 11, 50, spread=20), numbers(31, 50), numbers(32, 11, 50)
    normed, scale = kernels.rms_norm(x, weight, 1e-5)
    return normed, scale, *kernels.rms_norm_backward(grad, x, scale, weight)


def _rope(kernels: Kernels) -> Sequence[Tensor]:
    cos_TE, sin_TE = rotary_tables(7, 10, 10_000)
    return cos_TE, sin_TE, kernels.rotate(numbers(40, 2, 7, 3, 10), cos_TE, sin_TE)


def _embedding(kernels: Kernels) -> Sequence[Tensor]:
    tokens = torch.arange(40, dtype=torch.int64) * 7 % 11
    return (kernels.gather_rows(numbers(50, 40, 9, spread=9), tokens, 12),)


def _cross_entropy(kernels: Kernels) -> Sequence[Tensor]:
    logits, labels = numbers(60, 21, 45, spread=6), torch.arange(21, dtype=torch.int64) * 5 % 45
    loss, shares = kernels.cross_entropy(logits, labels)
    return loss, shares, kernels.cross_entropy_backward(shares, labels, 0.0371)


def _norm(kernels: Kernels) -> Sequence[Tensor]:
    counts = (1, 1000, 1024, 2500)
    return [torch.tensor(kernels.sum_of_squares(numbers(70, n, spread=9))) for n in counts]


def _adamw(kernels: Kernels) -> Sequence[Tensor]:
    params, m, grad = numbers(80, 301), numbers(81, 301) * 0.01, numbers(82, 301, spread=30)
    v = numbers(83, 301).abs() * 0.001
    kernels.adamw(params, m, v, grad, _SCALARS)
    return params, m, v


def _orthogonal(kernels: Kernels) -> Sequence[Tensor]:
    """Return wide, tall and square matrices, one of them tiny, one of zeros."""
    return (
        kernels.orthogonal(numbers(86, 13, 37, spread=4)),
        kernels.orthogonal(numbers(87, 40, 9)),
        kernels.orthogonal(numbers(88, 19, 19) * 2.0**-60),
        kernels.orthogonal(torch.zeros(3, 5)),
    )


def _units(kernels: Kernels) -> Sequence[Tensor]:
    """Return sums that end on halves of a unit, and the refusals of gradients."""
    sum_P, halves = torch.zeros(1003, dtype=torch.int64), numbers(85, 1003) * 2.0**-21
    wild, bad = numbers(84, 1003, spread=50), numbers(84, 1003, spread=9)
    taken = [kernels.add_units(sum_P, grad) for grad in (bad, halves, wild.clamp(-1024.0, 1024.0))]
    bad[7] = 1025.0
    taken.append(kernels.add_units(sum_P, bad))
    return sum_P, torch.tensor(taken), kernels.mean_units(sum_P, 3)


def _codec(_: Kernels) -> Sequence[Tensor]:
    """Return results of torch's own operations that encode and merge fragments, once each."""
    theta, anchor = numbers(90, 1000, spread=5), numbers(91, 1000, spread=5)
    tiny, wide = (
        numbers(92, 1000) * 2.0**-130,
        (numbers(93, 1000).double() * 2.0**53).to(torch.int64),
    )
    return (
        decode_int8(encode_int8(theta, anchor), anchor, 1000),
        decode_bf16(encode_bf16(theta), 1000),
        tiny * 0.5 + tiny,
        (theta * 0.7 + (anchor - theta) * 0.3) / anchor,
        wide.double().mul_(2.0**-44).div_(3.0).float(),
        (theta.double() * 2.0**44).round_().to(torch.int64).float(),
    )


def _coarse(_: Kernels) -> Sequence[Tensor]:
    """Return results of the coarse codecs: int4 with its residual, int8 of tiny and of varied activations."""
    theta, anchor, residual = (numbers(seed, 1000, spread=5) for seed in (100, 101, 102))
    coded = encode_int4(theta, anchor, residual * 0.01)
    tiny, wide = numbers(103, 1000) * 2.0**-120, numbers(104, 1000, spread=20)
    return (
        decode_int4(coded.payload, anchor, 1000),
        coded.residual_N,
        *(from_wire(to_wire(x, "int8"), (1000,), "int8") for x in (tiny, wide)),
    )


def _digest(tensors: Sequence[Tensor]) -> str:
    parts = [tensor.contiguous().numpy().tobytes() for tensor in tensors]
    return fast_digest("repops-selftest", *parts).hex()[:_DIGEST_CHARACTERS]


_QUESTIONS: dict[str, Callable[[Kernels], Sequence[Tensor]]] = {
    "matmul": _matmul,
    "weight_gradient": _weight_gradient,
    "attention": _attention,
    "swiglu": _swiglu,
    "rms_norm": _rms_norm,
    "rope": _rope,
    "embedding": _embedding,
    "cross_entropy": _cross_entropy,
    "norm": _norm,
    "adamw": _adamw,
    "orthogonal": _orthogonal,
    "units": _units,
    "codec": _codec,
    "coarse": _coarse,
}


def _large_matmul(kernels: Kernels) -> Sequence[Tensor]:
    """Return products of more than a tile each way, with every order of axes."""
    a, b = numbers(110, 150, 75, spread=40), numbers(111, 75, 260, spread=40)
    turned_a, turned_b = numbers(112, 64, 200), numbers(113, 140, 64)
    return kernels.matmul(a, b), kernels.matmul(turned_a.t(), turned_b.t())


def _large_weight_gradient(kernels: Kernels) -> Sequence[Tensor]:
    grad, x = numbers(114, 700, 130, spread=12), numbers(115, 700, 150, spread=12)
    return (kernels.weight_gradient(grad, x),)


def _large_attention(kernels: Kernels) -> Sequence[Tensor]:
    """Return attention over more keys than a block has threads, the queries being the last of them."""
    q, grad = numbers(116, 1, 140, 2, 20), numbers(119, 1, 140, 2, 20)
    k, v = numbers(117, 1, 290, 1, 20), numbers(118, 1, 290, 1, 20)
    return kernels.attention(q, k, v), *kernels.attention_backward(grad, q, k, v)


def _large_rms_norm(kernels: Kernels) -> Sequence[Tensor]:
    x, weight, grad = numbers(120, 1100, 270, spread=20), numbers(121, 270), numbers(122, 1100, 270)
    normed, scale = kernels.rms_norm(x, weight, 1e-5)
    return normed, scale, *kernels.rms_norm_backward(grad, x, scale, weight)


def _large_cross_entropy(kernels: Kernels) -> Sequence[Tensor]:
    logits = numbers(123, 9, 1100, spread=4)
    return kernels.cross_entropy(logits, torch.arange(9, dtype=torch.int64) * 120)


def _large_norm(kernels: Kernels) -> Sequence[Tensor]:
    return (torch.tensor(kernels.sum_of_squares(numbers(124, 1_100_000, spread=9))),)


def _large_elements(kernels: Kernels) -> Sequence[Tensor]:
    gate, up, grad = (numbers(seed, 70, 100, spread=8) for seed in (125, 126, 127))
    return kernels.swiglu(gate, up), *kernels.swiglu_backward(grad, gate, up)


_LARGE: dict[str, Callable[[Kernels], Sequence[Tensor]]] = {
    "matmul": _large_matmul,
    "weight_gradient": _large_weight_gradient,
    "attention": _large_attention,
    "rms_norm": _large_rms_norm,
    "cross_entropy": _large_cross_entropy,
    "norm": _large_norm,
    "swiglu": _large_elements,
}
"""Shapes that the golden hashes are too small for: compared with the trusted kernels of the same machine."""
