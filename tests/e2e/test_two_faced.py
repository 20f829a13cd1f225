"""Real processes: who sends others what it does not list is convicted by one transaction, without a replay."""

import sys
from pathlib import Path

import pytest

from tests.e2e.localnet import STAKE, HomeSetup, Localnet, peer_of

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
