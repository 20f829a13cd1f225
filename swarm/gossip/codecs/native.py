"""Quantize blockwise in the optional C extension: the same bits as ``gossip/codecs/int8.py``, but faster.

Core: the same function of its arguments as the tensor operations it replaces. Loading the library is like
loading torch's: its presence changes how long an answer takes, never the answer.

The extension (levels.c) is optional and is not a Python module: it is opened by its path and given pointers, so
calls release the interpreter's lock. Legend: N values, B blocks of 128.
"""

import ctypes
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from swarm.errors import BadEncoding

VERSION = 1
"""Version of the signatures in levels.c; a library of another version was built from another source."""
ISAS = ("portable", "avx2", "avx512")
"""Instruction sets in the order of levels.c."""
BLOCK = 128
_PATH = __file__.rpartition("native")[0] + "_levels.abi3.so"
_TOO_LOW, _NOT_FINITE = 1, 2
_INT, _LONG, _POINTER = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p


@dataclass(frozen=True, slots=True)
class Levels:
    """Quantization kernels of one instruction set."""

    library: ctypes.CDLL
    isa: int

    def encode(
        self,
        theta_N: Tensor,
        anchor_N: Tensor,
        most: int,
        peaks_B: npt.NDArray[np.float16],
        levels_N: npt.NDArray[np.int8],
        *,
        residual_N: Tensor | None = None,
        left_N: Tensor | None = None,
    ) -> None:
        """Write the peaks and levels of float32 ``(theta - anchor) + residual``, and the error they leave."""
        numel = len(theta_N)
        theta_N, anchor_N = _floats(theta_N, numel), _floats(anchor_N, numel)
        more = None if residual_N is None else _floats(residual_N, numel)
        assert len(levels_N) == numel, "a level for each value"
        assert len(peaks_B) == -(-numel // BLOCK), "a peak for each block"
        assert left_N is None or _floats(left_N, numel) is left_N, "room for what is left"
        status = self.library.levels_encode(
            self.isa,
            numel,
            most,
            theta_N.data_ptr(),
            anchor_N.data_ptr(),
            None if more is None else more.data_ptr(),
            peaks_B.ctypes.data,
            levels_N.ctypes.data,
            None if left_N is None else left_N.data_ptr(),
        )
        assert status == 0, "an instruction set that was asked for"

    def decode(
        self,
        step_B: Tensor,
        levels_N: npt.NDArray[np.int8],
        most: int,
        anchor_N: Tensor,
        theta_N: Tensor,
    ) -> None:
        """Write ``anchor + level * step``; raises ``BadEncoding`` for an invalid level or value."""
        numel = len(levels_N)
        anchor_N, step_B = _floats(anchor_N, numel), _floats(step_B, -(-numel // BLOCK))
        assert _floats(theta_N, numel) is theta_N, "room for the values"
        found = self.library.levels_decode(
            self.isa,
            numel,
            most,
            step_B.data_ptr(),
            levels_N.ctypes.data,
            anchor_N.data_ptr(),
            theta_N.data_ptr(),
        )
        assert found >= 0, "an instruction set that was asked for"
        if found & _TOO_LOW:
            raise BadEncoding(f"a level below {-most}, which no encoder writes")
        if found & _NOT_FINITE:
            raise BadEncoding("a tensor that is not finite")


@lru_cache(maxsize=8)
def load(isa: str | None = None, path: str = "") -> Levels | None:
    """Return the kernels of an instruction set, by default the best of this CPU; None if unavailable."""
    library = _open(path or _PATH)
    if library is None:
        return None
    supported = [number for number in range(len(ISAS)) if library.levels_supported() >> number & 1]
    number = supported[-1] if isa is None else ISAS.index(isa)
    return Levels(library, number) if number in supported else None


def _open(path: str) -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(path)
        if library.levels_version() != VERSION:
            return None
        library.levels_encode.argtypes = [_INT, _LONG, _INT, *[_POINTER] * 6]
        library.levels_decode.argtypes = [_INT, _LONG, _INT, *[_POINTER] * 4]
    except (OSError, AttributeError):
        return None
    return library


def _floats(x_N: Tensor, numel: int) -> Tensor:
    """Return flat float32 values in memory as a contiguous tensor of ``numel`` values."""
    assert x_N.dtype is torch.float32, "kernels take float32"
    assert x_N.device.type == "cpu", "kernels take what lies in memory"
    assert x_N.shape == (numel,), "flat, and as long as the others"
    return x_N.contiguous()
