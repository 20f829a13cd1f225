"""Who opens a run has a solver's stake and an escrow that pays the first rounds, or is told what it lacks.

It is told what those who check its run find, too, and does not open one in which lies pay.
"""

from pathlib import Path

import pytest

from swarm.config.load import genesis_of, parse_run_file, planned_spec
from swarm.config.spec import NANO, Genesis
from swarm.errors import BadConfig
from swarm.events import Event
from swarm.ledger.odds import odds_of
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Body, OpenRun, Stake, Transfer
from swarm.ledger.transition.prices import run_deposit, solver_stake, sufficient_fee
from swarm.node.launch.launch import ESCROW_SHARE, funds_for, report_odds
from swarm.node.reporting import EventLog
from swarm.node.start import Launch
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import STAKE, InMemoryLedger, small_run_spec
from swarm.types import Amount, PeerId

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


def a_network(stake_segments: int) -> Genesis:
    file = parse_run_file(f"[ledger]\nstake_segments = {stake_segments}", "network.toml")
    return genesis_of(file, validators={PeerId(bytes(32)): 1}, accounts={}, seed=bytes(32))


@pytest.mark.rule("N22")
def test_a_launch_says_what_is_found_and_what_the_worst_lie_is_worth(tmp_path: Path) -> None:
    """In the terms of the network that it is launched on."""
    file, events = parse_run_file("[checks]\nprobability = 0.3", "a.toml"), list[Event]()
    report = EventLog(tmp_path, events.append)
    report_odds(Launch(file), a_network(60), report)
    (event,) = events
    odds, fields = odds_of(planned_spec(file), 60), dict(event.fields)
    assert event.kind == "progress"
    assert event.text.endswith("the worst lie loses 0.026 of a segment's cost")
    assert len(event.text) < 200, "so much of it is shown"
    assert fields["worst_nano"] == round(odds.worst * NANO)
    assert fields["worst_way"] == odds.worst_way
    assert 0 < int(fields["found_one_window_nano"]) < int(fields["found_all_windows_nano"]) < NANO
    with pytest.raises(BadConfig, match="lies pay in this run"):
        report_odds(Launch(file), a_network(1), report)
    assert len(events) == 1
    report_odds(Launch(file, force=True), a_network(1), report)
    assert [event.kind for event in events[1:]] == ["progress", "warning"]
    assert "the worst lie gains 0.17" in events[1].text
    assert "0.17 of a segment's cost is gained by a lie in 5 of 5 windows" in events[2].text


@pytest.mark.rule("N22")
@pytest.mark.parametrize("text", ["[checks]\nprobability = 0.0", '[run]\nnumerics = "native"'])
def test_a_launch_says_that_nothing_is_checked(tmp_path: Path, text: str) -> None:
    events = list[Event]()
    report = EventLog(tmp_path, events.append)
    report_odds(Launch(parse_run_file(text, "a.toml")), a_network(60), report)
    (event,) = events
    assert event.kind == "warning"
    assert event.text.endswith("give the ticket to people you trust")
