"""Standing is a stake that could be lost, a seat, or a vote; dust and a key are none."""

import pytest

from swarm.host.paces import Standing
from swarm.ledger.chain import Head
from swarm.ledger.net.standing import Standings
from swarm.ledger.state.draft import Draft
from swarm.ledger.transition.prices import solver_stake
from swarm.ledger.transition.seats import LAG_MAX, with_seat
from swarm.primitives.codec import replace
from swarm.testing.ledger import InMemoryLedger, numbered_key, small_run_spec
from swarm.types import Amount, PeerId, RoundIndex

KEY = numbered_key(77).peer


def with_stake(ledger: InMemoryLedger, peer: PeerId, stake: int) -> None:
    """Give a peer a stake, out of the pocket of another."""
    rich = ledger.keys[0].peer
    draft, given = Draft(ledger.state, rich), stake - ledger.state.account(peer).stake
    payer = ledger.state.account(rich)
    draft.put_account(rich, replace(payer, balance=Amount(payer.balance - given)))
    draft.put_account(peer, replace(ledger.state.account(peer), stake=Amount(stake)))
    ledger.head = Head(ledger.head.digest, draft.finish())


@pytest.mark.rule("H40")
def test_attack_a_stake_of_dust_buys_no_standing() -> None:
    ledger = InMemoryLedger()
    run = ledger.open_run(small_run_spec())
    least = min(
        solver_stake(ledger.state.globals.params, run.spec),
        ledger.state.globals.params.validator_stake,
    )
    standings = Standings(lambda: ledger.state)
    assert standings.of(KEY) is Standing.STRANGER
    with_stake(ledger, KEY, least - 1)
    assert standings.of(KEY) is Standing.STRANGER
    with_stake(ledger, KEY, least)
    assert standings.of(KEY) is Standing.MEMBER


def test_who_votes_and_who_pays_for_a_run_is_a_member() -> None:
    ledger = InMemoryLedger()
    run = ledger.open_run(small_run_spec())
    standings = Standings(lambda: ledger.state)
    assert standings.of(run.owner) is Standing.MEMBER
    assert all(standings.of(voter.peer) is Standing.MEMBER for voter in ledger.state.validators)


def with_volunteer(ledger: InMemoryLedger, *, is_on_trial: bool, behind: int = 0) -> None:
    """Give a peer a free seat in a run, so many rounds behind."""
    run = replace(ledger.open_run(small_run_spec()), start_round=RoundIndex(10))
    seated = with_seat(run, 0, KEY, RoundIndex(run.next_round - 1 - behind))
    roster = tuple(
        replace(seat, is_volunteer=True, is_on_trial=is_on_trial) if seat.peer == KEY else seat
        for seat in seated.seats[0]
    )
    draft = Draft(ledger.state, ledger.keys[0].peer)
    draft.put_run(replace(seated, seats=(roster, *seated.seats[1:])))
    ledger.head = Head(ledger.head.digest, draft.finish())


@pytest.mark.rule("H40")
def test_attack_a_free_seat_alone_does_not_make_a_member() -> None:
    ledger = InMemoryLedger()
    for is_on_trial, wanted in ((True, Standing.NOVICE), (False, Standing.MEMBER)):
        with_volunteer(ledger, is_on_trial=is_on_trial)
        assert Standings(lambda: ledger.state).of(KEY) is wanted


@pytest.mark.rule("H40")
@pytest.mark.parametrize(
    ("behind", "wanted"),
    [(0, Standing.NOVICE), (LAG_MAX, Standing.NOVICE), (LAG_MAX + 1, Standing.STRANGER)],
)
def test_attack_a_free_seat_that_does_no_work_is_none(behind: int, wanted: Standing) -> None:
    ledger = InMemoryLedger()
    with_volunteer(ledger, is_on_trial=True, behind=behind)
    assert Standings(lambda: ledger.state).of(KEY) is wanted
