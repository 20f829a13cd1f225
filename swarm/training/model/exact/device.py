"""Compute the kernels of ``seq-f32/1`` on a device that runs ``kernels.cu``: the reference bits.

Core: the same function of its arguments as ``reference``. A launcher runs one kernel: ``cuda`` on a GPU, and a
test's on the CPU, from the same text.

Tensors lie on the launcher's device. Products, attention, norms, losses and AdamW are kernels of our own;
turning by positions, tables, sums of gradients and Muon around its products are operations of torch that round
once and alike on every device: those of the reference. Legend: see ``reference``.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from math import sqrt
from typing import Any, Protocol

import torch
from torch import Tensor

from swarm.errors import UsageError
from swarm.training.model.exact import reference
from swarm.training.model.exact.cuda import THREADS
from swarm.training.model.exact.native import check_heads, indices, of_shape, same_shape
from swarm.training.model.exact.reference import GRADIENT_ROWS

TILE = 128
"""Side of a tile of a product, as in kernels.cu."""
WHOLE, LOWER, UPTO_DIAGONAL, FROM_DIAGONAL = range(4)
"""Needed parts of a product with a causal matrix, as in kernels.cu."""
SCRATCH_BYTES = 1 << 28
"""Memory aimed at for attention weights, or for the parts of a weight's gradient; never less than one sequence
or one output takes."""
BATCHES_MAX = 65_535
"""Largest extent of a grid in z."""
_SQUARES_WIDTH, _RESIDUES, _MANY_ROWS = 1024, 64, 1024


class Launcher(Protocol):
    """Runner of the kernels."""

    @property
    def device(self) -> torch.device:
        """Device whose tensors the kernels take."""
        ...

    @property
    def name(self) -> str:
        """Name of the device, for people."""
        ...

    def launch(self, kernel: str, grid: tuple[int, int, int], arguments: Sequence[Any]) -> None:
        """Start a kernel with arguments of ctypes, after all that were started before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """The struct of the same name in kernels.cu: the fields, and their order."""

    batches: int
    inner: int
    rows: int
    columns: int
    depth: int
    a_outer: int
    a_inner: int
    a_row: int
    a_depth: int
    b_outer: int
    b_inner: int
    b_depth: int
    b_column: int
    c_outer: int
    c_inner: int
    c_row: int
    copies: int = 1
    shape: int = WHOLE
    offset: int = 0
    plus_zero: int = 0


PRODUCT_FIELDS = tuple(entry.name for entry in fields(Product))
_CProduct = ctypes.c_longlong * len(PRODUCT_FIELDS)
_AdamW = ctypes.c_float * 8


@dataclass(frozen=True, slots=True)
class DeviceKernels:
    """Functions of ``reference`` under the same names, computed by a launcher's device."""

    launcher: Launcher

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute ``reference.matmul``: up to two leading axes, any strides."""
        *leading, rows, depth = a.shape
        *others, same_depth, columns = b.shape
        if leading != others or depth != same_depth or len(leading) > 2:
            raise UsageError(f"no product of {tuple(a.shape)} and {tuple(b.shape)}")
        out = self._empty(*leading, rows, columns)
        fill = (0,) * (2 - len(leading))
        a_strides, b_strides, c_strides = ((*fill, *x.stride()) for x in (a, b, out))
        inner = leading[-1] if leading else 1
        plan = Product(
            batches=inner * (leading[0] if len(leading) == 2 else 1),
            inner=inner,
            rows=rows,
            columns=columns,
            depth=depth,
            a_outer=a_strides[0],
            a_inner=a_strides[1],
            a_row=a_strides[2],
            a_depth=a_strides[3],
            b_outer=b_strides[0],
            b_inner=b_strides[1],
            b_depth=b_strides[2],
            b_column=b_strides[3],
            c_outer=c_strides[0],
            c_inner=c_strides[1],
            c_row=c_strides[2],
        )
        self._product(plan, a, b, out)
        return out

    def weight_gradient(self, grad_NO: Tensor, x_ND: Tensor) -> Tensor:
        """Compute ``reference.weight_gradient``, so many outputs at once as the scratch memory has room for."""
        rows, outputs = grad_NO.shape
        grad_NO, x_ND = grad_NO.contiguous(), of_shape(x_ND, rows, x_ND.shape[1])
        width = x_ND.shape[1]
        out_OD = self._empty(outputs, width)
        chunks = max(1, -(-rows // GRADIENT_ROWS))
        high = max(1, min(outputs, SCRATCH_BYTES // (4 * max(1, chunks * width))))
        for first in range(0, outputs, high):
            part_NO = grad_NO[:, first : first + high]
            part_OD = out_OD[first : first + high]
            if chunks == 1:
                part_OD.copy_(self.matmul(part_NO.t(), x_ND))
                continue
            products_COD = self._empty(chunks, part_NO.shape[1], width)
            whole = rows // GRADIENT_ROWS
            left = part_NO[: whole * GRADIENT_ROWS].reshape(whole, GRADIENT_ROWS, -1)
            right = x_ND[: whole * GRADIENT_ROWS].view(whole, GRADIENT_ROWS, width)
            products_COD[:whole] = self.matmul(left.mT, right)
            if whole < chunks:
                rest = slice(whole * GRADIENT_ROWS, rows)
                products_COD[-1] = self.matmul(part_NO[rest].t(), x_ND[rest])
            part_OD.copy_(self._sum_rows(products_COD.view(chunks, -1)).view(part_OD.shape))
        return out_OD

    def swiglu(self, gate_NI: Tensor, up_NI: Tensor) -> Tensor:
        """Compute ``reference.swiglu``."""
        gate_NI, up_NI = same_shape(gate_NI, up_NI)
        out = torch.empty_like(gate_NI)
        self._each("swiglu", out.numel(), gate_NI, up_NI, out)
        return out

    def swiglu_backward(
        self, grad_NI: Tensor, gate_NI: Tensor, up_NI: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute ``reference.swiglu_backward``."""
        grad_NI, gate_NI, up_NI = same_shape(grad_NI, gate_NI, up_NI)
        out = torch.empty_like(gate_NI), torch.empty_like(gate_NI)
        self._each("swiglu_backward", grad_NI.numel(), grad_NI, gate_NI, up_NI, *out)
        return out

    def attention(self, q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor) -> Tensor:
        """Compute ``reference.attention``."""
        check_heads(q_BTHE, k_BSGE, v_BSGE)
        out_BTHE = self._empty(*q_BTHE.shape)
        for here in _sequences(q_BTHE, k_BSGE):
            weights = self._weights(q_BTHE[here], k_BSGE[here])
            self._mix(UPTO_DIAGONAL, weights, v_BSGE[here], out_BTHE[here])
        return out_BTHE

    def attention_backward(
        self, grad_BTHE: Tensor, q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute ``reference.attention_backward``."""
        check_heads(q_BTHE, k_BSGE, v_BSGE)
        grad_BTHE, _ = same_shape(grad_BTHE, q_BTHE)
        out = tuple(self._empty(*x.shape) for x in (q_BTHE, k_BSGE, v_BSGE))
        for here in _sequences(q_BTHE, k_BSGE):
            grad, q, k, v = (x[here] for x in (grad_BTHE, q_BTHE, k_BSGE, v_BSGE))
            weights, slope = self._weights(q, k), self._scores(grad, v)
            keys, heads = k.shape[1], q.shape[2]
            parts_BHSE = self._empty(len(q), heads, keys, q.shape[3])
            self._mix(FROM_DIAGONAL, weights.mT, grad, parts_BHSE.transpose(1, 2))
            out[2][here] = self._over_copies(parts_BHSE, k.shape[2])
            self._rows("weigh_backward", q.shape[3], weights, slope)
            self._mix(UPTO_DIAGONAL, slope, k, out[0][here])
            self._mix(FROM_DIAGONAL, slope.mT, q, parts_BHSE.transpose(1, 2))
            out[1][here] = self._over_copies(parts_BHSE, k.shape[2])
        return out[0], out[1], out[2]

    def rms_norm(self, x_ND: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """Compute ``reference.rms_norm``."""
        x_ND, weight_D = x_ND.contiguous(), of_shape(weight_D, x_ND.shape[1])
        out, scale_N = torch.empty_like(x_ND), self._empty(len(x_ND))
        numbers = (*_longs(x_ND.shape[1]), ctypes.c_float(eps))
        self._run("rms_norm", len(x_ND), *numbers, x_ND, weight_D, out, scale_N)
        return out, scale_N

    def rms_norm_backward(
        self, grad_ND: Tensor, x_ND: Tensor, scale_N: Tensor, weight_D: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute ``reference.rms_norm_backward``."""
        grad_ND, x_ND = same_shape(grad_ND, x_ND)
        rows, width = x_ND.shape
        scale_N, weight_D = of_shape(scale_N, rows), of_shape(weight_D, width)
        out, pull_ND = torch.empty_like(x_ND), torch.empty_like(x_ND)
        tensors = (grad_ND, x_ND, scale_N, weight_D, out, pull_ND)
        self._run("rms_norm_backward", rows, *_longs(width), *tensors)
        return out, self._sum_rows(pull_ND)

    def rotate(self, x_BTHE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        """Compute ``reference.rotate`` by torch's multiplications, additions and subtractions."""
        return reference.rotate(x_BTHE, cos_TE, sin_TE)

    def gather_rows(self, grad_ND: Tensor, tokens_N: Tensor, vocabulary: int) -> Tensor:
        """Compute ``reference.gather_rows`` by torch: the sum is of integers, so of any order."""
        return reference.gather_rows(
            grad_ND, indices(tokens_N, len(grad_ND), vocabulary), vocabulary
        )

    def cross_entropy(self, logits_NV: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ``reference.cross_entropy``."""
        logits_NV = logits_NV.contiguous()
        rows, width = logits_NV.shape
        labels_N = indices(labels_N, rows, width)
        loss_N, shares_NV = self._empty(rows), torch.empty_like(logits_NV)
        tensors = (logits_NV, labels_N, loss_N, shares_NV)
        self._run("cross_entropy", rows, *_longs(width), *tensors)
        return loss_N, shares_NV

    def cross_entropy_backward(self, shares_NV: Tensor, labels_N: Tensor, factor: float) -> Tensor:
        """Compute ``reference.cross_entropy_backward`` by torch's subtractions and multiplications."""
        labels_N = indices(labels_N, *shares_NV.shape)
        return reference.cross_entropy_backward(shares_NV, labels_N, factor)

    def sum_of_squares(self, flat_P: Tensor) -> float:
        """Compute ``reference.sum_of_squares``: rows of 1,024 first, then over the row that is left."""
        if not flat_P.numel():
            return 0.0
        count = flat_P.numel()
        width = min(_SQUARES_WIDTH, 1 << (count - 1).bit_length())
        sums_W = self._sum_rows(flat_P.contiguous(), width=width, squared=True)
        return float(reference.tree_sum(sums_W))

    def adamw(
        self, params_P: Tensor, m_P: Tensor, v_P: Tensor, grad_P: Tensor, scalars: tuple[float, ...]
    ) -> None:
        """Compute ``reference.adamw``."""
        count = params_P.numel()
        if not all(x.is_contiguous() and x.numel() == count for x in (params_P, m_P, v_P)):
            raise UsageError("parameters and moments are contiguous and of one size")
        grad_P = of_shape(grad_P, *params_P.shape)
        tensors = (params_P, m_P, v_P, grad_P)
        self._run("adamw", _blocks(count), *_longs(count), _AdamW(*scalars), *tensors)

    def orthogonal(self, update_RC: Tensor) -> Tensor:
        """Compute ``reference.orthogonal``, its products by the kernel."""
        return reference.orthogonal(update_RC, self.matmul)

    def add_units(self, sum_P: Tensor, grad_P: Tensor) -> bool:
        """Compute ``reference.add_units`` by torch: exact products, rounding, and sums of integers."""
        return reference.add_units(sum_P, grad_P)

    def mean_units(self, sum_P: Tensor, count: int) -> Tensor:
        """Compute ``reference.mean_units`` by torch's float64."""
        return reference.mean_units(sum_P, count)

    # --- attention ---

    def _scores(self, q_BTHE: Tensor, k_BSGE: Tensor) -> Tensor:
        """Return the products of queries and keys, BHTS; those above the diagonal may be missing."""
        batch, times, heads, width = q_BTHE.shape
        keys, groups = k_BSGE.shape[1:3]
        out = self._empty(batch, heads, times, keys)
        plan = Product(
            batches=batch * heads,
            inner=heads,
            rows=times,
            columns=keys,
            depth=width,
            a_outer=q_BTHE.stride(0),
            a_inner=q_BTHE.stride(2),
            a_row=q_BTHE.stride(1),
            a_depth=q_BTHE.stride(3),
            b_outer=k_BSGE.stride(0),
            b_inner=k_BSGE.stride(2),
            b_depth=k_BSGE.stride(3),
            b_column=k_BSGE.stride(1),
            c_outer=out.stride(0),
            c_inner=out.stride(1),
            c_row=keys,
            copies=heads // groups,
            shape=LOWER,
            offset=keys - times,
        )
        self._product(plan, q_BTHE, k_BSGE, out)
        return out

    def _weights(self, q_BTHE: Tensor, k_BSGE: Tensor) -> Tensor:
        """Return the causal weights, BHTS."""
        weights = self._scores(q_BTHE, k_BSGE)
        self._rows("weigh", q_BTHE.shape[3], weights)
        return weights

    def _rows(self, kernel: str, width: int, *causal_BHTS: Tensor) -> None:
        """Start a kernel that has a block for each row of causal matrices; ``width`` is E."""
        batch, heads, times, keys = causal_BHTS[0].shape
        numbers = (*_longs(times, keys), ctypes.c_float(1.0 / sqrt(width)))
        self._run(kernel, batch * heads * times, *numbers, *causal_BHTS)

    def _mix(self, shape: int, a_BHTS: Tensor, b_BSGE: Tensor, out_BTHE: Tensor) -> None:
        """Write the products of causal matrices and the rows of each head, + 0."""
        batch, heads, rows, depth = a_BHTS.shape
        keys, times = (depth, rows) if shape == UPTO_DIAGONAL else (rows, depth)
        plan = Product(
            batches=batch * heads,
            inner=heads,
            rows=rows,
            columns=out_BTHE.shape[3],
            depth=depth,
            a_outer=a_BHTS.stride(0),
            a_inner=a_BHTS.stride(1),
            a_row=a_BHTS.stride(2),
            a_depth=a_BHTS.stride(3),
            b_outer=b_BSGE.stride(0),
            b_inner=b_BSGE.stride(2),
            b_depth=b_BSGE.stride(1),
            b_column=b_BSGE.stride(3),
            c_outer=out_BTHE.stride(0),
            c_inner=out_BTHE.stride(2),
            c_row=out_BTHE.stride(1),
            copies=heads // b_BSGE.shape[2],
            shape=shape,
            offset=keys - times,
            plus_zero=1,
        )
        self._product(plan, a_BHTS, b_BSGE, out_BTHE)

    def _over_copies(self, parts_BHSE: Tensor, groups: int) -> Tensor:
        """Return the tree over the heads that share a key, BSGE."""
        batch, heads, keys, width = parts_BHSE.shape
        copies = heads // groups
        sums = parts_BHSE
        if copies > 1:
            sums = self._sum_rows(parts_BHSE.view(batch * groups, copies, keys * width))
        return sums.view(batch, groups, keys, width).transpose(1, 2)

    # --- launches ---

    def _sum_rows(self, x: Tensor, *, width: int = 0, squared: bool = False) -> Tensor:
        """Return the tree over the rows of (B, rows, W) or (rows, W); with ``width``, of a flat vector cut up.

        Many rows are summed in two steps, those of each residue first: that is what the tree does.
        """
        flat = x.numel()
        size = width or x.shape[-1]
        count = -(-flat // size) if width else x.shape[-2]
        batches = len(x) if x.dim() == 3 else 1
        residues = _RESIDUES if count >= _MANY_ROWS else 1
        out = self._empty(batches, residues, size)
        grid = (_blocks(size), residues, min(batches, BATCHES_MAX))
        numbers = _longs(batches, count, size, residues, flat // batches)
        arguments = [*numbers, ctypes.c_int(squared), *map(self._address, (x, out))]
        if size:
            self.launcher.launch("tree_rows", grid, arguments)
        if residues > 1:
            return self._sum_rows(out)
        return out.view(size) if batches == 1 else out.view(batches, size)

    def _product(self, plan: Product, a: Tensor, b: Tensor, out: Tensor) -> None:
        if not (plan.rows and plan.columns and plan.batches):
            return
        numbers = _CProduct(*(getattr(plan, name) for name in PRODUCT_FIELDS))
        tiles = -(-plan.rows // TILE) * -(-plan.columns // TILE)
        grid = (tiles, 1, min(plan.batches, BATCHES_MAX))
        self.launcher.launch("product", grid, [numbers, *map(self._address, (a, b, out))])

    def _each(self, kernel: str, count: int, *tensors: Tensor) -> None:
        self._run(kernel, _blocks(count), *_longs(count), *tensors)

    def _run(self, kernel: str, blocks: int, *arguments: object) -> None:
        if blocks:
            held = [self._address(x) if isinstance(x, Tensor) else x for x in arguments]
            self.launcher.launch(kernel, (blocks, 1, 1), held)

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, device=self.launcher.device)

    def _address(self, x: Tensor) -> ctypes.c_void_p:
        """Return the address of the values; raise ``UsageError`` for other types, or another device."""
        if x.dtype not in {torch.float32, torch.int64} or x.device != self.launcher.device:
            raise UsageError(
                f"kernels take float32 on {self.launcher.device}, not {x.dtype} on {x.device}"
            )
        return ctypes.c_void_p(x.data_ptr())


def _sequences(q_BTHE: Tensor, k_BSGE: Tensor) -> Iterator[slice]:
    """Yield so many sequences at once as have attention weights for the scratch memory."""
    batch, times, heads, _ = q_BTHE.shape
    each = max(1, SCRATCH_BYTES // max(1, 4 * heads * times * k_BSGE.shape[1]))
    for first in range(0, batch, each):
        yield slice(first, min(first + each, batch))


def _blocks(count: int) -> int:
    return -(-count // THREADS)


def _longs(*numbers: int) -> tuple[ctypes.c_longlong, ...]:
    return tuple(ctypes.c_longlong(number) for number in numbers)
