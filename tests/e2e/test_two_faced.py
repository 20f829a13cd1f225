"""Real processes: who sends others what it does not list is convicted, or fined, without a replay."""

import sys
from pathlib import Path

import pytest

from tests.e2e.localnet import STAKE, HomeSetup, Localnet, State, peer_of

pytestmark = pytest.mark.e2e

TWO_FACED = (sys.executable, str(Path(__file__).with_name("two_faced.py")))


@pytest.mark.rule("L92", "V35")
@pytest.mark.parametrize(
    ("lie", "said"), [("fragment", "it gave a fragment"), ("pipeline", "it sent")]
)
def test_other_bytes_to_another_seat_cost_the_stake(net: Localnet, lie: str, said: str) -> None:
    """Its own windows are right, and nobody is drawn to check them: who got the bytes has its signature."""
    run_file = net.run_file(is_exact=True, probability=0.0)
    launcher, honest, other, liar = (
        f"{who}_{lie}" for who in ("launcher", "honest", "other", "liar")
    )
    seated = HomeSetup()
    others = dict.fromkeys((honest, other, liar), seated)
    names = net.set_up(run_file, launcher, seated, **others)
    first = net.start(launcher, "launch", str(run_file))
    ticket = first.ticket()
    nodes = [first, net.start(honest, "join", ticket), net.start(other, "join", ticket)]
    nodes.append(net.start(liar, lie, "join", ticket, program=TWO_FACED))
    state = first.wait("the conviction", lambda s: bool(s["convictions"]) and s)
    for node in nodes:
        node.kill()
    conviction = state["convictions"][0]
    assert conviction["name"] == names[liar]
    assert conviction["stake_taken"] == STAKE
    for name in (launcher, honest, other):
        assert peer_of(state, names[name])["audits"]["failed"] == 0
    accuser = next(name for name, shown in names.items() if shown == conviction["accuser"])
    assert accuser != liar
    assert said in (net.folder / f"{accuser}.log").read_text("utf-8")


@pytest.mark.rule("L105", "L107", "V59")
def test_a_list_that_is_shown_to_nobody_costs_more_than_the_lie_brings(net: Localnet) -> None:
    """Nobody is drawn to check it, and nobody gets the list: who was lied to demands it on the ledger."""
    run_file = net.run_file(is_exact=True, probability=0.0)
    seated = HomeSetup()
    names = net.set_up(run_file, "launcher_h", seated, honest_h=seated, liar_h=seated)
    first = net.start("launcher_h", "launch", str(run_file))
    ticket = first.ticket()
    net.start("honest_h", "join", ticket)
    net.start("liar_h", "hidden", "join", ticket, program=TWO_FACED)

    def silent(state: State) -> State | None:
        rows = [row for row in state["checks"] if row["demanded_by"] and row["phase"] == "silent"]
        return {"row": rows[0], **state} if rows else None

    state = first.wait("the silence of the liar", silent)
    row = state["row"]
    assert (row["name"], row["paid"]) == (names["liar_h"], False)
    assert row["demanded_by"] in {names["launcher_h"], names["honest_h"]}
    assert "nobody showed its list" in row["text"]
    assert peer_of(state, names["liar_h"])["audits"]["silent"] >= 1
    for home in ("launcher_h", "honest_h"):
        peer = peer_of(state, names[home])
        assert (peer["audits"]["failed"], peer["audits"]["silent"]) == (0, 0)
        assert peer["stake"] >= STAKE
    assert not state["convictions"]
    assert state["ledger"]["supply_conserved"]
    log = (net.folder / "honest_h.log").read_text("utf-8")
    log += (net.folder / "launcher_h.log").read_text("utf-8")
    assert "nobody serves the list" in log
