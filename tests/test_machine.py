"""The machine is read below any root, and limits that the kernel really sets are seen."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swarm.config.resources import packaged_file
from swarm.limits import Bound
from swarm.machine import (
    OPEN_FILES,
    free_bytes,
    open_files,
    open_files_text,
    read_cores,
    read_memory,
    resident_bytes,
    scratch_folders,
)

GIB = 1 << 30
PATIENCE_S = 60.0


def fake_root(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return root


LARGER = {
    "hidden_size = 96": "hidden_size = 640",
    "num_layers = 2": "num_layers = 8",
    "num_heads = 3": "num_heads = 5",
    "num_kv_heads = 3": "num_kv_heads = 5",
    "intermediate_size = 256": "intermediate_size = 1_680",
    '"seq-f32/1"': '"native-bf16"',
    "num_stages = 2": "num_stages = 1",
}
SECOND = {
    "proc/meminfo": "MemTotal:       8388608 kB\n",
    "proc/self/status": "VmSize: 2000000 kB\nVmRSS:   102400 kB\nVmData: 500000 kB\n",
    "proc/self/cgroup": "0::/box/inner\n",
    "proc/self/mountinfo": "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "sys/fs/cgroup/box/memory.max": f"{GIB}\n",
    "sys/fs/cgroup/box/memory.current": f"{GIB // 2}\n",
    "sys/fs/cgroup/box/memory.stat": f"inactive_file {GIB // 4}\n",
    "sys/fs/cgroup/box/inner/memory.max": "max\n",
    "sys/fs/cgroup/box/inner/cpu.max": "50000 100000\n",
}
FIRST = {
    "proc/meminfo": "MemTotal:       8388608 kB\n",
    "proc/self/status": "VmRSS:   102400 kB\n",
    "proc/self/cgroup": "4:memory:/docker/12\n1:cpu,cpuacct:/docker/12\n",
    "proc/self/mountinfo": (
        "35 31 0:32 /docker/12 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "36 31 0:33 /docker/12 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n"
    ),
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "104857600\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.rule("N25")
def test_the_limit_of_a_container_is_read_in_both_versions(tmp_path: Path) -> None:
    second = read_memory(fake_root(tmp_path / "second", SECOND))
    assert second.bound is Bound.GROUP
    assert second.folder == "/sys/fs/cgroup/box"
    assert second.num_bytes == GIB - (GIB // 4 - 102400 * 1024)
    first = read_memory(fake_root(tmp_path / "first", FIRST))
    assert (first.num_bytes, first.folder) == (GIB, "/sys/fs/cgroup/memory")
    for name in ("first", "second"):
        assert read_cores(tmp_path / name) == 0.5


@pytest.mark.rule("N25")
def test_a_root_without_any_of_these_files_has_the_machine_that_the_system_says(
    tmp_path: Path,
) -> None:
    assert read_memory(tmp_path).num_bytes > 0
    assert read_cores(tmp_path) >= 1
    assert resident_bytes(tmp_path) > 1 << 20


@pytest.mark.rule("N25")
def test_this_machine_has_memory_and_room() -> None:
    assert read_memory().num_bytes > 0
    assert 0 < read_cores() <= (os.cpu_count() or 1)
    assert 1 << 20 < resident_bytes() < 1 << 45
    assert free_bytes(Path("/none/such/folder")) == free_bytes(Path("/"))
    assert all(folder.is_dir() for folder in scratch_folders())


def in_shell(limits: str, program: str) -> str:
    """Run a program of Python under limits of the shell; return what it printed."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'{limits} && exec "$0" -c "$1"', sys.executable, program],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.rule("N25")
@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not enforce these limits")
def test_limits_that_a_shell_sets_are_seen() -> None:
    program = (
        "from swarm.machine import read_memory; m = read_memory(); print(m.num_bytes, m.bound)"
    )
    number, _, bound = in_shell("ulimit -v 1000000", program).partition(" ")
    assert bound == "address space"
    assert 10**8 < int(number) < 1_000_000 * 1024
    assert in_shell("ulimit -d 900000", program).endswith(" data")


@pytest.mark.rule("N25")
def test_open_files_are_raised_to_what_a_node_needs_or_there_is_a_warning() -> None:
    program = (
        "from swarm.machine import raise_open_files, open_files; w = raise_open_files(400);"
        " print(open_files()[0], w)"
    )
    if open_files()[1] >= 400:
        assert in_shell("ulimit -S -n 100", program) == "400"
    low = in_shell("ulimit -n 100", program)
    assert low.startswith(
        "100 this process may open 100 files, and a node needs up to 400: it will"
    )
    assert "ulimit -n 400" in low
    assert open_files_text(OPEN_FILES) == ""
    assert "it will refuse some" in open_files_text(1024)


@pytest.mark.rule("N25")
def test_without_a_folder_for_temporary_files_there_is_a_sentence() -> None:
    program = (
        "import tempfile; from swarm.machine import make_scratch, scratch_folders, IN_MEMORY;"
        "from swarm.errors import UsageError\n"
        "tempfile._candidate_tempdir_list = lambda: ['/none/such']\n"
        "assert set(scratch_folders()) <= {IN_MEMORY}\n"
        "try: make_scratch('a')\n"
        "except UsageError as error: print(error.hint)"
    )
    assert in_shell("true", program).startswith("TMPDIR=FOLDER before the command")


@pytest.mark.rule("N25")
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="only root may mount other limits over /sys/fs/cgroup, for one process",
)
def test_a_launch_of_39_million_parameters_in_a_container_of_one_gibibyte_is_refused(
    tmp_path: Path,
) -> None:
    """The whole program, which sees a memory limit of 1 GiB in the place where a container has it."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody have mounts of its own")
    folder = tmp_path / "group"
    mounts = f"29 23 0:26 / {folder} rw - cgroup2 cgroup2 rw\n"
    files = {"cgroup": "0::/\n", "mountinfo": mounts, "group/memory.max": f"{GIB}\n"}
    fake_root(tmp_path, files)
    run = tmp_path / "run.toml"
    text = packaged_file("demo.toml").replace("12_000_000", "4_000_000")
    for before, after in LARGER.items():
        assert before in text
        text = text.replace(before, after)
    run.write_text(text, encoding="utf-8")
    script = (
        'mount --bind "$0/cgroup" /proc/$$/cgroup && mount --bind "$0/mountinfo" /proc/$$/mountinfo'
        ' && exec "$@"'
    )
    home = tmp_path / "home"
    command = [sys.executable, "-m", "swarm.cli.main", "launch", str(run), "--home", str(home)]
    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-c", script, str(tmp_path), *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert f"39M parameters), and its control group leaves it 1.1 GB ({folder})" in done.stderr
    assert "M parameters fit" in done.stderr
    assert "try: give the container more" in done.stderr
