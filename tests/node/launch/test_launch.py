"""Who opens a run has a solver's stake and an escrow that pays the first rounds, or is told what it lacks."""

import math

import pytest
import trio

from swarm.errors import BadConfig
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Body, OpenRun, Stake, Transfer
from swarm.ledger.transition.prices import run_deposit, solver_stake, sufficient_fee
from swarm.node.launch.launch import ESCROW_SHARE, fund
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import STAKE, InMemoryLedger, small_run_spec
from swarm.types import Amount, Height
from tests.node.fakes import FakeLedger

SPEC = small_run_spec()
NEWCOMER = 9
"""Key number of a peer without an account."""


class Chain(FakeLedger):
    """What one key submits is in the next block."""

    def __init__(self, number: int) -> None:
        self.ledger = InMemoryLedger()
        self.key: SecretKey = self.ledger.keys[number]
        self.waits: list[float] = []

    @property
    def state(self) -> State:
        return self.ledger.state

    async def submit_final(self, body: Body, timeout_s: float) -> Height:
        await trio.lowlevel.checkpoint()
        self.waits.append(timeout_s)
        self.ledger.block(self.ledger.sign(self.key, body))
        return self.state.height

    def give(self, amount: int) -> None:
        """A transfer of key 0."""
        owner = self.ledger.keys[0]
        self.ledger.block(self.ledger.sign(owner, Transfer(self.key.peer, Amount(amount))))

    @property
    def wanted(self) -> Amount:
        return solver_stake(self.state.params, SPEC)


async def test_who_has_the_stake_puts_nothing_up() -> None:
    chain = Chain(0)
    assert chain.wanted <= STAKE
    assert (await fund(chain, chain.key.peer, SPEC))[0] == 0
    assert chain.waits == []


@pytest.mark.parametrize("held", [0, 100])
async def test_what_is_missing_is_put_up_and_final_before_the_run_is_opened(held: int) -> None:
    chain = Chain(NEWCOMER)
    deposit, wanted = run_deposit(chain.state.params, SPEC), chain.wanted
    chain.give(wanted + deposit + 1_000)
    if held:
        await chain.submit_final(Stake(Amount(held)), math.inf)
    staked, escrow = await fund(chain, chain.key.peer, SPEC)
    assert staked == wanted - held
    assert chain.state.account(chain.key.peer).stake == wanted
    assert set(chain.waits) == {math.inf}
    chain.ledger.block(chain.ledger.sign(chain.key, OpenRun(encode(SPEC), escrow)))
    (run,) = chain.state.runs()
    assert (run.owner, run.escrow) == (chain.key.peer, escrow)


async def test_a_balance_that_lacks_stake_escrow_or_fees_is_told_and_nothing_is_submitted() -> None:
    chain = Chain(NEWCOMER)
    params, deposit = chain.state.params, run_deposit(chain.state.params, SPEC)
    fees = sufficient_fee(params, Stake(chain.wanted))
    fees = Amount(fees + sufficient_fee(params, OpenRun(encode(SPEC), deposit)))
    chain.give(chain.wanted + deposit + fees - 1)
    with pytest.raises(BadConfig, match=f"beside {chain.wanted:,} of stake") as caught:
        await fund(chain, chain.key.peer, SPEC)
    assert "transfer" in caught.value.hint
    assert chain.waits == []
    chain.give(1)
    assert await fund(chain, chain.key.peer, SPEC) == (chain.wanted, deposit)
    escrow = OpenRun(encode(SPEC), deposit)
    chain.ledger.block(chain.ledger.sign(chain.key, escrow))


async def test_an_escrow_is_a_share_of_what_is_spare() -> None:
    chain = Chain(0)
    staked, escrow = await fund(chain, chain.key.peer, SPEC)
    balance = chain.state.account(chain.key.peer).balance
    assert staked == 0
    assert balance // ESCROW_SHARE - 100 < escrow <= balance // ESCROW_SHARE
