"""The whole state of a seat as values, and the hashes of its counters: what a replay starts from.

Core: pure functions.

The parts are those of protocol.md section 5.
Legend: P parameters of the shard, F values of one fragment, R values of the residual (training/offers.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm.codec import encode
from swarm.crypto import fast_digest
from swarm.tensors import hash_of, tensor_hash
from swarm.types import Digest

FLOAT_MAX = torch.finfo(torch.float32).max
COUNT_BYTES = 8
"""A count is an int64."""

Offered = tuple[int, int, Tensor]
"""A fragment that was offered and not merged yet: (fragment, tokens it was offered with, theta_F)."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """A shard between two steps; nobody writes to these tensors."""

    params_P: Tensor
    m_P: Tensor
    v_P: Tensor
    phi_P: Tensor
    momentum_P: Tensor
    step: int
    """Optimizer steps that the moments have seen."""
    anchor_root: Digest
    """The checkpoint that int8 fragments are relative to; its tensor is not part of the state."""
    tokens_total: int
    tokens_at_sync: tuple[int, ...]
    """For each fragment, ``tokens_total`` at its last merge."""
    snapshots: tuple[Offered, ...]
    """By fragment, each once."""
    residual_R: Tensor
    """What int4 has not said so far; empty in a run that never trades in int4."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those of P values, in the order in which they are written."""
        return (self.params_P, self.m_P, self.v_P, self.phi_P, self.momentum_P)


def are_finite(*tensors: Tensor, bound: float = FLOAT_MAX) -> bool:
    """Whether no value is larger than ``bound`` in size; a NaN is."""
    for tensor in tensors:
        if tensor.numel():
            least, most = torch.aminmax(tensor)
            # A NaN anywhere makes both a NaN, which fails any comparison.
            if not (float(least) >= -bound and float(most) <= bound):
                return False
    return True


def copied(tensor: Tensor) -> Tensor:
    """A copy on the CPU, wherever the tensor lies."""
    return tensor.to("cpu", copy=True)


def number_component(value: int) -> Digest:
    """What the state says of one counter."""
    return tensor_hash("int64", (), value.to_bytes(COUNT_BYTES, "little", signed=True))


def tokens_component(total: int, at_sync: Sequence[int]) -> Digest:
    """What the state says of tokens: the total, then the total at each fragment's last merge."""
    counts = (total, *at_sync)
    data = b"".join(count.to_bytes(COUNT_BYTES, "little", signed=True) for count in counts)
    return tensor_hash("int64", (len(counts),), data)


def snapshots_component(snapshots: Sequence[Offered]) -> Digest:
    """What the state says of fragments on their way into a merge; by fragment."""
    if not snapshots:
        return tensor_hash("float32", (0,), b"")
    parts = (encode((fragment, tokens, hash_of(theta))) for fragment, tokens, theta in snapshots)
    return fast_digest("snapshots", *parts)
