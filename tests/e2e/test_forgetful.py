"""A validator of real processes that lost its memory, or runs as a copy, never makes a second history."""

import shutil
from functools import partial
from typing import Literal

import pytest

from swarm.errors import BadIdentity
from tests.e2e.localnet import WAIT_S, Localnet, Node, State

pytestmark = pytest.mark.e2e

SILENT = "does not vote before epoch"


@pytest.fixture(scope="module")
def follower(net: Localnet, launcher: Node) -> Node:
    """A peer that has every block that the launcher signed."""
    node = net.join("follower", launcher.ticket(), "--no-solve")
    node.wait("blocks", partial(is_above, 6))
    return node


def is_above(height: int, state: State) -> int | Literal[False]:
    """The height, once it is above another."""
    now: int = state["ledger"]["height"]
    return now > height and now


def invitation(net: Localnet, node: Node) -> str:
    """A ticket that leads to this node."""
    node.wait("the run", lambda s: s["run"])
    ticket: str = net.read("ticket", "new", home=node.home)["ticket"]
    return ticket


def test_a_copy_of_a_running_home_signs_nothing_and_stops(
    net: Localnet, launcher: Node, follower: Node
) -> None:
    """It has the key, the store and the vote log, and knows that this is not where they were written.

    The follower sees two processes with one key, and tells both of them.
    """
    shutil.copytree(launcher.home, net.folder / "copy", ignore=shutil.ignore_patterns("api.json"))
    copy = net.join("copy", invitation(net, follower))
    copy.wait_event("warning", SILENT)
    assert copy.process.wait(WAIT_S) == BadIdentity.exit_code
    assert "one key is for one machine" in copy.tail()
    launcher.wait_event("warning", "was started with the key of this node")
    height = follower.wait("the ledger", partial(is_above, 0))
    follower.wait("blocks of the original", partial(is_above, height + 4))
    assert net.read("ledger", "verify", home=follower.home)["supply_conserved"]


def test_who_follows_the_hint_of_a_damaged_store_makes_no_rival_blocks(
    net: Localnet, launcher: Node, follower: Node
) -> None:
    """The store is moved away and synced again; the only validator waits for its owner, who decides."""
    launcher.kill()
    ticket = invitation(net, follower)
    height = follower.wait("the ledger", partial(is_above, 0))
    before = net.read("ledger", "show", str(height - 1), home=follower.home)
    store = launcher.home / "store.sqlite"
    for path in launcher.home.glob("store.sqlite*"):
        path.rename(path.with_name(path.name + ".damaged"))
    again = net.join(launcher.home.name, ticket)
    state = again.wait("the end of the chain", partial(is_above, height - 1))
    assert state == height
    again.wait("its own silence", lambda s: "swarm ledger recover" in s["health"]["command"])
    assert follower.wait("the ledger", partial(is_above, 0)) == height
    again.kill()

    asked = net.swarm("ledger", "recover", home=again.home)
    assert asked.returncode == 2, "it asks before it signs"
    assert net.read("ledger", "recover", "--yes", home=again.home) == {"height": height}
    assert store.exists()
    back = net.join(launcher.home.name, ticket)
    follower.wait("new blocks", partial(is_above, height + 3))
    assert (
        net.read("ledger", "show", str(height - 1), home=follower.home)["state_root"]
        == (before["state_root"])
    )
    back.stop()
