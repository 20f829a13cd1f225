"""A false accuser with all the votes of a network convicts no honest peer: arithmetic decides."""

import sys
from pathlib import Path

import pytest

from tests.e2e.localnet import STAKE, HomeSetup, Localnet, State, peer_of

pytestmark = pytest.mark.e2e

BOUGHT = (sys.executable, str(Path(__file__).with_name("bought.py")))


@pytest.mark.rule("L93", "V42")
def test_attack_a_false_accuser_loses_to_an_honest_solver_whoever_validates(net: Localnet) -> None:
    run_file = net.run_file(is_exact=True)
    names = net.set_up(
        run_file,
        "launcher",
        founder=HomeSetup(stake=0, verify=False),
        honest=HomeSetup(),
        accuser=HomeSetup(solve=False),
    )
    launcher = net.start("launcher", "launch", str(run_file))
    ticket = launcher.ticket()
    honest = net.start("honest", "join", ticket)
    net.start("accuser", "join", ticket, program=BOUGHT)

    def refuted(state: State) -> State | None:
        audits = peer_of(state, names["accuser"]).get("audits", {})
        return state if audits.get("refuted", 0) >= 1 else None

    state = honest.wait("a refuted accusation", refuted)
    assert not state["convictions"]
    solver = peer_of(state, names["honest"])
    assert solver["audits"]["failed"] == 0
    assert solver["stake"] >= STAKE
    assert state["ledger"]["supply_conserved"]
