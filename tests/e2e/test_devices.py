"""A node whose seats are split over processes trains, loses one of them, and goes on with the others.

Two processes on the CPU stand for two GPUs: everything but the device and nccl is what a node with GPUs runs.
"""

import os
import signal
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]
import pytest

from tests.e2e.localnet import Localnet, Node, last_commit

pytestmark = pytest.mark.e2e

NODE_FILE = """
[compute]
device = ["cpu", "cpu"]
"""
SEATS = 2
"""A lone launcher sits in both stages of its run, and each seat has a process per device."""
ROUND_BLOCKS = 12
"""Rounds of 6 s: a seat that opens more than two rounds late begins again, and on a busy machine four processes
load torch for three rounds of the other tests."""


@pytest.fixture
def node(net: Localnet) -> Iterator[Node]:
    """A launch of its own, whose node file names two devices."""
    home = net.folder / "split"
    home.mkdir()
    (home / "node.toml").write_text(NODE_FILE)
    found = net.start("split", "launch", str(net.run_file(round_blocks=ROUND_BLOCKS)))
    yield found
    found.kill()


def processes(node: Node) -> list[psutil.Process]:
    return list(psutil.Process(node.process.pid).children())


def test_a_node_trains_on_two_processes_and_survives_one(node: Node) -> None:
    node.wait("a second segment on the ledger", lambda s: last_commit(s) >= 1 and s)
    first = processes(node)
    assert len(first) == 2 * SEATS
    state = node.wait("the device", lambda s: s["node"]["device"] and s)
    assert state["node"]["device"] == "cpu + cpu, 1 thread"

    os.kill(first[0].pid, signal.SIGKILL)
    node.wait_event("warning", "device cpu is lost, going on with cpu")
    now = last_commit(state)
    node.wait("segments after the loss", lambda s: last_commit(s) >= now + 3 and s)
    assert len(processes(node)) == 2 * SEATS - 1

    last = processes(node)
    code, _ = node.stop()
    assert code == 130  # Ctrl-C
    _, alive = psutil.wait_procs(last, timeout=10)
    assert not alive


def test_a_device_that_is_not_there_is_refused_by_name(net: Localnet) -> None:
    home = net.folder / "absent"
    home.mkdir()
    (home / "node.toml").write_text('[compute]\ndevice = "cuda:99"\n')
    done = net.swarm("launch", str(net.run_file()), home=home)
    assert done.returncode == 4
    assert "no cuda:99; present: cpu" in done.stderr
    assert not (home / "genesis.bin").exists()
