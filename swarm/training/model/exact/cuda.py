"""Compile the kernels of ``seq-f32/1`` for a CUDA device of this machine, and launch them.

Core: loading a library is to this module what loading torch's is to the others, as in ``native``: a device
computes what ``kernels.cu`` says, or ``open_device`` raises.

The text is compiled by NVRTC, which every torch for CUDA brings along: neither nvcc nor a C++ compiler is
needed. Both libraries are opened by name and called with pointers; only functions that CUDA 11 has are used.
Nothing here has run on a GPU yet: see docs/spec/verification.md section 1a.
"""

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from swarm.training.model.exact.native import NotBuilt

SOURCE = __file__.rpartition("cuda")[0] + "kernels.cu"
THREADS = 256
"""Threads of every block, as in kernels.cu."""
FLAGS = ("--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")
"""Flags of the compiler, each of which the bits depend on but for the first: no contraction, no flushing to
zero, division and square root rounded correctly."""
NO_DEVICE = "no CUDA device"
_LOG_CHARS = 300
_Three = tuple[int, int, int]


def why_none(device: str) -> str:
    """Return why torch cannot use a CUDA device here, or ""."""
    if torch.version.cuda is None:
        return f"{NO_DEVICE}: this torch was built without CUDA"
    if not torch.cuda.is_available():
        return f"{NO_DEVICE}: torch finds no driver, or no GPU"
    index, count = torch.device(device).index or 0, torch.cuda.device_count()
    return "" if index < count else f"no {device}: torch finds {count}"


@dataclass(frozen=True, slots=True, eq=False)
class CudaLauncher:
    """The compiled kernels on one device."""

    device: torch.device
    name: str
    """Name of the device, for people."""
    driver: ctypes.CDLL
    context: ctypes.c_void_p
    module: ctypes.c_void_p
    functions: dict[str, ctypes.c_void_p] = field(default_factory=dict[str, ctypes.c_void_p])

    def launch(self, kernel: str, grid: _Three, arguments: Iterable[Any]) -> None:
        """Start a kernel in torch's current stream; ``arguments`` are of ctypes, in the kernel's order.

        Raises ``RuntimeError``, as torch does, when the device fails.
        """
        held = list(arguments)
        pointers = (ctypes.c_void_p * len(held))(
            *(ctypes.cast(ctypes.byref(value), ctypes.c_void_p) for value in held)
        )
        # A thread that has called nothing of CUDA has no context yet: autograd's, or a worker's.
        self._call("cuCtxSetCurrent", self.context)
        stream = ctypes.c_void_p(torch.cuda.current_stream(self.device).cuda_stream)
        block, shared_bytes, extra = (THREADS, 1, 1), 0, None
        self._call(
            "cuLaunchKernel", self._function(kernel), *grid, *block, shared_bytes, stream, pointers,
            extra,
        )  # fmt: skip

    def _function(self, kernel: str) -> ctypes.c_void_p:
        if kernel not in self.functions:
            found = ctypes.c_void_p()
            self._call("cuModuleGetFunction", ctypes.byref(found), self.module, kernel.encode())
            self.functions[kernel] = found
        return self.functions[kernel]

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self.driver, function)(*arguments)
        if status:
            raise RuntimeError(f"{self.device}: {function} answered {status}")


def open_device(device: str) -> CudaLauncher:
    """Compile the kernels for a device, in some seconds; raise ``NotBuilt`` with the reason if that fails."""
    if reason := why_none(device):
        raise NotBuilt(reason)
    index = torch.device(device).index or 0
    major, minor = torch.cuda.get_device_capability(index)
    driver = first_library(("libcuda.so.1",), "the driver of CUDA")
    cubin = compiled(nvrtc(), source(), f"sm_{major}{minor}")
    number, context, module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
    for status in (
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(number), index),
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), number),
        driver.cuCtxSetCurrent(context),
        driver.cuModuleLoadData(ctypes.byref(module), cubin),
    ):
        if status:
            raise NotBuilt(f"the kernels cannot be loaded on {device}: CUDA answered {status}")
    name = torch.cuda.get_device_name(index)
    return CudaLauncher(torch.device("cuda", index), name, driver, context, module)


def source() -> str:
    """Return the text of the kernels; raise ``NotBuilt`` if it is not there."""
    try:
        with open(SOURCE, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise NotBuilt(f"the text of the CUDA kernels cannot be read: {error}") from None


def nvrtc() -> ctypes.CDLL:
    """Return the compiler that belongs to torch's CUDA; raise ``NotBuilt`` if it is nowhere."""
    major = str(torch.version.cuda).partition(".")[0]
    file = f"libnvrtc.so.{major}"
    packages = str(torch.__file__).rpartition("/torch/")[0]
    folders = ("", f"{packages}/nvidia/cuda_nvrtc/lib/", f"{packages}/nvidia/cu{major}/lib/")
    return first_library((folder + file for folder in folders), "NVRTC, the compiler of CUDA,")


def first_library(paths: Iterable[str], what: str) -> ctypes.CDLL:
    """Return the first library that can be opened; raise ``NotBuilt`` if none can."""
    reason = ""
    for path in paths:
        try:
            return ctypes.CDLL(path)
        except OSError as error:
            reason = reason or str(error)
    raise NotBuilt(f"{what} is missing: {reason}")


def compiled(library: ctypes.CDLL, text: str, architecture: str) -> bytes:
    """Return the machine code of ``text`` for an architecture such as ``sm_90``; raises ``NotBuilt``."""
    flags = [f"--gpu-architecture={architecture}".encode(), *(flag.encode() for flag in FLAGS)]
    program = ctypes.c_void_p()
    created = library.nvrtcCreateProgram(
        ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None
    )
    if created:
        raise NotBuilt(f"NVRTC answered {created}")
    try:
        array = (ctypes.c_char_p * len(flags))(*flags)
        if library.nvrtcCompileProgram(program, len(flags), array):
            log = _answer(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program)
            told = " ".join(log.rstrip(b"\0").decode(errors="replace").split())[:_LOG_CHARS]
            raise NotBuilt(f"NVRTC cannot compile the kernels for {architecture}: {told}")
        return _answer(library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN, program)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _answer(
    size_of: Callable[..., int], bytes_of: Callable[..., int], program: ctypes.c_void_p
) -> bytes:
    size = ctypes.c_size_t()
    if size_of(program, ctypes.byref(size)):
        return b""
    buffer = ctypes.create_string_buffer(size.value)
    bytes_of(program, buffer)
    return buffer.raw
