"""What people read is what the ledger holds, in their words."""

import json

from swarm.ledger.describe import (
    Row,
    account_row,
    block_lines,
    block_row,
    ledger_row,
    short_count,
    transaction_row,
    transaction_text,
    verified_share,
)
from swarm.ledger.run_views import run_detail, run_lines, run_row
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transactions import (
    Body,
    CloseRun,
    Join,
    Leave,
    OpenRun,
    Stake,
    Transfer,
    Unstake,
    parse_transaction,
)
from swarm.ledger.transition.seats import seats_of
from swarm.ledger.views import seat_outlook, trial_text
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import peer_name
from swarm.testing.ledger import InMemoryLedger, make_segment, small_run_spec
from swarm.types import Amount, Height, RunIndex
from tests.ledger.checking import EXACT, a_case


def a_stage() -> InMemoryLedger:
    stage = InMemoryLedger()
    run = stage.open_run(small_run_spec(replicas_max=2))
    stage.block(*(stage.sign(stage.keys[i], Join(run.index)) for i in (1, 2, 3)))
    run = stage.reach_round(run, 1)
    stage.block(*stage.commit_all(run, 0))
    return stage


def test_counts_are_short() -> None:
    numbers = (0, 940, 1_000, 47_999, 1_234_567, 3_000_000_000)
    assert [*map(short_count, numbers)] == ["0", "940", "1k", "47k", "1.2M", "3.0G"]


def test_a_commit_reads_as_a_sentence_with_the_name_of_its_peer() -> None:
    stage = a_stage()
    run = stage.state.run(RunIndex(1))
    body = stage.commit(run, 1, 0, 1, num_steps=23, tokens=47_100)
    transaction = parse_transaction(stage.sign(stage.keys[1], body))
    name = peer_name(stage.keys[1].peer)
    wanted = f"{name} committed segment 1/0/1: 23 steps, 47k tokens"
    assert transaction_text(stage.state, transaction) == wanted
    assert transaction_text(None, transaction).startswith("seat 1 of stage 0 committed")


def test_every_other_kind_reads_as_a_sentence() -> None:
    stage = a_stage()
    me, run = peer_name(stage.keys[1].peer), RunIndex(1)
    bodies: list[tuple[Body, str]] = [
        (
            OpenRun(encode(small_run_spec()), Amount(7)),
            f"{me} opened run rehearsal with 7 in escrow",
        ),
        (OpenRun(b"x", Amount(7)), f"{me} opened run with an unreadable spec with 7 in escrow"),
        (
            OpenRun(encode(small_run_spec(name="\x1b[2J")), Amount(7)),
            f"{me} opened run ?[2J with 7 in escrow",
        ),
        (CloseRun(run), f"{me} closed run 1"),
        (Join(run), f"{me} asked to join run 1"),
        (Leave(run), f"{me} leaves run 1"),
        (
            Transfer(stage.keys[0].peer, Amount(5)),
            f"{me} sent 5 to {peer_name(stage.keys[0].peer)}",
        ),
        (Stake(Amount(5)), f"{me} staked 5"),
        (Unstake(Amount(5)), f"{me} began to unstake 5"),
    ]
    for body, wanted in bodies:
        assert transaction_row(stage.state, stage.sign(stage.keys[1], body))["text"] == wanted
    assert transaction_row(None, b"junk")["kind"] == "unreadable"


def test_every_row_is_plain_json() -> None:
    stage = a_stage()
    run, state = stage.state.run(RunIndex(1)), stage.state
    block, certificate = stage.links[-1]
    rows = [
        block_row(state, block, certificate),
        block_row(None, block, None),
        ledger_row(state),
        account_row(stage.keys[1].peer, state.account(stage.keys[1].peer)),
        run_row(state, run),
        run_detail(state, run),
    ]
    for row in rows:
        assert json.loads(json.dumps(row)) == row


def test_the_ledger_row_counts_the_money() -> None:
    row = ledger_row(a_stage().state)
    assert row["supply_conserved"] is True
    assert row["runs"] == 1


def test_a_run_shows_its_round_seats_queue_and_work() -> None:
    stage = a_stage()
    run = stage.state.run(RunIndex(1))
    detail = run_detail(stage.state, run)
    assert (detail["phase"], detail["round"], detail["segments"]) == ("training", 1, 4)
    assert detail["queue"] == [peer_name(stage.keys[3].peer)]
    lines = run_lines(stage.state, run)
    assert lines[0].startswith("rehearsal (run 1): round 1 of 6, 4 segments, 10k tokens")
    assert peer_name(stage.keys[0].peer) in lines[1]
    assert lines[-1] == f"  waiting: {peer_name(stage.keys[3].peer)}"


def test_a_block_reads_as_lines() -> None:
    stage = a_stage()
    lines = block_lines(stage.state, stage.links[-1][0])
    assert lines[0].startswith(f"#{stage.state.height} ")
    assert len(lines) == 5
    assert all("committed segment 0/" in line for line in lines[1:])


def test_a_peer_is_told_what_to_expect() -> None:
    stage = InMemoryLedger()
    run = stage.reach_round(stage.open_run(small_run_spec(replicas_max=2)), 0)
    stage.block(*(stage.sign(stage.keys[i], Join(run.index)) for i in (1, 2, 3)))
    run = stage.state.run(run.index)
    outlooks = [seat_outlook(stage.state, run, stage.keys[i].peer) for i in (0, 1, 2, 3, 9)]
    assert outlooks == [
        "seated at 0/0, 1/0",
        "number 1 in the queue, a seat in 3 blocks",
        "number 2 in the queue, a seat in 3 blocks",
        "number 3 in the queue, every seat is taken; next chance in 3 blocks",
        "not in this run",
    ]


def test_a_volunteer_is_told_what_it_lacks_how_its_trial_is_and_when_it_may_ask_again() -> None:
    stage = InMemoryLedger()
    run = stage.open_run(small_run_spec())
    poor = stage.keys[20:23]
    stage.block(*(stage.sign(key, Join(run.index), fee=0) for key in poor))
    run = stage.reach_round(run, 0)
    waits = seat_outlook(stage.state, run, poor[2].peer)
    assert waits == (
        "number 1 in the queue, every seat for peers without a stake of 720 is taken;"
        " next chance in 4 blocks"
    )
    seated = next(key.peer for key in poor if seats_of(run, key.peer))
    (seat,) = seats_of(run, seated)
    assert seat_outlook(stage.state, run, seated) == (
        f"seated at {seat.stage}/{seat.index}, on trial as a volunteer: 0 of 8 segments committed;"
        " until then it is paid, but partners take nothing from it"
    )
    assert trial_text(stage.state, run, run.owner) == ""
    draft = Draft(stage.state, stage.keys[0].peer)
    work = draft.contribution(run.index, stage.keys[5].peer)
    until = Height(stage.state.height + 60)
    draft.put_contribution(run.index, stage.keys[5].peer, replace(work, rest_until=until))
    after = draft.finish()
    silent = seat_outlook(after, run, stage.keys[5].peer)
    assert silent == "silent too often: it may ask for a seat again in 60 blocks"


def test_a_run_shows_how_its_segments_were_judged() -> None:
    case = a_case(lie=0, num_accounts=6)
    other = make_segment(case.ledger, case.run, 1, 1, 0)
    case.submit(case.ledger.keys[0], other.commit)
    case.show(case.up_to_reveal())
    case.decide(is_guilty=True)
    case.ledger.empty_blocks(30)
    state = case.ledger.state
    run = state.run(case.run.index)
    row = run_row(state, run)
    judged = [row[name] for name in ("verified", "unsampled", "silent", "guilty")]
    assert judged == [0, 0, 1, 1]
    detail = run_detail(state, run)
    assert detail["old_segments"] == {"all": 2, "verified": 0}
    assert [found["name"] for found in guilty(detail)] == [peer_name(case.ledger.keys[1].peer)]
    assert "  checked: 1 not shown, 1 proven false" in run_lines(state, run)
    json.dumps(detail)


def guilty(detail: Row) -> list[Row]:
    found = detail["guilty_segments"]
    assert isinstance(found, list)
    return found


def test_the_share_of_verified_segments_counts_the_old_ones_live_or_forgotten() -> None:
    case = a_case(replace(EXACT, rounds=60))
    case.show(case.up_to_reveal())
    done = [(case.record.height, True)]
    assert verified_share(case.ledger.state, case.run, 0) == (1, 1)
    for round_ in range(4, 52, 3):
        case.ledger.reach_round(case.run, round_ + 1)
        case.true = case.claimed = make_segment(case.ledger, case.run, round_, 0, 1)
        case.submit(case.ledger.keys[1], case.claimed.commit)
        committed = case.ledger.state.height
        case.draw_verifiers()
        windows = case.ask(case.able) if round_ % 9 > 1 else {}
        done.append((committed, bool(windows)))
        if windows:
            case.seal(windows)
            case.submit(case.solver, case.claimed.reveal())
            case.show(windows)
        else:
            case.wait(SegmentPhase.SEALED)
            case.submit(case.solver, case.claimed.reveal())
        state = case.ledger.state
        for rounds in (0, 1, 2, 3):
            old = [is_checked for at, is_checked in done if at <= state.height - 6 * rounds]
            assert verified_share(state, case.run, rounds) == (sum(old), len(old))
    case.ledger.empty_blocks(EXACT.checks.challenge_window_blocks + 1)
    assert case.ledger.state.live_segments() == ()
    verified = sum(is_checked for _, is_checked in done)
    assert verified_share(case.ledger.state, case.run) == (verified, len(done))
    assert 2 < verified < len(done) - 2
