"""A joiner that cannot find its network or its run says why, and what to do, and never hangs silently."""

import signal
import time

import pytest

from swarm.primitives.codec import replace
from swarm.ticket import Ticket, format_ticket, parse_ticket
from tests.e2e.localnet import WAIT_S, Localnet, Node

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def goal(ticket: str) -> Ticket:
    return parse_ticket(ticket, int(time.time()))


def told(node: Node, code: int) -> str:
    """What a node that gives up by itself says at its end."""
    assert node.process.wait(WAIT_S) == code, node.tail()
    words = node.log.read_text()
    assert "Traceback" not in words
    assert not list(node.home.glob("trace-*"))
    return words[words.index("error: ") :]


def test_a_ticket_that_fits_no_network_run_or_address(net: Localnet, goal: Ticket) -> None:
    """Wrong genesis and wrong run end with a sentence; an address where nobody answers is tried for ever."""
    elsewhere = net.join("elsewhere", format_ticket(replace(goal, genesis16=bytes(16))))
    no_run = net.join("no-run", format_ticket(replace(goal, run16=b"r" * 16)))
    nobody = replace(goal, addresses=("/ip4/127.0.0.1/tcp/9",))
    alone = net.join("alone", format_ticket(nobody))

    words = told(elsewhere, 2)
    assert "is on another network" in words
    assert "try: ask for a new one: swarm ticket new" in words

    alone.wait_event("network", "connection refused")
    again = alone.wait_event("network", "next try in", after=3)
    assert "cannot reach" in again["text"]
    assert alone.stop(signal.SIGINT)[0] == 130

    words = told(no_run, 4)
    assert f"has no run {(b'r' * 4).hex()}" in words
    assert "try: ask for a new one: swarm ticket new" in words
    assert net.read("ledger", "verify", home=no_run.home)["height"] > 0


def test_the_same_home_joins_when_the_peer_is_there(net: Localnet, goal: Ticket) -> None:
    """What was tried in vain before costs a home nothing."""
    node = net.join("alone", format_ticket(goal), "--no-solve")
    node.wait("the run", lambda s: s["run"] is not None)
    node.stop()
