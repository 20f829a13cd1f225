"""Reference kernels of ``seq-f32/1``: pure torch, slow, and the definition of every bit.

Core: pure functions of tensors; only ``adamw`` and ``add_units`` write into their arguments.

Only operations that round once and alike everywhere are used: add, subtract, multiply, divide, casts,
comparisons, selections, integers, and numpy's sqrt (torch's comes from a vector library that is off by one unit
in every hundredth value). Never ``add(alpha=)``, ``addcmul``, ``lerp``, torch's own exp, sums or products of
matrices: their bits depend on the SIMD width or the number of threads. A NaN or infinity anywhere in a row
makes that row NaN, so that the gradient is refused further down.

Legend: N rows (batch x time), T time, S time of the keys, D hidden, O outputs, I intermediate, V vocabulary, H
heads, G key-value heads, E features of one head, P values of a flat vector, B batch, M K N of a product.
Source: docs/spec/verification.md section 1.
"""

from collections.abc import Callable
from ctypes import c_float
from math import inf, isfinite, nextafter, sqrt
from struct import Struct

import numpy as np
import torch
from torch import Tensor

from swarm.training.model.operators import (
    NEWTON_SCHULZ,
    NEWTON_SCHULZ_EPS,
    NEWTON_SCHULZ_STEPS,
    are_finite,
)

FIXED_POINT = 2.0**44
"""Units of gradient sums per 1.0, 2^-44 each: finer than float32 resolves at any size that matters."""
GRADIENT_MAX = 1024.0
"""Bound on every element of an honest gradient; 2^10 x 256 micro-batches fit 63 bits at 2^-44."""
GRADIENT_ROWS = 128
"""Rows of a micro-batch in one product of a weight's gradient: one sum over all of them would round worse than
torch's own, which is cut up too."""
_AS_FLOAT, _AS_BITS = Struct("<d"), Struct("<Q")
_ROUNDER = 12582912.0
"""1.5 x 2^23: adding it to a small float32 rounds that to a whole number, halves to even."""
_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.44269504, 0.693145751953125, 1.42860677e-06
_EXP_SERIES = (1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0)
_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_TILE_VALUES = 1 << 15
"""Values of a tile, float64, in which products and sums are computed: it stays in a core's cache."""


def fma(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return a x b + c in float32 with one rounding.

    It is exact in float64, rounded to odd there, then to float32.
    """
    product = a.double() * b.double()  # 24 + 24 bits: exact
    wide_c = c.double()
    total = product + wide_c
    back = total - product
    error = (product - (total - back)) + (wide_c - back)  # TwoSum: total + error is exact
    bits = total.view(torch.int64)
    inexact_and_even = (error != 0) & error.isfinite() & ((bits & 1) == 0)
    away = (error > 0) == (total > 0)
    odd = torch.where(inexact_and_even, torch.where(away, bits + 1, bits - 1), bits)
    return odd.view(torch.float64).float()


def chain(left_K: Tensor, right_K: Tensor, total: float = 0.0) -> float:
    """Return one element of a product: ``fma`` of the terms in their order, from ``total`` on.

    Plain numbers are some thirty times as fast as tensors of one value, and have the same bits.
    """
    for a, b in zip(left_K.tolist(), right_K.tolist(), strict=True):
        product = a * b
        wide = product + total
        back = wide - product
        error = (product - (wide - back)) + (total - back)
        if error != 0.0 and isfinite(error) and not _bits_of(wide) & 1:
            away = inf if wide > 0 else -inf
            wide = nextafter(wide, away if (error > 0) == (wide > 0) else -away)
        total = c_float(wide).value
    return total


def _bits_of(number: float) -> int:
    (bits,) = _AS_BITS.unpack(_AS_FLOAT.pack(number))
    return int(bits)


def tree_sum(x: Tensor, dim: int = -1) -> Tensor:
    """Sum along ``dim`` by a binary tree over contiguous halves, padded with +0 to a power of two."""
    x = x.movedim(dim, 0)
    count = x.shape[0]
    padded = 1 << (count - 1).bit_length()
    if padded != count:
        x = torch.cat((x, x.new_zeros(padded - count, *x.shape[1:])))
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        x = x[:half] + x[half:]
    return x[0]


def exp(x: Tensor) -> Tensor:
    """Return exp of float32, clamped to -87..88, by a fixed polynomial; about one unit in the last place."""
    x = torch.clamp(x, -87.0, 88.0)
    shifted = x * _LOG2_E + _ROUNDER
    whole = shifted - _ROUNDER
    rest = x - whole * _LN2_HIGH
    rest = rest - whole * _LN2_LOW
    series = torch.full_like(rest, 1 / 5040)
    for coefficient in _EXP_SERIES:
        series = series * rest + coefficient
    return series * ((shifted.view(torch.int32) + 127) << 23).view(torch.float32)


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm of positive normal float64: exponent, then the series of atanh."""
    mantissa, exponent = torch.frexp(x)
    is_low = mantissa < _SQRT_HALF
    mantissa = torch.where(is_low, mantissa * 2.0, mantissa)
    exponent = torch.where(is_low, exponent - 1, exponent).double()
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = torch.full_like(z, 1 / 25)
    for odd in range(23, 0, -2):
        series = series * z
        series = series + 1.0 / odd
    return exponent * _LN2 + (s * series) * 2.0


def root(x: Tensor) -> Tensor:
    """Return the square root of float32, rounded correctly."""
    return torch.from_numpy(np.sqrt(x.cpu().numpy())).to(x.device)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of (..MK, ..KN) as ..MN: acc = fma(a[i,k], b[k,j], acc) for k ascending from acc = 0.

    Leading axes, at most two, are the same for both; any strides.
    """
    rows, depth = a.shape[-2:]
    columns = b.shape[-1]
    left, right = a.reshape(-1, rows, depth), b.reshape(-1, depth, columns)
    out = torch.zeros(left.shape[0], rows, columns)
    high = max(1, min(rows, _TILE_VALUES // max(columns, 1)))
    batches = max(1, _TILE_VALUES // max(high * columns, 1))
    for first in range(0, left.shape[0], batches):
        group = slice(first, first + batches)
        for top in range(0, rows, high):
            tile = slice(top, top + high)
            total = out[group, tile]
            for k in range(depth):
                total = fma(left[group, tile, k : k + 1], right[group, k : k + 1], total)
            out[group, tile] = total
    return out.view(*a.shape[:-1], columns)


def weight_gradient(grad_NO: Tensor, x_ND: Tensor) -> Tensor:
    """Return grad^T x, shape OD: a tree over the products of ``GRADIENT_ROWS`` rows each."""
    pairs = zip(torch.split(grad_NO, GRADIENT_ROWS), torch.split(x_ND, GRADIENT_ROWS), strict=True)
    return tree_sum(torch.stack([matmul(grad.t(), x) for grad, x in pairs]), 0)


def swiglu(gate_NI: Tensor, up_NI: Tensor) -> Tensor:
    """Return silu(gate) * up."""
    share = 1.0 / (exp(-gate_NI) + 1.0)
    return (gate_NI * share) * up_NI


def swiglu_backward(grad_NI: Tensor, gate_NI: Tensor, up_NI: Tensor) -> tuple[Tensor, Tensor]:
    """Return (gradient of gate, gradient of up)."""
    share = 1.0 / (exp(-gate_NI) + 1.0)
    bend = (gate_NI * (1.0 - share)) + 1.0
    return (grad_NI * up_NI) * (share * bend), grad_NI * (gate_NI * share)


def attention(q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor) -> Tensor:
    """Return causal attention, mixed_BTHE.

    The queries are the last T of S positions; groups of heads share G keys and values.
    """
    q_BHTE, k_BHSE, v_BHSE = _by_head(q_BTHE, k_BSGE, v_BSGE)
    weights_BHTS = causal_weights(matmul(q_BHTE, k_BHSE.transpose(2, 3)), q_BTHE.shape[3])
    return plus_zero(matmul(weights_BHTS, v_BHSE)).transpose(1, 2).contiguous()


def attention_backward(
    grad_BTHE: Tensor, q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of (q, k, v); the attention weights are computed again."""
    q_BHTE, k_BHSE, v_BHSE = _by_head(q_BTHE, k_BSGE, v_BSGE)
    grad_BHTE = grad_BTHE.transpose(1, 2)
    weights_BHTS = causal_weights(matmul(q_BHTE, k_BHSE.transpose(2, 3)), q_BTHE.shape[3])
    grad_v = plus_zero(matmul(weights_BHTS.transpose(2, 3), grad_BHTE))
    slope_BHTS = matmul(grad_BHTE, v_BHSE.transpose(2, 3))
    slope_BHTS = causal_weights_backward(weights_BHTS, slope_BHTS, q_BTHE.shape[3])
    grad_q = plus_zero(matmul(slope_BHTS, k_BHSE))
    grad_k = plus_zero(matmul(slope_BHTS.transpose(2, 3), q_BHTE))
    groups = k_BSGE.shape[2]
    return (
        grad_q.transpose(1, 2).contiguous(),
        _over_copies(grad_k, groups),
        _over_copies(grad_v, groups),
    )


def causal_weights(scores_BHTS: Tensor, width: int, seen_TS: Tensor | None = None) -> Tensor:
    """Return the softmax of scores / sqrt(width) over the positions a row may see; exactly 0 elsewhere.

    ``seen_TS`` is the mask of those positions, for rows that are not the last of all.
    """
    seen_TS = _seen(scores_BHTS) if seen_TS is None else seen_TS
    finite = (scores_BHTS.isfinite() | ~seen_TS).all(-1, keepdim=True)
    scaled = torch.where(seen_TS, scores_BHTS * (1.0 / sqrt(width)), float("-inf"))
    raised = torch.where(seen_TS, exp(scaled - scaled.amax(-1, keepdim=True)), 0.0)
    total = torch.where(finite, tree_sum(raised).unsqueeze(-1), float("nan"))
    return torch.where(seen_TS, raised / total, 0.0)


def causal_weights_backward(
    weights_BHTS: Tensor, slope_BHTS: Tensor, width: int, seen_TS: Tensor | None = None
) -> Tensor:
    """Return the gradient of the unscaled scores from that of the weights; ``seen_TS`` as there."""
    seen_TS = _seen(slope_BHTS) if seen_TS is None else seen_TS
    weighted = torch.where(seen_TS, weights_BHTS * slope_BHTS, 0.0)
    total = tree_sum(weighted).unsqueeze(-1)
    bent = (weighted - weights_BHTS * total) * (1.0 / sqrt(width))
    return torch.where(seen_TS, bent, 0.0)


def plus_zero(x: Tensor) -> Tensor:
    """Turn -0 into +0, so that leaving out masked terms, whose products are zeros, changes nothing."""
    return x + 0.0


def rms_norm(x_ND: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return (normed_ND, scale_N): x times scale times weight, scale = 1 / sqrt(mean of squares + eps)."""
    mean_N = tree_sum(x_ND * x_ND) / x_ND.shape[1]
    scale_N = 1.0 / root(mean_N + eps)
    return (x_ND * scale_N.unsqueeze(1)) * weight_D, scale_N


def rms_norm_backward(
    grad_ND: Tensor, x_ND: Tensor, scale_N: Tensor, weight_D: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of (x, weight)."""
    scale_N1 = scale_N.unsqueeze(1)
    unit_ND = x_ND * scale_N1
    pull_ND = grad_ND * unit_ND
    mean_N1 = (tree_sum(pull_ND * weight_D) / x_ND.shape[1]).unsqueeze(1)
    return (grad_ND * weight_D - unit_ND * mean_N1) * scale_N1, tree_sum(pull_ND, 0)


def rotate(x_BTHE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
    """Turn the halves of E against each other."""
    half = x_BTHE.shape[3] // 2
    left, right = x_BTHE[..., :half], x_BTHE[..., half:]
    cos_T1E, sin_T1E = cos_TE.unsqueeze(1), sin_TE.unsqueeze(1)
    return torch.cat(
        (
            left * cos_T1E[..., :half] - right * sin_T1E[..., :half],
            right * cos_T1E[..., half:] + left * sin_T1E[..., half:],
        ),
        -1,
    )


def gather_rows(grad_ND: Tensor, tokens_N: Tensor, vocabulary: int) -> Tensor:
    """Return VD: for each token the sum of its rows, in 64-bit fixed point, so exact in any order.

    A row with a value that is not finite or past ``GRADIENT_MAX`` makes its token's sum NaN.
    """
    fits_ND = grad_ND.abs() <= GRADIENT_MAX
    whole_ND = (torch.where(fits_ND, grad_ND, 0.0).double() * FIXED_POINT).round()
    sum_VD = whole_ND.new_zeros(vocabulary, grad_ND.shape[1], dtype=torch.int64)
    sum_VD.index_add_(0, tokens_N, whole_ND.to(torch.int64))
    out_VD = (sum_VD.double() * (1.0 / FIXED_POINT)).float()
    out_VD[tokens_N[~fits_ND.all(1)]] = float("nan")
    return out_VD


def cross_entropy(logits_NV: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss_N in nats, softmax shares_NV)."""
    finite_N1 = logits_NV.isfinite().all(1, keepdim=True)
    below_NV = logits_NV - logits_NV.amax(1, keepdim=True)
    raised_NV = exp(below_NV)
    total_N1 = torch.where(finite_N1, tree_sum(raised_NV).unsqueeze(1), float("nan"))
    reached_N = below_NV.gather(1, labels_N.unsqueeze(1)).squeeze(1)
    loss_N = log(total_N1.squeeze(1).double()).float() - reached_N
    return loss_N, raised_NV / total_N1


def cross_entropy_backward(shares_NV: Tensor, labels_N: Tensor, factor: float) -> Tensor:
    """Return (shares - one at the label) x factor."""
    grad_NV = shares_NV * factor
    rows_N = torch.arange(len(labels_N), device=labels_N.device)
    grad_NV[rows_N, labels_N] = (shares_NV[rows_N, labels_N] - 1.0) * factor
    return grad_NV


def sum_of_squares(flat_P: Tensor) -> float:
    """Return the sum of squares of a flat vector, as a float32 number."""
    return float(tree_sum(flat_P * flat_P)) if flat_P.numel() else 0.0


def adamw(
    params_P: Tensor, m_P: Tensor, v_P: Tensor, grad_P: Tensor, scalars: tuple[float, ...]
) -> None:
    """Make one AdamW update in place, each line an IEEE operation that rounds once.

    ``scalars``: rate, beta1, 1 - beta1, beta2, 1 - beta2, eps, and the two bias corrections.
    """
    rate, keep1, new1, keep2, new2, eps, correction1, correction2 = scalars
    m_P.mul_(keep1).add_(grad_P * new1)
    v_P.mul_(keep2).add_((grad_P * grad_P) * new2)
    below_P = root(v_P * correction2) + eps
    params_P.sub_((m_P * correction1) / below_P * rate)


Product = Callable[[Tensor, Tensor], Tensor]


def orthogonal(update_RC: Tensor, product: Product = matmul) -> Tensor:
    """Return the matrix with its singular values pressed towards 1, by steps of Newton and Schulz.

    A step is X = B X with B = a I + b G + c G^2 and G = X X^T, from X = update / (norm + eps); a matrix with
    more rows than columns is transposed. All B are polynomials of the first G and commute: G and the product Q
    of all B are carried along, each by its lower half, and X is multiplied once. ``product`` has the bits of
    ``matmul``.
    """
    a, b, c = NEWTON_SCHULZ
    total = tree_sum((update_RC * update_RC).flatten()).view(1)
    x = update_RC * (1.0 / (root(total) + NEWTON_SCHULZ_EPS))
    is_tall = update_RC.shape[0] > update_RC.shape[1]
    if is_tall:
        x = x.t().contiguous()
    g, q = _symmetric(product, x, x.t()), torch.empty(0)
    for step in range(NEWTON_SCHULZ_STEPS):
        bend = g * b + _symmetric(product, g, g) * c
        bend.diagonal().add_(a)
        q = _symmetric(product, bend, q) if step else bend
        g = _symmetric(product, _symmetric(product, bend, g), bend)
    last = product(q, x)
    return last.t().contiguous() if is_tall else last


def add_units(sum_P: Tensor, grad_P: Tensor) -> bool:
    """Add a gradient to an int64 sum in units of 2^-44, halves to even.

    Returns False, adding nothing, when a value is not finite or past ``GRADIENT_MAX``.
    """
    if not are_finite(grad_P, bound=GRADIENT_MAX):
        return False
    wide_C = grad_P.new_empty(min(grad_P.numel(), _TILE_VALUES), dtype=torch.float64)
    units_C = wide_C.new_empty(wide_C.shape, dtype=torch.int64)
    for at in range(0, grad_P.numel(), _TILE_VALUES):
        part_C = grad_P[at : at + _TILE_VALUES]
        wide, units = wide_C[: len(part_C)], units_C[: len(part_C)]
        units.copy_(wide.copy_(part_C).mul_(FIXED_POINT).round_())
        sum_P[at : at + _TILE_VALUES] += units
    return True


def mean_units(sum_P: Tensor, count: int) -> Tensor:
    """Return the mean of ``count`` gradients from their sum.

    Each line is an IEEE operation in float64, then float32.
    """
    wide_P = sum_P.double().mul_(1.0 / FIXED_POINT)
    return divided(wide_P, count).float()


def divided(x: Tensor, divisor: float) -> Tensor:
    """Return x / divisor by a division.

    torch multiplies a tensor of a GPU by the reciprocal of a plain number, which rounds twice.
    """
    return x / x.new_tensor(float(divisor))


def _by_head(q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    copies = q_BTHE.shape[2] // k_BSGE.shape[2]
    k_BSHE, v_BSHE = (x.repeat_interleave(copies, 2) for x in (k_BSGE, v_BSGE))
    return q_BTHE.transpose(1, 2), k_BSHE.transpose(1, 2), v_BSHE.transpose(1, 2)


def _over_copies(grad_BHSE: Tensor, groups: int) -> Tensor:
    batch, heads, keys, width = grad_BHSE.shape
    copies = grad_BHSE.view(batch, groups, heads // groups, keys, width)
    return tree_sum(copies, 2).transpose(1, 2).contiguous()


def _seen(scores_BHTS: Tensor) -> Tensor:
    """Return TS: True where row t, the (S - T + t)-th position, may look at position s."""
    rows, columns = scores_BHTS.shape[-2:]
    return torch.ones(rows, columns, dtype=torch.bool).tril(columns - rows)


def _symmetric(product: Product, a: Tensor, b: Tensor) -> Tensor:
    """Return a product that is symmetric: what lies above the diagonal is copied from below it."""
    whole = product(a, b)
    is_above = torch.ones(whole.shape, dtype=torch.bool, device=whole.device).triu(1)
    return torch.where(is_above, whole.t(), whole)
