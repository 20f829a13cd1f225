"""What an account is worth, and which of it can be spent."""

from swarm.cli.commands.wallet_views import wallet_lines, wallet_row
from swarm.ledger.transactions import Stake, Unstake
from swarm.primitives.crypto import peer_text
from swarm.testing.ledger import BALANCE, STAKE, InMemoryLedger, numbered_key, small_run_spec
from swarm.types import Amount


def test_the_parts_of_an_account_add_up_and_say_what_is_locked() -> None:
    ledger = InMemoryLedger(num_validators=1)
    key = ledger.keys[0]
    ledger.block(ledger.sign(key, Stake(Amount(50)), fee=10))
    ledger.block(ledger.sign(key, Unstake(Amount(30)), fee=10))
    row = wallet_row(ledger.state, key.peer)
    assert (row.stake, row.locked) == (STAKE + 20, STAKE)
    assert [part.amount for part in row.unbonding] == [30]
    assert row.balance == BALANCE - 50, "this ledger's only leader gets its own fees back"
    assert row.peer == peer_text(key.peer)
    lines = wallet_lines(row)
    assert lines[2] == "stake      1,020, 1,000 of it locked"
    assert lines[3] == f"unbonding  30, balance again from block {2 + 180} on"
    assert lines[-1].startswith("entry      61")


def test_work_that_waits_for_its_verdict_is_told_apart_from_what_is_paid() -> None:
    ledger = InMemoryLedger()
    run = ledger.reach_round(ledger.open_run(small_run_spec()), 1)
    ledger.block(*ledger.commit_all(run, 0))
    row = wallet_row(ledger.state, ledger.keys[0].peer)
    (work,) = row.work
    assert work.run == "rehearsal"
    assert work.pending == 5 * work.segments
    assert work.earned == work.verified == 0
    assert (
        f"earned     0 in rehearsal: {work.segments} segments, 0 verified" in wallet_lines(row)[3]
    )


def test_an_account_that_the_ledger_does_not_have_is_empty() -> None:
    row = wallet_row(InMemoryLedger().state, numbered_key(99).peer)
    assert (row.balance, row.stake, row.locked, row.unbonding, row.work) == (0, 0, 0, (), ())
