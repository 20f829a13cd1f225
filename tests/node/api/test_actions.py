"""A peer gives up its seat with a handover; an owner does not, and who has none is told."""

from typing import Any, cast

import pytest
import trio

from swarm.config.schema import NodeConfig
from swarm.errors import UsageError
from swarm.events import EventKind
from swarm.ledger.state.records import Run
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Body, Join
from swarm.ledger.transition.seats import seats_of
from swarm.node.api.actions import SeatControl, SeatedNode
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import Height, RunIndex


class Ledger:
    """A chain that takes each statement of one key into the next block."""

    def __init__(self, chain: InMemoryLedger, number: int) -> None:
        self.chain, self.key = chain, chain.keys[number]

    @property
    def state(self) -> State:
        return self.chain.state

    @property
    def height(self) -> Height:
        return self.chain.state.height

    async def submit_final(self, body: Body, timeout_s: float) -> Height:
        await trio.lowlevel.checkpoint()
        assert timeout_s > 0
        self.chain.block(self.chain.sign(self.key, body))
        return self.height


class Node:
    """Key 1 sits beside the owner, key 0."""

    def __init__(self, number: int) -> None:
        chain = InMemoryLedger()
        run = chain.open_run(small_run_spec(rounds=20))
        chain.block(chain.sign(chain.keys[1], Join(run.index)))
        chain.reach_round(run, 1)
        self.ledger = Ledger(chain, number)
        self.me = chain.keys[number].peer
        self.config = NodeConfig()
        self.told: list[str] = []

    @property
    def run(self) -> Run:
        return self.ledger.state.run(RunIndex(1))

    def report(self, kind: EventKind, text: str, **fields: Any) -> None:  # noqa: ANN401
        assert kind is EventKind.PROGRESS
        self.told.append(text)


def a_node(number: int) -> tuple[Node, SeatControl]:
    node = Node(number)
    return node, SeatControl(cast("SeatedNode", node))


async def test_a_seat_is_given_up_at_the_boundary_and_not_asked_for_again() -> None:
    node, control = a_node(1)
    said = await control.leave({})
    assert "in 3 blocks; keep this node running" in str(said["text"])
    assert node.told == [said["text"]]
    assert not node.config.solve
    assert seats_of(node.run, node.me), "until the boundary"
    node.ledger.chain.reach_round(node.run, 2)
    assert not seats_of(node.run, node.me)


@pytest.mark.parametrize(("number", "why"), [(0, "the owner of run"), (2, "nothing to leave")])
async def test_who_cannot_leave_is_told_and_goes_on_as_before(number: int, why: str) -> None:
    node, control = a_node(number)
    with pytest.raises(UsageError, match=why):
        await control.leave({})
    assert node.config.solve
    assert node.told == []


@pytest.mark.rule("L70")
async def test_an_ask_is_changed_for_the_next_duty_and_an_unpaid_one_is_explained() -> None:
    node, control = a_node(1)
    said = await control.ask({"ask": 0})
    assert (said["ask"], node.config.ask) == (0, 0)
    assert said["text"] == "asks 0 for 1,000 tokens; node.toml keeps it: ask = 0"
    said = await control.ask({"ask": 5})
    assert "pays 1 at most: this node asks for no new seat" in str(said["text"])
    assert node.config.ask == 5


@pytest.mark.parametrize("ask", [None, -1, True, "9", 1 << 40])
async def test_an_ask_that_is_no_price_is_refused(ask: object) -> None:
    node, control = a_node(1)
    with pytest.raises(UsageError, match="whole number"):
        await control.ask({"ask": ask})
    owner, own = a_node(0)
    with pytest.raises(UsageError, match="is paid what the round pays"):
        await own.ask({"ask": 0})
    assert node.config.ask == owner.config.ask == -1
