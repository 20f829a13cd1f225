"""Machines of one network find each other without a ticket, on IPv4 and where there is IPv6 alone.

Each machine is a network namespace of its own (``machines``); two are joined by a cable.
"""

import json
import subprocess
import sys
import time
from collections.abc import Generator, Sequence

import pytest

from tests.e2e.localnet import Localnet, Node, environment
from tests.e2e.machines import cable, ip, machines, on

pytestmark = pytest.mark.e2e

EVERYWHERE: Sequence[str] = ()
"""The addresses of the node file, which are those that a person begins with."""
CABLES = {
    "IPv4": ["addr add 10.77.0.{}/24 dev cable", "route add 224.0.0.0/4 dev cable"],
    "IPv6 alone": ["-6 addr add fd00:77::{}/64 dev cable nodad"],
}


@pytest.fixture(params=CABLES)
def neighbours(request: pytest.FixtureRequest) -> Generator[tuple[str, ...]]:
    """The names of two machines with a cable between them."""
    with machines("a", "b") as names:
        cable(*names, "cable", "cable")
        for number, name in enumerate(names, start=1):
            for line in CABLES[request.param]:
                words = line.format(number).split()
                options = ["-6"] * (words[0] == "-6")
                ip(*options, "-n", name, *words[len(options) :])
        yield names


@pytest.mark.rule("N26", "H23", "H24")
def test_a_bare_join_finds_the_run_of_its_network_and_both_are_reached(
    net: Localnet, neighbours: tuple[str, str], request: pytest.FixtureRequest
) -> None:
    first, second = (f"{name}-{request.node.callspec.id[:4]}" for name in ("first", "second"))
    file = str(net.run_file())
    launcher = net.start(first, "launch", file, program=on(neighbours[0]), listen=EVERYWHERE)
    launcher.wait_event("run_joined")
    joiner = net.start(second, "join", program=on(neighbours[1]), listen=EVERYWHERE)
    joiner.wait_event("seat_taken")
    assert "found     on this network" in joiner.log.read_text("utf-8")
    for node in (launcher, joiner):
        node.wait_event("network", "machines of its own network can reach this node")
    for node in (joiner, launcher):
        stopped(node)


MOVED_S = 30.0
"""Seconds in which a node that has moved is back in its run."""
OLD, NEW = "10.77.0", "10.78.0"
SEARCH = """import json
from swarm.node.join.lan import search
print(json.dumps([a for found in search(2.0, 2.0) for a in found.ticket.addresses]))"""


@pytest.fixture
def movers() -> Generator[tuple[str, ...]]:
    """The names of two machines; the first knows two networks, and the second is in one of them."""
    with machines("a", "b") as names:
        first, second = names
        cable(first, second, "cable", "cable")
        for network in (OLD, NEW):
            ip("-n", first, "addr", "add", f"{network}.1/24", "dev", "cable")
        for name in names:
            ip("-n", name, "route", "add", "224.0.0.0/4", "dev", "cable")
        ip("-n", second, "addr", "add", f"{OLD}.2/24", "dev", "cable")
        ip("-n", second, "route", "add", "default", "via", f"{OLD}.1")
        yield names


@pytest.mark.rule("H38", "N26")
def test_a_node_whose_address_changes_goes_on_training_by_itself(
    net: Localnet, movers: tuple[str, str]
) -> None:
    stays, moves = movers
    file = str(net.run_file())
    launcher = net.start("stays", "launch", file, program=on(stays), listen=EVERYWHERE)
    joiner = net.start("moves", "join", launcher.ticket(), program=on(moves), listen=EVERYWHERE)
    joiner.wait_event("traded")
    ip("-n", moves, "addr", "del", f"{OLD}.2/24", "dev", "cable")
    ip("-n", moves, "addr", "add", f"{NEW}.2/24", "dev", "cable")
    ip("-n", moves, "route", "replace", "default", "via", f"{NEW}.1")
    ip("-n", moves, "route", "replace", "224.0.0.0/4", "dev", "cable")
    began, before = time.monotonic(), len(joiner.events())
    joiner.wait_event("network", f"{OLD}.2 gone; {NEW}.2 new", after=before)
    joiner.wait_event("traded", after=before)
    joiner.wait_event("committed", after=len(joiner.events()))
    passed_s = time.monotonic() - began
    assert passed_s < MOVED_S
    found = net.wait("the new address by multicast", lambda: told_at(stays, f"{NEW}.2") or None)
    assert not any(f"/{OLD}.2/" in address for address in found)
    assert time.monotonic() - began < MOVED_S
    for node in (joiner, launcher):
        stopped(node)


def told_at(machine: str, host: str) -> list[str]:
    """The addresses that a machine hears by multicast, if that of a host is one of them."""
    done = subprocess.run(
        ["ip", "netns", "exec", machine, sys.executable, "-c", SEARCH],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
        timeout=60,
    )
    found: list[str] = json.loads(done.stdout)
    return found if any(f"/{host}/" in address for address in found) else []


def stopped(node: Node) -> None:
    """It ends as asked."""
    code, _ = node.stop()
    assert code == 130
