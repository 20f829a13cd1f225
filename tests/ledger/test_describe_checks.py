"""What people read about checking is what the ledger holds, in their words."""

import json

from swarm.ledger.check_statements import CheckStatement, ForcedError, TraceFraud, WitnessService
from swarm.ledger.demands import DemandEntry, ShowEntry
from swarm.ledger.describe import transaction_row
from swarm.ledger.describe_checks import (
    CHECK_KINDS,
    PHASE_TEXTS,
    check_text,
    guilty_rows,
    phase_counts,
    record_row,
    replayed_steps,
    segment_row,
    segment_text,
    verdicts_row,
    verdicts_text,
)
from swarm.ledger.run_views import run_detail
from swarm.ledger.state.records import Conviction, SegmentPhase, Verdicts
from swarm.ledger.transition.hearings import MOVE_BLOCKS_MIN
from swarm.primitives.codec import replace
from swarm.primitives.crypto import peer_name, peer_text
from swarm.primitives.edges import open_at
from swarm.testing.ledger import numbered_key
from swarm.types import Height, RoundIndex, RunIndex, StageIndex
from tests.ledger.checking import EXACT, a_case
from tests.ledger.demanding import WHERE, answer, ask, run_out
from tests.ledger.edges import (
    ACTIVATION,
    GRADIENT,
    OFFER,
    SENT,
    a_sender,
    accuse,
    disorder,
    other,
    proof,
)

ALICE = numbered_key(1).peer
WINDOW_STEPS = EXACT.checks.window_steps


def test_every_statement_reads_as_a_sentence() -> None:
    case = a_case(num_steps=25)
    case.draw_verifiers()
    key, seg = case.able[0], case.claimed
    request = seg.request(case.ledger.state, key)
    assert request is not None
    window = case.ask([key])[key.peer]
    state = case.ledger.state
    blind, shown = seg.blind(state, key.peer, window), seg.shown(state, key.peer, window)
    complaint = seg.complaint(state, key.peer)
    witness = WitnessService(1, 1, 0, 1, check=0, is_served=True, proof=bytes(80))  # type: ignore[arg-type]
    up, down, given = (replace(one, signature=bytes(64)) for one in (ACTIVATION, GRADIENT, OFFER))
    lie, asked = "proved a lie in segment 1/0/1", DemandEntry(*WHERE, up)
    shown_entry = ShowEntry(*WHERE, 2, open_at(SENT, 1))
    wanted: dict[str, CheckStatement] = {
        "drawn to check a window of segment 1/0/1": request,
        "answered blind on segment 1/0/1": blind,
        "revealed segment 1/0/1: 3 windows": seg.reveal(),
        "showed its replay of segment 1/0/1: it gives the same": replace(shown, claim=b""),
        "showed its replay of segment 1/0/1: it gives something else": shown,
        f"complains that it was not served window {window} of segment 1/0/1": complaint,
        "holds the log of the contested window of segment 1/0/1": witness,
        "could not get the log of the contested window of segment 1/0/1": replace(
            witness, is_served=False
        ),
        "reported window 1 of segment 1/0/1": seg.report(key.peer, 1),
        "moved in the dispute about window 1 of segment 1/0/1 (3 bytes)": seg.move(1, b"abc"),
        f"{lie}: it sent activations that its list does not have": accuse(up),
        f"{lie}: it sent a gradient that its list does not have": accuse(down),
        f"{lie}: it gave a fragment that its list does not have": accuse(given),
        f"{lie}: its list has two entries out of order": disorder(SENT, 0),
        f"{lie}: it signed something false (2,000 bytes)": TraceFraud(
            RunIndex(1), RoundIndex(1), StageIndex(0), 1, bytes(2_000)
        ),
        "demands the list of segment 1/0/1 for activations that its solver signed": asked,
        "demands the list of segment 1/0/1 for a gradient that its solver signed": replace(
            asked, message=down
        ),
        "demands the list of segment 1/0/1 for a fragment that its solver signed": replace(
            asked, message=given
        ),
        "has an entry of its list of segment 1/0/1 shown: demand 2": shown_entry,
        "showed element 2 of a forced error in segment 1/0/1, which check 0 approved": ForcedError(
            RunIndex(1), RoundIndex(1), StageIndex(0), 1, 0, 2, bytes(2_000)
        ),
        "looked at segment 1/0/1: what its solver stated is false": replace(
            shown, said=bytes(32), is_false=True
        ),
        "looked at segment 1/0/1: what its solver stated is false, as was to be found": replace(
            shown, said=bytes(32), is_false=True, statement=b"said"
        ),
    }
    assert {type(body) for body in wanted.values()} == set(CHECK_KINDS)
    for text, body in wanted.items():
        assert check_text(body) == text
        signer = case.solver if body in (seg.reveal(), shown_entry) else key
        row = transaction_row(case.ledger.state, case.ledger.sign(signer, body))
        assert row["text"] == f"{peer_name(signer.peer)} {text}"
        assert row["kind"] == CHECK_KINDS[type(body)]


def test_what_becomes_of_a_demand_is_said() -> None:
    case = a_sender()
    first, second = case.able[:2]
    ask(case, first, ACTIVATION)
    case.submit(case.solver, answer(case))
    ask(case, second, OFFER)
    rows = segment_row(case.record, WINDOW_STEPS)["demands"]
    assert isinstance(rows, list)
    assert [(row["name"], row["open"], row["shown"]) for row in rows] == [
        (peer_name(first.peer), False, True),
        (peer_name(second.peer), True, False),
    ]
    run_out(case)
    row = segment_row(case.record, WINDOW_STEPS)
    assert json.loads(json.dumps(row)) == row
    assert (row["demanded_by"], row["proved_by"]) == (peer_name(second.peer), None)
    assert str(row["text"]).endswith(
        f"was not shown, and not paid: nobody showed its list, of which {peer_name(second.peer)}"
        " had demanded an entry"
    )


def test_every_phase_has_words_and_a_verified_segment_says_by_how_many() -> None:
    assert set(PHASE_TEXTS) == set(SegmentPhase)
    case = a_case()
    name = peer_name(case.solver.peer)
    assert segment_text(case.record, WINDOW_STEPS) == f"segment 1/0/1 of {name} waits for verifiers"
    case.show(case.up_to_reveal())
    passed = f"segment 1/0/1 of {name} passed its sampled check"
    assert segment_text(case.record, WINDOW_STEPS) == f"{passed}: 10 of 10 steps checked by 2 peers"


def test_the_share_that_was_replayed_is_counted_in_steps() -> None:
    """Two peers that replayed the same window computed its steps once; the last window may be shorter."""
    case = a_case(num_steps=25)
    assert replayed_steps(case.record, WINDOW_STEPS) == 0
    windows = case.up_to_reveal()
    assert replayed_steps(case.record, WINDOW_STEPS) == 0, "an answer that nobody saw yet"
    case.show(windows)
    steps = sum({0: 10, 1: 10, 2: 5}[window] for window in set(windows.values()))
    assert replayed_steps(case.record, WINDOW_STEPS) == steps
    assert f": {steps} of 25 steps checked by 2 peers" in segment_text(case.record, WINDOW_STEPS)
    assert segment_row(case.record, WINDOW_STEPS)["replayed_steps"] == steps


def test_a_dispute_names_who_accuses() -> None:
    case = a_case(lie=0)
    windows = case.up_to_reveal()
    case.show({case.able[0].peer: windows[case.able[0].peer]})
    accuser = peer_name(case.able[0].peer)
    said = f"is disputed: {accuser} found window 0 false; its accuser moves until height "
    assert said in segment_text(case.record, WINDOW_STEPS)


def test_rows_are_json_and_count_what_was_done() -> None:
    case = a_case()
    case.show(case.up_to_reveal())
    row = segment_row(case.record, WINDOW_STEPS)
    json.dumps(row)
    assert (row["phase"], row["paid"], row["reward"]) == ("verified", True, 5)
    assert [v["state"] for v in row["verifiers"]] == ["agreed", "agreed"]  # type: ignore[attr-defined]
    work = case.ledger.state.contribution(case.run.index, case.solver.peer)
    assert record_row(work)["verified"] == 1
    assert phase_counts(case.ledger.state, case.run.index) == {"verified": 1}
    assert (row["confirmed"], row["throws"], row["start"]) == (True, 1, "continued")
    detail = run_detail(case.ledger.state, case.run)
    assert detail["checks"] == {"verified": 1}
    json.dumps(detail)


def test_a_dispute_and_a_report_are_told_with_what_is_at_stake() -> None:
    case = a_case(lie=0, num_accounts=6)
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    reporter, name = case.ledger.keys[5], peer_name(case.ledger.keys[5].peer)
    case.submit(reporter, case.true.report(reporter.peer, 0))
    assert segment_text(case.record, WINDOW_STEPS).endswith(f"is compared: {name} reported it")
    waiting = {"name": name, "window": 0, "state": "sealed", "report": True, "bond": 20}
    assert segment_row(case.record, WINDOW_STEPS)["verifiers"] == [waiting]
    assert segment_row(case.record, WINDOW_STEPS)["dispute"] is None
    case.show({reporter.peer: 0})
    accusations = [{"name": name, "window": 0, "report": True, "bond": 20}]
    assert segment_row(case.record, WINDOW_STEPS)["accusations"] == accusations
    row = segment_row(case.record, WINDOW_STEPS)
    assert row["dispute"] == {
        "window": 0,
        "deadline": case.ledger.state.height + MOVE_BLOCKS_MIN,
        "waits_for": "accuser",
        "accuser": name,
        "returned": 0,
    }
    json.dumps(row)
    case.decide(is_guilty=False)
    row = segment_row(case.record, WINDOW_STEPS)
    assert (row["judged"], row["accusations"], row["confirmed"]) == ([], [], False)


def test_who_proved_a_lie_about_an_edge_is_named_and_no_window_is_judged() -> None:
    case = a_sender()
    assert segment_row(case.record, WINDOW_STEPS)["proved_by"] is None
    sender, name = case.ledger.keys[4], peer_name(case.solver.peer)
    case.submit(sender, proof(case, other(GRADIENT)))
    row = segment_row(case.record, WINDOW_STEPS)
    json.dumps(row)
    proven = f"{peer_name(sender.peer)} proved it by what it had signed itself"
    assert row["text"] == f"segment 1/0/1 of {name} {PHASE_TEXTS[SegmentPhase.GUILTY]}: {proven}"
    assert (row["proved_by"], row["judged"]) == (peer_name(sender.peer), [])


def test_verdicts_are_counted_and_named_and_the_guilty_are_listed() -> None:
    verdicts = Verdicts(
        verified=4,
        unsampled=3,
        silent=2,
        guilty=1,
        confirmed=5,
        convictions=(Conviction(RoundIndex(7), StageIndex(1), 2, ALICE, Height(9)),),
    )
    assert verdicts_row(verdicts) == {
        "verified": 4, "unsampled": 3, "silent": 2, "guilty": 1,
        "within": 0, "rejected": 0,
    }  # fmt: skip
    text = "checked: 4 passed a sampled check, 3 unchecked, 2 not shown, 1 proven false"
    assert verdicts_text(verdicts) == text
    assert not verdicts_text(
        Verdicts(
            verified=0,
            unsampled=0,
            silent=0,
            guilty=0,
            confirmed=0,
            convictions=(),
        )
    )
    (row,) = guilty_rows(verdicts)
    assert (row["round"], row["stage"], row["seat"], row["height"]) == (7, 1, 2, 9)
    assert (row["name"], row["peer"]) == (peer_name(ALICE), peer_text(ALICE))
