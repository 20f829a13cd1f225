"""Who opens a run has a solver's stake and an escrow that pays the first rounds, or is told what it lacks."""

import pytest

from swarm.errors import BadConfig
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Body, OpenRun, Stake, Transfer
from swarm.ledger.transition.prices import run_deposit, solver_stake, sufficient_fee
from swarm.node.launch.launch import ESCROW_SHARE, funds_for
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import STAKE, InMemoryLedger, small_run_spec
from swarm.types import Amount

SPEC = small_run_spec()
NEWCOMER = 9
"""Key number of a peer without an account."""


class Chain:
    """What one key submits is in the next block."""

    def __init__(self, number: int) -> None:
        self.ledger = InMemoryLedger()
        self.key: SecretKey = self.ledger.keys[number]

    @property
    def state(self) -> State:
        return self.ledger.state

    def submit(self, body: Body) -> None:
        """Bring a statement of the newcomer into a block."""
        self.ledger.block(self.ledger.sign(self.key, body))

    def give(self, amount: int) -> None:
        """A transfer of key 0."""
        owner = self.ledger.keys[0]
        self.ledger.block(self.ledger.sign(owner, Transfer(self.key.peer, Amount(amount))))

    @property
    def wanted(self) -> Amount:
        return solver_stake(self.state.params, SPEC)


def test_who_has_the_stake_puts_nothing_up() -> None:
    chain = Chain(0)
    assert chain.wanted <= STAKE
    assert funds_for(chain.state, chain.key.peer, SPEC)[0] == 0


@pytest.mark.parametrize("held", [0, 100])
def test_with_what_is_missing_put_up_the_run_can_be_opened(held: int) -> None:
    chain = Chain(NEWCOMER)
    deposit, wanted = run_deposit(chain.state.params, SPEC), chain.wanted
    chain.give(wanted + deposit + 1_000)
    if held:
        chain.submit(Stake(Amount(held)))
    missing, escrow = funds_for(chain.state, chain.key.peer, SPEC)
    assert missing == wanted - held
    chain.submit(Stake(missing))
    chain.submit(OpenRun(encode(SPEC), escrow))
    (run,) = chain.state.runs()
    assert (run.owner, run.escrow) == (chain.key.peer, escrow)


def test_a_balance_that_lacks_stake_escrow_or_fees_is_told() -> None:
    chain = Chain(NEWCOMER)
    params, deposit = chain.state.params, run_deposit(chain.state.params, SPEC)
    fees = sufficient_fee(params, Stake(chain.wanted))
    fees = Amount(fees + sufficient_fee(params, OpenRun(encode(SPEC), deposit)))
    chain.give(chain.wanted + deposit + fees - 1)
    with pytest.raises(BadConfig, match=f"beside {chain.wanted:,} of stake") as caught:
        funds_for(chain.state, chain.key.peer, SPEC)
    assert "swarm wallet send 12D3Koo" in caught.value.hint
    chain.give(1)
    assert funds_for(chain.state, chain.key.peer, SPEC) == (chain.wanted, deposit)
    chain.submit(Stake(chain.wanted))
    chain.submit(OpenRun(encode(SPEC), deposit))


def test_an_escrow_is_a_share_of_what_is_spare() -> None:
    chain = Chain(0)
    missing, escrow = funds_for(chain.state, chain.key.peer, SPEC)
    balance = chain.state.account(chain.key.peer).balance
    assert missing == 0
    assert balance // ESCROW_SHARE - 100 < escrow <= balance // ESCROW_SHARE
