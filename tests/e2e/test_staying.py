"""Real nodes that lose all peers say so, and are connected again within 30 s; a ticket that leads nowhere ends.

The processes are killed without a word, and their homes are started again as they are.
"""

import time

import pytest

from tests.e2e.localnet import Localnet, Node, State

pytestmark = pytest.mark.e2e

HEALED_S = 30.0
MEET_S = 60.0
START_S = 30.0
"""Seconds from the start of a process to its end without a peer, besides the time that it waits for one."""
UNREACHABLE = 3


@pytest.fixture(scope="module")
def nodes(net: Localnet, launcher: Node, ticket: str) -> dict[str, Node]:
    """A launcher and three that joined it; each is connected to all others."""
    names = ("anna", "boris", "clara")
    nodes = {"launcher": launcher, **{name: net.join(name, ticket, "--no-solve") for name in names}}
    for node in nodes.values():
        node.wait("three peers", lambda s: s["node"]["links"] == 3)
    return nodes


def is_alone(state: State) -> bool:
    """Whether a node says that it is connected to nobody."""
    return state["node"]["isolated_s"] is not None and state["node"]["links"] == 0


@pytest.mark.rule("N30")
def test_who_lost_all_its_peers_is_connected_again_within_30_s_of_their_start(
    nodes: dict[str, Node],
) -> None:
    alone, *others = (nodes[name] for name in ("anna", "launcher", "boris", "clara"))
    for node in others:
        node.kill()
    state = alone.wait("to be isolated", lambda s: is_alone(s) and s)
    assert state["health"]["cause"].startswith("this node is isolated: none of the 3 peers")
    assert state["health"]["command"] == "swarm join TICKET"
    alone.wait_event("warning", "this node is isolated")
    time_s = time.monotonic()
    others[1].resume()  # not the launcher: whoever it is
    others[1].wait("its page", bool)
    alone.wait("a peer", lambda s: s["node"]["links"] > 0, HEALED_S)
    alone.wait("to be well connected", lambda s: s["node"]["isolated_s"] is None)
    print(f"connected again {time.monotonic() - time_s:.1f} s after the start of the other process")
    others[0].resume()
    others[0].wait("both", lambda s: s["node"]["links"] == 2)
    height = alone.wait("the ledger", lambda s: s["ledger"]["height"])
    alone.wait("blocks", lambda s: s["ledger"]["height"] > height + 2)


@pytest.mark.rule("N31")
def test_a_ticket_whose_peers_are_gone_ends_with_one_cause_and_one_command(
    net: Localnet, nodes: dict[str, Node], ticket: str
) -> None:
    """For a newcomer, and for a home that was in the network and remembers peers that are gone as well."""
    for node in nodes.values():
        node.kill()
    began = time.monotonic()
    ended = [net.join("newcomer", ticket), net.join("clara", ticket)]
    for node in ended:
        code = node.process.wait(MEET_S + START_S)
        assert code == UNREACHABLE, node.tail()
        said = node.log.read_text("utf-8")
        assert "no peer of this ticket answered in 60 s" in said
        assert "connection refused" in said
        assert "it is of use only on the machine that it was made on" in said
        assert "swarm launch --listen 0.0.0.0:4001" in said
    assert time.monotonic() - began >= MEET_S


@pytest.mark.rule("N30", "N31")
def test_a_start_without_a_ticket_goes_on_trying_and_says_so(nodes: dict[str, Node]) -> None:
    boris = nodes["boris"]
    boris.resume()
    state = boris.wait(
        "to be isolated", lambda s: is_alone(s) and s["node"]["isolated_s"] > 10 and s
    )
    assert "it goes on trying" in state["health"]["cause"]
    assert state["health"]["command"] == "swarm join TICKET"
    assert boris.is_running
