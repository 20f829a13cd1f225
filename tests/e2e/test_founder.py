"""A launcher of real processes hands its power over, is killed for good, and the run ends without it."""

import signal
from functools import partial

import pytest

from tests.e2e.localnet import STAKE, HomeSetup, Localnet, Node, State

pytestmark = pytest.mark.e2e

ROUNDS = 40
EPOCH_BLOCKS = 20
STRANGERS = ("anna", "boris", "clara", "dmitri")
AGAIN_S = 120.0
"""From the launcher's end to the next final block, at most."""


@pytest.fixture(scope="module")
def strangers(net: Localnet) -> dict[str, Node]:
    """Four peers with a stake that offer to validate; the launcher is killed once they do."""
    run_file = net.run_file(rounds=ROUNDS, epoch_blocks=EPOCH_BLOCKS)
    setup = HomeSetup(validate=True)
    net.set_up(run_file, "founder", **dict.fromkeys(STRANGERS, setup))
    founder = net.start("founder", "launch", str(run_file))
    state = founder.wait("a ledger", lambda s: s["ledger"]["height"] > 0 and s)
    assert state["ledger"]["trust"].startswith("trusted launcher: 1 of 1 validators")
    nodes = {name: net.join(name, founder.ticket()) for name in STRANGERS}
    for node in nodes.values():
        node.wait("five validators", lambda s: len(s["ledger"]["validators"]) == 5)
    founder.wait("its own part", lambda s: "the greatest with 20%" in s["ledger"]["trust"])
    founder.kill()
    return nodes


def height_of(state: State) -> int:
    """The height of the last final block."""
    height: int = state["ledger"]["height"]
    return height


def has_grown(height: int, state: State) -> bool:
    """Whether three more blocks are final."""
    return height_of(state) >= height + 3


def test_the_ledger_outlives_its_founder(strangers: dict[str, Node]) -> None:
    """No vote of the founder is missed: blocks become final again at every other peer."""
    for node in strangers.values():
        height = node.wait("the ledger", height_of)
        node.wait("blocks after it", partial(has_grown, height), AGAIN_S)


def test_the_dead_founder_is_no_validator_any_more(
    net: Localnet, strangers: dict[str, Node]
) -> None:
    """Its views are skipped; after three in a row its offer is void, and two epochs later its votes are."""
    anna = strangers["anna"]
    anna.wait("four validators", lambda s: len(s["ledger"]["validators"]) == 4, AGAIN_S)
    shown = net.read("ledger", "validators", home=anna.home)
    assert sorted(row["power_percent"] for row in shown["validators"]) == [25.0] * 4
    assert all(row["offers"] for row in shown["validators"])


def test_who_comes_late_begins_with_a_snapshot_of_the_others_and_verifies(
    net: Localnet, strangers: dict[str, Node]
) -> None:
    """The founder, who kept all blocks, is dead; what the newcomer has is proved from the genesis on."""
    anna = strangers["anna"]
    ticket: str = net.read("ticket", "new", home=anna.home)["ticket"]
    height = anna.wait("three epochs", lambda s: height_of(s) > 3 * EPOCH_BLOCKS and height_of(s))
    late = net.join("late", ticket, "--no-solve")
    first = late.wait("the chain", lambda s: height_of(s) >= height and s["ledger"]["first"])
    assert first % EPOCH_BLOCKS == 0
    assert first >= 2 * EPOCH_BLOCKS
    late.wait("blocks after it", partial(has_grown, height))
    assert late.stop(signal.SIGTERM)[0] == 0
    verified = net.read("ledger", "verify", home=late.home)
    assert verified["began_at"] >= first - 1
    assert "not from block 1" in verified["began_with"]
    assert verified["supply_conserved"]
    shown = net.swarm("ledger", "show", "1", home=late.home)
    assert (shown.returncode, "block 1 is pruned" in shown.stderr) == (2, True)
    pair = verified["trusted_epoch"]
    done = net.swarm("ledger", "verify", "--trust", pair, home=anna.home)
    assert done.returncode == 0, done.stderr


def test_a_validator_puts_up_more_and_cannot_take_back_what_it_votes_with(
    net: Localnet, strangers: dict[str, Node]
) -> None:
    home = strangers["anna"].home
    put_up = net.read("wallet", "stake", "5", home=home)
    purse = net.read("wallet", "show", home=home)
    assert purse["stake"] == put_up["stake"] == STAKE + 5
    assert purse["locked"] in {STAKE, STAKE + 5}, "what it votes with, in this epoch or the next"
    refused = net.swarm("wallet", "unstake", str(STAKE), home=home)
    assert refused.returncode == 2
    assert "not enough stake" in refused.stderr


def test_the_run_ends_and_somebody_else_exports_its_model(
    net: Localnet, strangers: dict[str, Node]
) -> None:
    """All that a run needs is with those that are left."""
    clara = strangers["clara"]
    clara.wait(
        "the end of the run", lambda s: s["run"]["phase"] in {"finished", "settled"}, 2 * AGAIN_S
    )
    done = net.wait(
        "the last checkpoint",
        lambda: (done := net.export(clara, "model")).returncode == 0 and done,
        node=clara,
    )
    assert done.returncode == 0
    verified = net.read("ledger", "verify", home=clara.home)
    assert verified["supply_conserved"]
    assert verified["trust"].startswith("4 validators")
