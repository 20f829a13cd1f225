"""Encode activations and gradients as bfloat16, or as blockwise int8 with a scale for every block.

Core: pure functions.

Layout of n values in b = ceil(n / 128) blocks: b bfloat16 peaks (largest magnitude of the block), then n int8
levels in [-127, 127]; value = level * (peak / 127) in float32. A peak is bfloat16 where that of a fragment is
float16 (gossip/codecs/int8.py): the gradient of a mean over many tokens is below 6e-5, where a float16 begins
to lose precision. Both sides compute from the decoded values. Source: docs/spec/training.md section 5.

Legend: N values, B blocks, K values of a block, C values processed at a time.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from swarm.errors import BadEncoding, UsageError
from swarm.gossip.codecs.int8 import (
    BLOCK,
    CHUNK,
    LEVELS,
    block_count,
    check_length,
    chunks,
    decode_bf16,
    encode_bf16,
    int8_bytes,
    steps,
    whole_blocks,
)

FORMS = ("bf16", "int8")
"""Encodings that a run may choose for its activations."""


def wire_bytes(form: str, numel: int) -> int:
    """Return the bytes in ``to_wire`` of ``numel`` values; raises ``UsageError`` for an unknown form."""
    return int8_bytes(numel) if _is_int8(form) else 2 * numel


def to_wire(x: Tensor, form: str = "bf16") -> bytes:
    """Encode activations or gradients in C order; raises ``UsageError`` if they are not finite."""
    return encode_signal(x) if _is_int8(form) else encode_bf16(x)


def from_wire(payload: bytes, shape: Sequence[int], form: str = "bf16") -> Tensor:
    """Decode ``to_wire`` to float32 of ``shape``, the values that the receiver computes from.

    Raises ``BadEncoding`` for anything ``to_wire`` never writes.
    """
    numel = prod(shape)
    x_N = decode_signal(payload, numel) if _is_int8(form) else decode_bf16(payload, numel)
    return x_N.view(*shape)


def encode_signal(x: Tensor) -> bytes:
    """Quantize a tensor in C order; raises ``UsageError`` if it is not finite as bfloat16."""
    x_N = x.detach().reshape(-1)
    numel = x_N.numel()
    blocks = block_count(numel)
    payload = np.empty(int8_bytes(numel), np.uint8)
    sent_N = torch.from_numpy(payload[2 * blocks :].view(np.int8))
    peaks_B = torch.empty(blocks)
    delta_C, levels_BK = torch.empty(CHUNK), torch.empty(CHUNK // BLOCK, BLOCK)
    for part, count, rows in chunks(numel):
        delta_BK = whole_blocks(delta_C, count)
        delta_C[:count] = x_N[part]
        filled_BK = levels_BK[: len(delta_BK)]
        torch.abs(delta_BK, out=filled_BK)
        peak_B = filled_BK.amax(dim=1).to(torch.bfloat16).to(torch.float32)
        peaks_B[rows] = peak_B
        step_B1 = steps(peak_B, LEVELS)
        # A block of zeros has step 0; any positive divisor gives it level 0.
        torch.div(delta_BK, torch.where(step_B1 > 0, step_B1, 1.0), out=filled_BK)
        filled_BK.round_().clamp_(-LEVELS, LEVELS)
        sent_N[part] = levels_BK.view(-1)[:count]
    payload[: 2 * blocks] = np.frombuffer(encode_bf16(peaks_B), np.uint8)
    return payload.tobytes()


def decode_signal(payload: bytes, numel: int) -> Tensor:
    """Decode ``encode_signal`` to float32 (numel,) values; raises ``BadEncoding`` for what it never writes."""
    check_length(payload, int8_bytes(numel))
    blocks = block_count(numel)
    peak_B = decode_bf16(payload[: 2 * blocks], blocks)
    if bool((peak_B < 0).any()):
        raise BadEncoding("blocks with peaks that are negative")
    step_B1 = steps(peak_B, LEVELS)
    level_N = np.frombuffer(payload, np.int8, numel, 2 * blocks)
    if numel and int(level_N.min()) < -LEVELS:
        raise BadEncoding("an int8 level of -128, which no encoder writes")
    x_N = torch.empty(blocks * BLOCK)
    for part, count, rows in chunks(numel):
        values_C = x_N[part.start : rows.stop * BLOCK]
        np.copyto(values_C[:count].numpy(), level_N[part])
        values_C.view(-1, BLOCK).mul_(step_B1[rows])
    return x_N[:numel]


def _is_int8(form: str) -> bool:
    if form not in FORMS:
        raise UsageError(f"activations do not travel as {form!r}")
    return form == "int8"
