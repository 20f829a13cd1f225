"""Both sides of the market as anybody sees them: prices, asks that wait, seats that are free, and the pay."""

import pytest

from swarm.ledger.describe import transaction_row
from swarm.ledger.run_views import (
    MARKET_HEADS,
    RUN_HEADS,
    market_cells,
    market_rows,
    run_cells,
    run_detail,
    run_lines,
    run_row,
    seat_tokens,
    storage_text,
)
from swarm.ledger.state.records import Run
from swarm.ledger.state.state import State
from swarm.ledger.transactions import ChangeAsk, CloseRun, Join
from swarm.ledger.transition.prices import solver_stake
from swarm.ledger.transition.storage import RECEIPT_ROUNDS
from swarm.ledger.views import seat_outlook
from swarm.primitives.codec import replace
from swarm.primitives.crypto import peer_name
from swarm.testing.ledger import InMemoryLedger, make_genesis, small_run_spec
from tests.ledger import storing
from tests.ledger.storing import EPOCH, STAGE, Kept

CAP = 16
SPEC = small_run_spec(price_max=CAP, num_stages=1, rounds=60)


def a_market(**asks: int) -> tuple[InMemoryLedger, Run]:
    """Return a ledger on which ``k1``, ``k2`` ... have asked for seats, and then worked for some rounds."""
    stake = solver_stake(make_genesis(1, 1), SPEC)
    genesis = make_genesis(6, 1)
    accounts = [replace(a, stake=stake, balance=10_000_000) for a in genesis.accounts]
    ledger = InMemoryLedger(6, 1, accounts=tuple(accounts))
    run = ledger.open_run(SPEC, escrow=1_000_000)
    joins = [(ledger.keys[int(who[1:])], Join(run.index, ask)) for who, ask in asks.items()]
    ledger.block(*(ledger.sign(key, body) for key, body in joins))
    for round_ in range(1, 4):
        ledger.reach_round(run, round_)
        ledger.block(*ledger.commit_all(run, round_ - 1))
    return ledger, ledger.reach_round(run, 4)


def outlook(state: State, ledger: InMemoryLedger, number: int, ask: int = -1) -> str:
    """Return the prospects of a key."""
    return seat_outlook(state, state.run(state.runs()[0].index), ledger.keys[number].peer, ask)


@pytest.mark.rule("L70", "L71")
def test_a_row_has_both_sides_of_a_run() -> None:
    ledger, _ = a_market(k1=4, k2=9, k3=12)
    ledger.block(ledger.sign(ledger.keys[20], Join(ledger.state.runs()[0].index), fee=0))
    (row,) = market_rows(ledger.state)
    assert (row["price"], row["price_max"], row["asks_waiting"]) == (9, CAP, [12])
    assert (row["volunteers_waiting"], row["free_seats"], row["taking_ask"]) == (1, [0], 7)
    assert row["tokens_per_seat_round"] == 5_000
    assert row["pay_per_hour"] == 45 * 900, "rounds of 4 blocks of a second"
    assert row["solver_stake"] == solver_stake(ledger.state.params, SPEC)
    cells = dict(zip(MARKET_HEADS, market_cells(row), strict=True))
    assert (cells["run"], cells["pays"], cells["at most"]) == ("1 rehearsal", "9", "16")
    assert (cells["asks"], cells["free"], cells["per hour"]) == ("12", "0", "40,500")
    assert cells["escrow"].endswith(" rounds")


def test_a_run_that_nobody_trains_yet_promises_nothing_and_one_that_is_closed_is_no_market() -> (
    None
):
    stake = solver_stake(make_genesis(1, 1), SPEC)
    accounts = [replace(a, stake=stake) for a in make_genesis(2, 1).accounts]
    ledger = InMemoryLedger(2, 1, accounts=tuple(accounts))
    run = ledger.open_run(SPEC, escrow=500_000)
    (row,) = market_rows(ledger.state)
    assert (row["price"], row["pay_per_hour"], row["taking_ask"]) == (CAP, None, None)
    assert market_cells(row)[-1] == "-"
    assert market_cells({**row, "asks_waiting": [1, 2, 3, 4, 5]})[4] == "1 2 3 +2"
    assert seat_tokens(run) is None
    ledger.block(ledger.sign(ledger.keys[0], CloseRun(run.index)))
    ledger.empty_blocks(40)
    assert market_rows(ledger.state) == []


@pytest.mark.rule("L70", "L73")
def test_who_waits_is_told_by_how_much_its_ask_is_too_high_and_what_helps() -> None:
    ledger, _ = a_market(k1=4, k2=9, k3=12, k4=9)
    ledger.block()
    assert outlook(ledger.state, ledger, 3).startswith(
        "your ask 12 is above the clearing price 9: you wait; number"
    )
    assert "an ask of 7 or less takes one in time: swarm ask 7" in outlook(ledger.state, ledger, 3)
    sits = outlook(ledger.state, ledger, 2)
    assert sits == "seated at 0/2", "12 and 9 are no lower than its 9"
    ledger.block(ledger.sign(ledger.keys[3], ChangeAsk(ledger.state.runs()[0].index, 6)))
    assert outlook(ledger.state, ledger, 2) == (
        "seated at 0/2; your ask 9 is the highest, and a peer waits that asks 6: swarm ask 6 keeps the seat"
    )
    assert outlook(ledger.state, ledger, 1) == "seated at 0/1", "its ask is lower"
    level = outlook(ledger.state, ledger, 4)
    assert level.startswith("number")
    assert "an ask of 7 or less" in level
    assert outlook(ledger.state, ledger, 5, ask=20) == (
        "your ask 20 is above 16, the most that this run pays: you wait; swarm ask PRICE changes it"
    )


def test_a_run_is_listed_with_its_price_and_seats_before_during_and_after_it() -> None:
    ledger = InMemoryLedger()
    run = ledger.open_run(small_run_spec(rounds=5))
    cells = dict(zip(RUN_HEADS, run_cells(run_row(ledger.state, run)), strict=True))
    assert (cells["phase"], cells["round"], cells["pays"]) == ("open", "5", "1")
    run = ledger.reach_round(run, 2)
    cells = dict(zip(RUN_HEADS, run_cells(run_row(ledger.state, run)), strict=True))
    assert (cells["phase"], cells["round"], cells["seats"]) == ("training", "2 of 5", "2 of 6")
    ledger.empty_blocks(60)
    row = run_row(ledger.state, ledger.state.run(run.index))
    assert (row["phase"], row["round"], row["seats"]) == ("settled", None, 0)


@pytest.mark.rule("L110")
def test_a_checkpoint_says_who_holds_it() -> None:
    kept = Kept()

    def now() -> str:
        return storage_text(kept.state, kept.run, STAGE).partition(": ")[2]

    assert now() == "nobody drawn to hold it yet"
    kept.draw()
    assert now() == "3 drawn to hold it"
    peers = kept.hold()
    names = ", ".join(map(peer_name, peers))
    assert now() == f"held by {names}, not shown yet"
    kept.ask()
    kept.submit(kept.proof(peers[0]))
    epoch = kept.state.height // EPOCH
    assert now() == f"held by {names}, shown in epoch {epoch}"
    assert f"  stage 0: checkpoint of round {kept.round}: {now()}" in run_lines(
        kept.state, kept.run
    )
    rows = run_detail(kept.state, kept.run)["checkpoints"]
    assert isinstance(rows, list)
    shown = {key: rows[0][key] for key in ("receipts", "proven_epoch", "held_by_nobody_since")}
    wanted = {"receipts": names.split(", "), "proven_epoch": epoch, "held_by_nobody_since": None}
    assert shown == wanted
    kept = Kept()
    kept.to_height(kept.checkpoint.height + 3 + RECEIPT_ROUNDS * storing.SPEC.round_blocks)
    assert now() == f"held by nobody since block {kept.storage.unheld}"


def test_holders_say_what_they_do_in_words() -> None:
    kept = Kept()
    peer = kept.hold()[0]
    kept.ask()
    texts = [
        transaction_row(kept.state, kept.ledger.sign(kept.ledger.key_of(peer), body))["text"]
        for body in (kept.receipt(peer), kept.proof(peer))
    ]
    assert texts[0] == f"{peer_name(peer)} holds the checkpoint of stage 0 from round 4"
    assert str(texts[1]).endswith("drawn pieces of the checkpoint of stage 0 from round 4")
