"""A node in a container of 1 GiB refuses a run that does not fit, with what fits, and is never killed for it.

The container is a real control group with a limit of memory, of version 1 or 2, that the test makes for itself.
"""

import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.localnet import SWARM, Localnet, environment

pytestmark = pytest.mark.e2e

ROOT = Path("/sys/fs/cgroup")
LIMIT_BYTES = 1 << 30
LARGE = """
[run]
name = "large"
numerics = "native"
[model]
hidden_size = 512
num_layers = 12
num_heads = 8
num_kv_heads = 8
intermediate_size = 1376
seq_len = 256
[training]
num_stages = 1
replicas_max = 8
microbatch_size = 4
microbatches_per_step = 4
[data]
source = ["corpus"]
max_bytes = 1_000_000
heldout_every = 3
"""
"""About 39M parameters."""
JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


@pytest.fixture
def container() -> Generator[Path]:
    """The folder of a control group with a limit of memory."""
    is_second = (ROOT / "cgroup.controllers").is_file()
    folder = (ROOT if is_second else ROOT / "memory") / f"swarm-test-{os.getpid()}"
    limit = folder / ("memory.max" if is_second else "memory.limit_in_bytes")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        limit.write_text(str(LIMIT_BYTES), encoding="ascii")
    except OSError as error:
        folder.rmdir()
        pytest.skip(f"control groups do not limit memory here: {error}")
    yield folder
    folder.rmdir()


def within(container: Path) -> tuple[str, ...]:
    """The program, started inside of a container."""
    return ("sh", "-c", JOIN, str(container), *SWARM)


@pytest.mark.rule("N13", "N25")
def test_a_run_that_does_not_fit_is_refused_with_what_fits_and_nothing_is_killed(
    net: Localnet, container: Path
) -> None:
    file = net.folder / "large.toml"
    file.write_text(LARGE, encoding="utf-8")
    done = subprocess.run(
        [*within(container), "launch", str(file), "--home", str(net.folder / "home"), "--plain"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "its control group leaves it 1.1 GB" in done.stderr
    assert str(container) in done.stderr
    assert "M parameters fit" in done.stderr


def test_a_small_run_trains_in_it(net: Localnet, container: Path) -> None:
    node = net.start("small", "launch", str(net.run_file()), program=within(container))
    node.wait("two rounds", lambda state: state["run"] and state["run"]["round"] >= 2)
    assert node.state() is not None
    code, _ = node.stop()
    assert code == 130
