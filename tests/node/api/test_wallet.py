"""A node moves its own money on its owner's word, and refuses what is no amount or no account."""

from typing import Any, cast

import pytest
import trio

from swarm.errors import UsageError
from swarm.events import EventKind
from swarm.ledger.payouts import find_log
from swarm.ledger.settlement_statements import SettlementKey
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Body
from swarm.node.api.wallet import PayingNode, Purse
from swarm.primitives.crypto import peer_text
from swarm.testing.ledger import BALANCE, STAKE, InMemoryLedger
from swarm.types import Height


class Ledger:
    """A chain that takes each statement into the next block, or refuses it as the ledger does."""

    def __init__(self) -> None:
        self.chain = InMemoryLedger(num_accounts=3)

    @property
    def state(self) -> State:
        return self.chain.state

    async def submit_final(self, body: Body, timeout_s: float) -> Height:
        await trio.lowlevel.checkpoint()
        assert timeout_s > 0
        self.chain.block(self.chain.sign(self.chain.keys[1], body))
        return self.state.height


class Node:
    def __init__(self) -> None:
        self.ledger = Ledger()
        self.me = self.ledger.chain.keys[1].peer
        self.told: list[str] = []

    def report(self, kind: EventKind, text: str, **fields: Any) -> None:  # noqa: ANN401
        assert kind is EventKind.PROGRESS
        self.told.append(text)


def a_purse() -> tuple[Node, Purse]:
    node = Node()
    return node, Purse(cast("PayingNode", node))


async def test_money_is_sent_staked_and_taken_back() -> None:
    node, purse = a_purse()
    other = node.ledger.chain.keys[2].peer
    sent = await purse.send({"to": peer_text(other), "amount": 70})
    assert sent["height"] == 1
    assert node.ledger.state.account(other).balance == BALANCE + 70
    staked = await purse.stake({"amount": 30})
    assert staked["stake"] == STAKE + 30
    taken = await purse.unstake({"amount": STAKE + 30})
    assert taken["stake"] == 0
    assert "balance again in 180 blocks" in str(taken["text"])
    assert [text.split()[0] for text in node.told] == ["sent", "put", "began"]


@pytest.mark.parametrize("amount", [0, -1, True, None, "5", 1.5, 1 << 63])
async def test_what_is_no_amount_is_refused_before_it_is_signed(amount: object) -> None:
    node, purse = a_purse()
    for action in (purse.stake, purse.unstake):
        with pytest.raises(UsageError, match="whole number above 0"):
            await action({"amount": amount})
    assert node.ledger.state.height == 0


async def test_what_is_no_account_or_ones_own_is_refused() -> None:
    node, purse = a_purse()
    for to in ("", "otter", "12D3KooW", 7, None):
        with pytest.raises(UsageError):
            await purse.send({"to": to, "amount": 1})
    with pytest.raises(UsageError, match="own account"):
        await purse.send({"to": peer_text(node.me), "amount": 1})
    assert node.ledger.state.height == 0


async def test_what_the_ledger_refuses_is_told_with_its_reason() -> None:
    node, purse = a_purse()
    with pytest.raises(UsageError, match="the ledger refuses it: balance too low"):
        await purse.stake({"amount": BALANCE + 1})
    with pytest.raises(UsageError, match="not enough stake"):
        await purse.unstake({"amount": STAKE + 1})
    assert node.told == []


def test_the_actions_have_the_names_that_the_commands_ask_for() -> None:
    assert sorted(a_purse()[1].actions()) == [
        "settlement-register",
        "settlement-sign",
        "wallet-send",
        "wallet-stake",
        "wallet-unstake",
        "wallet-withdraw",
    ]


async def test_a_settlement_key_is_registered_money_withdrawn_and_payouts_signed() -> None:
    node, purse = a_purse()
    chain, address = node.ledger.chain, "0x" + "a1" * 20
    contract, proof = "c0" * 20, "00" * 65
    founder = chain.keys[0]
    key = SettlementKey(bytes.fromhex("a1" * 20), bytes(65), 31337, bytes.fromhex(contract))
    with pytest.raises(UsageError, match="settles on no contract"):
        await purse.withdraw({"amount": 50, "to": address})
    chain.block(chain.sign(founder, key))
    done = await purse.withdraw({"amount": 50, "to": address})
    assert done["text"] == f"withdrew 50 to {address}, in block 2"
    log = find_log(chain.state)
    assert log is not None
    assert log.locked == 50
    fields = {"address": "a1" * 20, "proof": proof, "evm_chain": 31337, "contract": contract}
    with pytest.raises(UsageError, match="does not validate"):
        await purse.register(fields)
    with pytest.raises(UsageError, match="no statement of epoch 0"):
        await purse.sign({"epoch": 0, "signature": proof})
    bad: list[tuple[Any, dict[str, object]]] = [
        (purse.withdraw, {"amount": 50, "to": "0x12"}),
        (purse.withdraw, {"amount": 0, "to": address}),
        (purse.register, {**fields, "proof": "zz"}),
        (purse.register, {**fields, "proof": "00"}),
        (purse.register, {**fields, "evm_chain": -1}),
        (purse.sign, {"epoch": "0", "signature": proof}),
        (purse.sign, {"epoch": 0, "signature": proof[2:]}),
    ]
    for action, request in bad:
        with pytest.raises(UsageError):
            await action(request)
