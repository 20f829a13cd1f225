"""What shareholders and owners ask of their node becomes one statement, or a sentence that says why not."""

from typing import Any, cast

import pytest
import trio

from swarm.errors import InvalidStatement, Reason, UsageError
from swarm.events import EventKind
from swarm.ledger.state.records import Run
from swarm.ledger.state.state import State
from swarm.ledger.transactions import BackOwner, Body, ContinueRun, FundRun
from swarm.node.api.funding import Funder, FundingNode
from swarm.primitives.crypto import peer_text
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import Amount, Height, RunIndex

RUN = RunIndex(1)


class Node:
    """Key 0, which owns a run, on a ledger that takes everything, or refuses with ``refusal``."""

    def __init__(self) -> None:
        self.chain = InMemoryLedger()
        self.chain.open_run(small_run_spec(rounds=20))
        self.me = self.chain.keys[0].peer
        self.said: list[Body] = []
        self.refusal: InvalidStatement | None = None
        self.told: list[str] = []
        self.follows = True

    @property
    def ledger(self) -> "Node":
        return self

    @property
    def state(self) -> State:
        return self.chain.state

    @property
    def run(self) -> Run | None:
        return self.state.run(RUN) if self.follows else None

    async def submit_final(self, body: Body, timeout_s: float) -> Height:
        await trio.lowlevel.checkpoint()
        assert timeout_s > 0
        if self.refusal is not None:
            raise self.refusal
        self.said.append(body)
        return Height(9)

    def report(self, kind: EventKind, text: str, **fields: Any) -> None:  # noqa: ANN401
        assert kind is EventKind.PROGRESS
        self.told.append(text)


def a_node() -> tuple[Node, Funder]:
    node = Node()
    return node, Funder(cast("FundingNode", node))


@pytest.mark.rule("L76", "L77")
async def test_each_action_is_one_statement_and_says_what_follows() -> None:
    node, funder = a_node()
    other = node.chain.keys[1].peer
    assert set(funder.actions()) == {"run-back", "run-continue", "run-fund"}
    said = await funder.back({"run": 1, "for": peer_text(other)})
    assert "0.0% do, more than half are needed" in str(said["text"])
    await funder.back({"run": 1})
    said = await funder.go_on({"run": 1, "escrow": 700})
    assert said["text"] == (
        "goes on with run rehearsal as its owner, with 700 in escrow, in block 9"
    )
    await funder.fund({"amount": 5})
    assert node.said == [
        BackOwner(RUN, other),
        BackOwner(RUN, node.me),
        ContinueRun(RUN, Amount(700)),
        FundRun(RUN, Amount(5)),
    ]
    node.follows = False
    said = await funder.go_on({"run": 1, "escrow": 700})
    assert "this node follows another run" in str(said["text"])
    with pytest.raises(UsageError, match="no run yet"):
        await funder.fund({"amount": 5})


@pytest.mark.parametrize(
    ("action", "request_", "why"),
    [
        ("run-back", {"run": 9}, "there is no run 9"),
        ("run-back", {"run": "1"}, "a number"),
        ("run-back", {"run": True}, "a number"),
        ("run-back", {"run": 1, "for": "nobody"}, "PeerID"),
        ("run-continue", {"run": 1, "escrow": 0}, "above 0"),
        ("run-continue", {"run": 1, "escrow": 1 << 70}, "above 0"),
        ("run-fund", {"amount": "5"}, "above 0"),
    ],
)
async def test_what_is_no_run_peer_or_amount_is_refused_unsaid(
    action: str, request_: dict[str, object], why: str
) -> None:
    node, funder = a_node()
    with pytest.raises(UsageError) as refused:
        await funder.actions()[action](request_)
    assert why.lower() in str(refused.value).lower()
    assert node.said == []


async def test_a_refusal_of_the_ledger_is_explained() -> None:
    node, funder = a_node()
    node.refusal = InvalidStatement(Reason.WRONG_PHASE, "the run is open, not settled")
    with pytest.raises(UsageError, match="the run is open, not settled") as refused:
        await funder.back({"run": 1})
    assert refused.value.hint == "swarm run shares 1"
    assert node.told == []
