"""Compute the kernels of ``seq-f32/1`` in C, where the extension was built: the reference bits, quickly.

Core: the same function of its arguments as ``reference``. Loading the library is to this module what loading
torch's is to the others: whether it is there changes how long a result takes, never the result.

The extension (kernels.c) is optional and is no Python module: it is opened by its path and given pointers, so
calls release the interpreter's lock. One process may use several instruction sets side by side. Legend: see
``reference``.
"""

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from swarm.errors import BadConfig, UsageError
from swarm.training.model.operators import NEWTON_SCHULZ, NEWTON_SCHULZ_EPS, NEWTON_SCHULZ_STEPS

VERSION = 3
"""Version of the signatures in kernels.c; a library of another version was built from another source."""
ISAS = ("portable", "avx2", "avx512", "neon")
"""Instruction sets, in the order of kernels.c."""
BEST_FIRST = ("avx512", "neon", "avx2", "portable")
REBUILD = "python -m pip install --editable .   (with gcc or clang installed)"
_PATH = __file__.rpartition("native")[0] + "_kernels.abi3.so"
_NO_MEMORY = 1
_Fifteen, _Sixteen = ctypes.c_int64 * 15, ctypes.c_int64 * 16
_ONES, _ZEROS = (1, 1), (0, 0)


class NotBuilt(BadConfig):
    """Missing or unusable library; the message says why."""


def load(isa: str | None = None, path: str = "") -> "Compiled":
    """Return the kernels for an instruction set; None stands for the best of this CPU.

    Raises ``NotBuilt`` when the library is missing, of another version, for another machine, or lacks ``isa``.
    """
    library = _open(path or _PATH)
    supported = [name for name in BEST_FIRST if library.repops_supported() >> ISAS.index(name) & 1]
    if isa is not None and isa not in supported:
        raise NotBuilt(f"the kernels for {isa} are not built, or this CPU cannot run them")
    return Compiled(library, isa or supported[0])


@lru_cache(maxsize=4)
def _open(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
        version = int(library.repops_version())
        for name, result, arguments in _SIGNATURES:
            function = getattr(library, "repops_" + name)
            function.restype, function.argtypes = result, arguments
    except OSError as error:
        if "no such file" in str(error).lower():  # the words of every system's loader
            raise NotBuilt("the compiled kernels were not built here") from None
        raise NotBuilt(f"the compiled kernels cannot be loaded: {error}") from None
    except AttributeError:
        raise NotBuilt("the compiled kernels were built from another version") from None
    if version != VERSION:
        raise NotBuilt("the compiled kernels were built from another version")
    return library


_INT, _LONG, _FLOAT, _POINTER = ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
_SIGNATURES: tuple[tuple[str, Any, list[Any]], ...] = (
    ("supported", _INT, []),
    ("matmul", _INT, [_INT] + [_POINTER] * 4),
    ("weight_gradient", _INT, [_INT] + [_LONG] * 3 + [_POINTER] * 3),
    ("swiglu", _INT, [_INT, _LONG] + [_POINTER] * 3),
    ("swiglu_backward", _INT, [_INT, _LONG] + [_POINTER] * 5),
    ("attention", _INT, [_INT, _POINTER, _FLOAT] + [_POINTER] * 4),
    ("attention_backward", _INT, [_INT, _POINTER, _FLOAT] + [_POINTER] * 7),
    ("rms_norm", _INT, [_INT, _LONG, _LONG, _FLOAT] + [_POINTER] * 4),
    ("rms_norm_backward", _INT, [_INT, _LONG, _LONG] + [_POINTER] * 6),
    ("rotate", _INT, [_INT] + [_LONG] * 5 + [_POINTER] * 4),
    ("gather_rows", _INT, [_INT] + [_LONG] * 3 + [_POINTER] * 3),
    ("cross_entropy", _INT, [_INT] + [_LONG] * 2 + [_POINTER] * 4),
    ("cross_entropy_backward", _INT, [_INT, _LONG, _LONG, _FLOAT] + [_POINTER] * 3),
    ("sum_of_squares", _INT, [_INT, _LONG] + [_POINTER] * 2),
    ("adamw", _INT, [_INT, _LONG] + [_POINTER] * 5),
    ("orthogonal", _INT, [_INT] + [_LONG] * 3 + [_POINTER] * 3),
    ("add_units", _INT, [_INT, _LONG] + [_POINTER] * 3),
    ("mean_units", _INT, [_INT, _LONG, ctypes.c_double] + [_POINTER] * 2),
)


@dataclass(frozen=True, slots=True)
class Compiled:
    """Functions of ``reference`` under the same names, computed by one instruction set."""

    library: ctypes.CDLL
    isa: str

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute ``reference.matmul`` in C: up to two leading axes, any strides."""
        *leading, rows, depth = a.shape
        *others, same_depth, columns = b.shape
        if leading != others or depth != same_depth or len(leading) > 2:
            raise UsageError(f"no product of {tuple(a.shape)} and {tuple(b.shape)}")
        out = torch.empty(*leading, rows, columns)
        fill = 2 - len(leading)
        numbers = _Sixteen(
            *_ONES[:fill], *leading, rows, columns, depth,
            *_ZEROS[:fill], *a.stride(), *_ZEROS[:fill], *b.stride(),
            *_ZEROS[:fill], *out.stride()[:-1],
        )  # fmt: skip
        self._call("matmul", numbers, _floats(a), _floats(b), out.data_ptr())
        return out

    def weight_gradient(self, grad_NO: Tensor, x_ND: Tensor) -> Tensor:
        """Compute ``reference.weight_gradient`` in C."""
        rows, outputs = grad_NO.shape
        grad_NO, x_ND = grad_NO.contiguous(), of_shape(x_ND, rows, x_ND.shape[1])
        out_OD = torch.empty(outputs, x_ND.shape[1])
        self._call(
            "weight_gradient", rows, *out_OD.shape, _floats(grad_NO), _floats(x_ND),
            out_OD.data_ptr(),
        )  # fmt: skip
        return out_OD

    def swiglu(self, gate_NI: Tensor, up_NI: Tensor) -> Tensor:
        """Compute ``reference.swiglu`` in C."""
        gate_NI, up_NI = same_shape(gate_NI, up_NI)
        out = torch.empty_like(gate_NI)
        self._call("swiglu", out.numel(), _floats(gate_NI), _floats(up_NI), out.data_ptr())
        return out

    def swiglu_backward(
        self, grad_NI: Tensor, gate_NI: Tensor, up_NI: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute ``reference.swiglu_backward`` in C."""
        grad_NI, gate_NI, up_NI = same_shape(grad_NI, gate_NI, up_NI)
        out = torch.empty_like(gate_NI), torch.empty_like(gate_NI)
        self._call(
            "swiglu_backward", grad_NI.numel(), _floats(grad_NI), _floats(gate_NI), _floats(up_NI),
            out[0].data_ptr(), out[1].data_ptr(),
        )  # fmt: skip
        return out

    def attention(self, q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor) -> Tensor:
        """Compute ``reference.attention`` in C."""
        q, k, v = (_rows(x) for x in (q_BTHE, k_BSGE, v_BSGE))
        numbers, scale = _heads(q, k, v)
        out = torch.empty(q.shape)
        self._call("attention", numbers, scale, _floats(q), _floats(k), _floats(v), out.data_ptr())
        return out

    def attention_backward(
        self, grad_BTHE: Tensor, q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute ``reference.attention_backward`` in C."""
        q, k, v = (_rows(x) for x in (q_BTHE, k_BSGE, v_BSGE))
        grad, _ = same_shape(grad_BTHE, q)
        numbers, scale = _heads(q, k, v)
        out = torch.empty(q.shape), torch.empty(k.shape), torch.empty(v.shape)
        self._call(
            "attention_backward", numbers, scale, _floats(grad), _floats(q), _floats(k), _floats(v),
            *(x.data_ptr() for x in out),
        )  # fmt: skip
        return out

    def rms_norm(self, x_ND: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """Compute ``reference.rms_norm`` in C."""
        x_ND, weight_D = x_ND.contiguous(), of_shape(weight_D, x_ND.shape[1])
        out, scale_N = torch.empty_like(x_ND), torch.empty(x_ND.shape[0])
        self._call(
            "rms_norm", *x_ND.shape, eps, _floats(x_ND), _floats(weight_D),
            out.data_ptr(), scale_N.data_ptr(),
        )  # fmt: skip
        return out, scale_N

    def rms_norm_backward(
        self, grad_ND: Tensor, x_ND: Tensor, scale_N: Tensor, weight_D: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute ``reference.rms_norm_backward`` in C."""
        grad_ND, x_ND = same_shape(grad_ND, x_ND)
        scale_N, weight_D = of_shape(scale_N, x_ND.shape[0]), of_shape(weight_D, x_ND.shape[1])
        out = torch.empty_like(x_ND), torch.empty_like(weight_D)
        self._call(
            "rms_norm_backward", *x_ND.shape, _floats(grad_ND), _floats(x_ND), _floats(scale_N),
            _floats(weight_D), out[0].data_ptr(), out[1].data_ptr(),
        )  # fmt: skip
        return out

    def rotate(self, x_BTHE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        """Compute ``reference.rotate`` in C."""
        batch, times, heads, width = x_BTHE.shape
        x_BTHE = _rows(x_BTHE)
        if x_BTHE.stride()[2] != width or x_BTHE.stride()[0] != times * x_BTHE.stride()[1]:
            x_BTHE = x_BTHE.contiguous()
        cos_TE, sin_TE = (of_shape(x, times, width) for x in (cos_TE, sin_TE))
        out = torch.empty(x_BTHE.shape)
        self._call(
            "rotate", batch * times, times, heads, width, x_BTHE.stride()[1],
            _floats(x_BTHE), _floats(cos_TE), _floats(sin_TE), out.data_ptr(),
        )  # fmt: skip
        return out

    def gather_rows(self, grad_ND: Tensor, tokens_N: Tensor, vocabulary: int) -> Tensor:
        """Compute ``reference.gather_rows`` in C."""
        grad_ND, tokens_N = grad_ND.contiguous(), indices(tokens_N, len(grad_ND), vocabulary)
        out = torch.empty(vocabulary, grad_ND.shape[1])
        self._call(
            "gather_rows", *grad_ND.shape, vocabulary, _floats(grad_ND), tokens_N.data_ptr(),
            out.data_ptr(),
        )  # fmt: skip
        return out

    def cross_entropy(self, logits_NV: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ``reference.cross_entropy`` in C."""
        logits_NV = logits_NV.contiguous()
        labels_N = indices(labels_N, *logits_NV.shape)
        loss_N, shares_NV = torch.empty(len(logits_NV)), torch.empty_like(logits_NV)
        self._call(
            "cross_entropy", *logits_NV.shape, _floats(logits_NV), labels_N.data_ptr(),
            loss_N.data_ptr(), shares_NV.data_ptr(),
        )  # fmt: skip
        return loss_N, shares_NV

    def cross_entropy_backward(self, shares_NV: Tensor, labels_N: Tensor, factor: float) -> Tensor:
        """Compute ``reference.cross_entropy_backward`` in C."""
        shares_NV = shares_NV.contiguous()
        labels_N = indices(labels_N, *shares_NV.shape)
        out = torch.empty_like(shares_NV)
        self._call(
            "cross_entropy_backward", *shares_NV.shape, factor, _floats(shares_NV),
            labels_N.data_ptr(), out.data_ptr(),
        )  # fmt: skip
        return out

    def sum_of_squares(self, flat_P: Tensor) -> float:
        """Compute ``reference.sum_of_squares`` in C."""
        total = torch.zeros(1)
        flat_P = flat_P.contiguous()
        if flat_P.numel():
            self._call("sum_of_squares", flat_P.numel(), _floats(flat_P), total.data_ptr())
        return float(total)

    def adamw(
        self, params_P: Tensor, m_P: Tensor, v_P: Tensor, grad_P: Tensor, scalars: tuple[float, ...]
    ) -> None:
        """Compute ``reference.adamw`` in C."""
        count = params_P.numel()
        if not all(x.is_contiguous() and x.numel() == count for x in (params_P, m_P, v_P)):
            raise UsageError("parameters and moments are contiguous and of one size")
        grad_P = of_shape(grad_P, *params_P.shape)
        numbers = (ctypes.c_float * len(scalars))(*scalars)
        self._call(
            "adamw", count, numbers,
            _floats(params_P), _floats(m_P), _floats(v_P), _floats(grad_P),
        )  # fmt: skip

    def orthogonal(self, update_RC: Tensor) -> Tensor:
        """Compute ``reference.orthogonal`` in C."""
        update_RC, out_RC = update_RC.contiguous(), torch.empty(update_RC.shape)
        numbers = (ctypes.c_float * 4)(*NEWTON_SCHULZ, NEWTON_SCHULZ_EPS)
        self._call(
            "orthogonal", *out_RC.shape, NEWTON_SCHULZ_STEPS, numbers,
            _floats(update_RC), out_RC.data_ptr(),
        )  # fmt: skip
        return out_RC

    def add_units(self, sum_P: Tensor, grad_P: Tensor) -> bool:
        """Compute ``reference.add_units`` in C."""
        grad_P, fits = of_shape(grad_P, *sum_P.shape), ctypes.c_int()
        self._call("add_units", grad_P.numel(), _floats(grad_P), _units(sum_P), ctypes.byref(fits))
        return bool(fits)

    def mean_units(self, sum_P: Tensor, count: int) -> Tensor:
        """Compute ``reference.mean_units`` in C."""
        mean_P = torch.empty(sum_P.shape)
        self._call("mean_units", mean_P.numel(), count, _units(sum_P), mean_P.data_ptr())
        return mean_P

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self.library, "repops_" + name)(ISAS.index(self.isa), *arguments)
        if status == _NO_MEMORY:
            raise MemoryError(f"no memory for the kernel {name}")
        assert status == 0, f"kernel {name} answered {status}"


def _floats(x: Tensor) -> int:
    """Return the address of the values; raise ``UsageError`` for anything but float32 on the CPU."""
    if x.dtype is not torch.float32 or x.device.type != "cpu":
        raise UsageError(f"kernels take float32 on the CPU, not {x.dtype} on {x.device}")
    return x.data_ptr()


def _units(x: Tensor) -> int:
    """Return the address of the values; raise ``UsageError`` for anything but contiguous int64 on the CPU."""
    if x.dtype is not torch.int64 or x.device.type != "cpu" or not x.is_contiguous():
        raise UsageError(f"units are contiguous int64 on the CPU, not {x.dtype} on {x.device}")
    return x.data_ptr()


def same_shape(*tensors: Tensor) -> list[Tensor]:
    """Return the tensors, contiguous; raise ``UsageError`` unless their shapes are the same."""
    if any(x.shape != tensors[0].shape for x in tensors):
        raise UsageError(f"of different shapes: {[tuple(x.shape) for x in tensors]}")
    return [x.contiguous() for x in tensors]


def of_shape(x: Tensor, *shape: int) -> Tensor:
    """Return the tensor, contiguous; raise ``UsageError`` if it has another shape."""
    if x.shape != shape:
        raise UsageError(f"a tensor of shape {tuple(x.shape)} where {shape} belongs")
    return x.contiguous()


def indices(x_N: Tensor, count: int, limit: int) -> Tensor:
    """Return the checked indices, contiguous: the kernels follow an index wherever it points."""
    if x_N.dtype is not torch.int64 or x_N.shape != (count,):
        raise UsageError(f"{count} indices are one int64 vector")
    if count and not 0 <= int(x_N.min()) <= int(x_N.max()) < limit:
        raise UsageError(f"an index outside [0, {limit})")
    return x_N.contiguous()


def _rows(x: Tensor) -> Tensor:
    """Return the tensor with its features side by side; the other axes may have any stride."""
    return x if x.stride(-1) == 1 else x.contiguous()


def check_heads(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raise ``UsageError`` unless queries BTHE can attend to keys and values BSGE."""
    batch, times, heads, width = q.shape
    keys, groups = k.shape[1:3]
    fits = k.shape == v.shape == (batch, keys, groups, width) and heads % groups == 0
    if not fits or times > keys:
        raise UsageError(f"no attention of {tuple(q.shape)} to {tuple(k.shape)}, {tuple(v.shape)}")


def _heads(q: Tensor, k: Tensor, v: Tensor) -> tuple[object, float]:
    check_heads(q, k, v)
    batch, times, heads, width = q.shape
    keys, groups = k.shape[1:3]
    strides = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3])
    return _Fifteen(batch, times, keys, heads, groups, width, *strides), 1.0 / sqrt(width)
