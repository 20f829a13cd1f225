"""Machines of one network find each other without a ticket, on IPv4 and where there is IPv6 alone.

Each machine is a network namespace of its own (``machines``); two are joined by a cable.
"""

from collections.abc import Generator, Sequence

import pytest

from tests.e2e.localnet import Localnet, Node
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


def stopped(node: Node) -> None:
    """It ends as asked."""
    code, _ = node.stop()
    assert code == 130
