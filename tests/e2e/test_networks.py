"""Machines of one network find each other without a ticket, on IPv4 and where there is IPv6 alone.

Each machine is a network namespace of its own; two are joined by a cable. That takes the rights of root.
"""

import os
import shutil
import subprocess
from collections.abc import Generator, Sequence
from contextlib import suppress

import pytest

from tests.e2e.localnet import SWARM, Localnet, Node

pytestmark = pytest.mark.e2e

EVERYWHERE: Sequence[str] = ()
"""The addresses of the node file, which are those that a person begins with."""
CABLES = {
    "IPv4": ["addr add 10.77.0.{}/24 dev cable", "route add 224.0.0.0/4 dev cable"],
    "IPv6 alone": ["-6 addr add fd00:77::{}/64 dev cable nodad"],
}


def ip(*words: str) -> None:
    """Run the command of iproute2."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(params=CABLES)
def machines(request: pytest.FixtureRequest) -> Generator[tuple[str, str]]:
    """The names of two namespaces with a cable between them."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("it takes root and iproute2 to make two machines of one")
    names = f"swarm-{os.getpid()}-a", f"swarm-{os.getpid()}-b"
    made = list[str]()
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                made.append(name)
            ends = ("cable", "netns", names[0], "type", "veth", "peer", "name", "cable")
            ip("link", "add", *ends, "netns", names[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no namespace can be made here: {error.stderr.decode()[:200]}")
        for number, name in enumerate(names, start=1):
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
            for line in CABLES[request.param]:
                words = line.format(number).split()
                options = ["-6"] * (words[0] == "-6")
                ip(*options, "-n", name, *words[len(options) :])
        yield names
    finally:
        for name in made:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)


def on(machine: str) -> Sequence[str]:
    """The program on one of them."""
    return ["ip", "netns", "exec", machine, *SWARM]


@pytest.mark.rule("N26", "H23", "H24")
def test_a_bare_join_finds_the_run_of_its_network_and_both_are_reached(
    net: Localnet, machines: tuple[str, str], request: pytest.FixtureRequest
) -> None:
    first, second = (f"{name}-{request.node.callspec.id[:4]}" for name in ("first", "second"))
    file = str(net.run_file())
    launcher = net.start(first, "launch", file, program=on(machines[0]), listen=EVERYWHERE)
    launcher.wait_event("run_joined")
    joiner = net.start(second, "join", program=on(machines[1]), listen=EVERYWHERE)
    joiner.wait_event("seat_taken")
    assert "found     on this network" in joiner.log.read_text("utf-8")
    for node in (launcher, joiner):
        node.wait_event("network", "machines of its own network can reach this node")
    for node in (joiner, launcher):
        stopped(node)


def stopped(node: Node) -> None:
    """It ends as asked."""
    code, _ = node.stop()
    assert code == 130
