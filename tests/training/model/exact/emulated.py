"""``kernels.cu`` without a GPU: its text, compiled for the CPU by the C++ compiler of this machine.

What this shows is that the text and the code around it compute the reference's bits, tile by tile and thread by
thread. It cannot show what a GPU's own arithmetic, compiler and driver do.
"""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from swarm.training.model.exact.cuda import THREADS, source
from swarm.training.model.exact.device import DeviceKernels

HEADER = Path(__file__).with_name("emulator.h")
NAMES = tuple(re.findall(r"__global__ void __launch_bounds__\([^)]*\)\s+(\w+)\(", source()))
FLAGS = ["-std=c++17", "-O2", "-ffp-contract=off", "-fno-fast-math", "-Wno-unknown-pragmas"]


class Emulated:
    """A launcher that runs blocks and threads in turns, on tensors of the CPU."""

    device = torch.device("cpu")
    name = "emulated"

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.launches = list[tuple[str, tuple[int, int, int]]]()

    def take_turns(self, *, backwards: bool) -> None:
        """Let the last thread of each block come first, or the first."""
        ctypes.c_int.in_dll(self._library, "backwards").value = backwards

    def launch(self, kernel: str, grid: tuple[int, int, int], arguments: Sequence[Any]) -> None:
        self.launches.append((kernel, grid))
        held = list(arguments)
        pointers = (ctypes.c_void_p * len(held))(
            *(ctypes.cast(ctypes.byref(value), ctypes.c_void_p) for value in held)
        )
        getattr(self._library, f"launch_{kernel}")(*grid, THREADS, pointers)


@cache
def library() -> ctypes.CDLL:
    """Compile the kernels once; skip the test, with the reason, where there is no compiler."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here: kernels.cu cannot be compiled for the CPU")
    with TemporaryDirectory() as folder:
        text, built = Path(folder) / "emulated.cpp", Path(folder) / "emulated.so"
        wrappers = "\n".join(f"KERNEL({name})" for name in NAMES)
        text.write_text(f'#include "{HEADER}"\n{source()}\n{wrappers}\n', encoding="utf-8")
        command = [compiler, *FLAGS, "-shared", "-fPIC", str(text), "-o", str(built)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return ctypes.CDLL(str(built))


def emulated_kernels() -> DeviceKernels:
    return DeviceKernels(Emulated(library()))
