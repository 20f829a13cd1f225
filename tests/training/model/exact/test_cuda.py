"""The door to a GPU: how kernels are compiled, what is said where there is none, the bits where one is."""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from swarm.training.model.exact import cuda, selftest
from swarm.training.model.exact.cuda import (
    FLAGS,
    compiled,
    first_library,
    open_device,
    source,
    why_none,
)
from swarm.training.model.exact.native import NotBuilt

ARCHITECTURES = ("sm_75", "sm_90")


def machine_code(architecture: str, folder: Path) -> str:
    """The kernels in NVIDIA's assembly, by nvcc: no GPU is needed for that."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc here: what its compiler makes of kernels.cu cannot be read")
    out = folder / "kernels.ptx"
    command = [
        nvcc,
        *FLAGS,
        f"--gpu-architecture={architecture}",
        "-ptx",
        cuda.SOURCE,
        "-o",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out.read_text("utf-8")


@pytest.mark.rule("T1b")
def test_a_gpu_gives_every_bit() -> None:
    """The only test that needs a device: all others say what can be said without one."""
    if reason := why_none("cuda:0"):
        pytest.skip(f"the CUDA kernels did not run: {reason}")
    kernels = selftest.device_kernels("cuda:0")
    assert kernels.launcher.device == torch.device("cuda", 0)
    assert selftest.is_exact_device("cuda:0")


@pytest.mark.rule("T1a")
def test_the_compiler_may_not_touch_a_bit() -> None:
    assert {"--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"} <= set(FLAGS)
    assert not [flag for flag in FLAGS if "fast" in flag]
    text = re.sub(r"/\*.*?\*/", "", source(), flags=re.DOTALL)
    assert not re.search(r"#include|#pragma (?!unroll)|atomic|mma|__f(?!loat_as_int)", text)


@pytest.mark.rule("T1a")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_product_is_the_only_thing_that_is_fused(architecture: str, tmp_path: Path) -> None:
    """What nvcc makes of it: no flushing, nothing approximate, fma in the product and nowhere else."""
    text = machine_code(architecture, tmp_path)
    bodies = dict(re.findall(r"\.entry (\w+)\((.*?)\n}", text, re.DOTALL))
    assert "tree_rows" in bodies
    for name, body in bodies.items():
        assert not re.search(r"\.ftz|\.approx|\.full|\.sat", body), name
        assert ("fma." in body) == (name == "product"), name
    assert set(re.findall(r"fma\.\S+", bodies["product"])) == {"fma.rn.f32"}


def test_without_a_device_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert why_none("cuda:0") == "no CUDA device: this torch was built without CUDA"
    with pytest.raises(NotBuilt, match="built without CUDA"):
        open_device("cuda:0")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no driver, or no GPU" in why_none("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert why_none("cuda:1") == "no cuda:1: torch finds 1"
    assert not why_none("cuda:0")


def test_a_missing_library_is_named() -> None:
    with pytest.raises(NotBuilt, match=r"NVRTC is missing: .*libnowhere"):
        first_library(("libnowhere.so.1", "/nowhere/libnowhere.so.1"), "NVRTC")


def test_a_missing_text_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "SOURCE", "/nowhere/kernels.cu")
    with pytest.raises(NotBuilt, match=r"/nowhere/kernels\.cu"):
        source()


class FakeCompiler:
    """NVRTC as its manual has it: programs by handle, sizes before bytes, 0 for success."""

    def __init__(self, answer: bytes, log: bytes = b"", *, fails: bool = False) -> None:
        self.flags = list[str]()
        self.open_programs = 0
        self.nvrtcCreateProgram = self.create
        self.nvrtcCompileProgram = partial(self.compile, fails)
        self.nvrtcGetProgramLogSize, self.nvrtcGetProgramLog = size_of(log), bytes_of(log)
        self.nvrtcGetCUBINSize, self.nvrtcGetCUBIN = size_of(answer), bytes_of(answer)
        self.nvrtcDestroyProgram = self.destroy

    def create(self, _program: object, text: bytes, *_: object) -> int:
        assert b"product(" in text
        self.open_programs += 1
        return 0

    def compile(
        self, fails: bool, _program: object, count: int, flags: "ctypes.Array[ctypes.c_char_p]"
    ) -> int:
        self.flags = [str(flags[i], "ascii") for i in range(count)]  # type: ignore[arg-type]
        return 6 if fails else 0

    def destroy(self, _program: object) -> int:
        self.open_programs -= 1
        return 0


def size_of(answer: bytes) -> Callable[..., int]:
    def function(_program: object, size: SimpleNamespace) -> int:
        size._obj.value = len(answer)
        return 0

    return function


def bytes_of(answer: bytes) -> Callable[..., int]:
    def function(_program: object, buffer: "ctypes.Array[ctypes.c_char]") -> int:
        buffer.raw = answer
        return 0

    return function


def test_the_compiler_gets_every_flag_and_gives_machine_code() -> None:
    fake = FakeCompiler(b"\x7fELF\0and more")
    assert compiled(fake, source(), "sm_90") == b"\x7fELF\0and more"  # type: ignore[arg-type]
    assert fake.flags == ["--gpu-architecture=sm_90", *FLAGS]
    assert fake.open_programs == 0


def test_a_compiler_that_fails_is_quoted() -> None:
    fake = FakeCompiler(b"", b"kernels.cu(3): error:\n  no such thing\0", fails=True)
    with pytest.raises(NotBuilt, match=r"for sm_20: kernels.cu\(3\): error: no such thing"):
        compiled(fake, source(), "sm_20")  # type: ignore[arg-type]
    assert fake.open_programs == 0


def test_a_launch_goes_to_the_current_stream_with_the_arguments_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = list[tuple[object, ...]]()

    def launched(_function: object, *rest: object) -> int:
        *shape, stream, pointers, extra = rest
        assert isinstance(stream, ctypes.c_void_p)
        assert isinstance(pointers, ctypes.Array)
        values = [ctypes.cast(pointers[i], ctypes.POINTER(ctypes.c_longlong))[0] for i in range(2)]
        calls.append((tuple(shape), stream.value, values, extra))
        return 0

    driver = SimpleNamespace(
        cuCtxSetCurrent=lambda _: 0,
        cuModuleGetFunction=lambda *_: 0,
        cuLaunchKernel=launched,
    )
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=77))
    device, handle = torch.device("cuda", 0), ctypes.c_void_p(1)
    launcher = cuda.CudaLauncher(device, "fake", driver, handle, handle)  # type: ignore[arg-type]
    launcher.launch("product", (5, 6, 7), [ctypes.c_longlong(8), ctypes.c_longlong(9)])
    assert calls == [((5, 6, 7, cuda.THREADS, 1, 1, 0), 77, [8, 9], None)]
    driver.cuCtxSetCurrent = lambda _: 201
    with pytest.raises(RuntimeError, match="cuda:0: cuCtxSetCurrent answered 201"):
        launcher.launch("product", (1, 1, 1), [])
