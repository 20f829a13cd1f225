"""Where bits differ, peers accept honest work, and send a liar away by a panel of three."""

from pathlib import Path

import pytest
from trio.testing import MockClock

from swarm.events import EventKind
from swarm.ledger.check_statements import DataRequest, DisputeMove, VerifyCommit, VerifyReveal
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transition.prices import PANEL_SIZE
from swarm.primitives.commitments import REFUSED
from swarm.verify.answers import window_of
from swarm.verify.audit import AuditVerdict
from tests.ledger.panels import a_native_case, draw_panel, rejected
from tests.verify.actors import Actor, nothing, peers_of, play, window_key, within
from tests.verify.simulated_network import a_network


def kinds(actor: Actor) -> list[type]:
    return [type(step.body) for step in actor.submitted]


def assert_nothing_refused(actors: list[Actor]) -> None:
    assert not [error for actor in actors for error in actor.refused]


@pytest.mark.rule("V48")
def test_a_native_segment_is_checked_as_an_exact_one_and_is_within_tolerance() -> None:
    case = a_native_case()
    producer, actors = peers_of(case, replay=within(case.true))
    assert play(producer, actors) is SegmentPhase.WITHIN
    assert_nothing_refused(actors)
    said = [kinds(actor) for actor in actors if actor.submitted]
    assert [DataRequest, VerifyCommit, VerifyReveal] in said
    assert not any(DisputeMove in one for one in said)


@pytest.mark.rule("V48", "L97")
def test_a_lie_is_rejected_by_who_was_drawn_and_a_panel_and_costs_no_stake() -> None:
    case = a_native_case()
    before = [case.stake(key) for key in case.ledger.keys]
    producer, actors = peers_of(case, replay=lambda _: REFUSED)
    assert play(producer, actors) is SegmentPhase.REJECTED
    assert_nothing_refused(actors)
    panel = case.record.panel
    assert panel is not None
    sat = [actor for actor in actors if actor.key.peer in {seat.peer for seat in panel.seats}]
    assert len(sat) == PANEL_SIZE
    for actor in sat:
        assert kinds(actor)[-3:] == [DataRequest, VerifyCommit, VerifyReveal]
        assert not actor.answers.keys() - {window_key(case, panel.window)}
    assert [case.stake(key) for key in case.ledger.keys] == before


@pytest.mark.rule("V48", "L97")
def test_a_false_rejection_is_overturned_by_the_panel() -> None:
    """Adversary: a rival that was drawn rejects honest work, to have the seat."""
    case = a_native_case()
    producer, actors = peers_of(case, replay=within(case.true))
    case.draw_verifiers()
    followers = case.able[case.ledger.num_validators :]  # whose balance no fees of blocks raise
    rival = next(actor for actor in actors if actor.key in case.drawn(followers))
    rival.replay = lambda _: REFUSED
    balance = case.balance(rival.key)
    assert play(producer, actors) is SegmentPhase.WITHIN
    assert case.record.panel is not None
    assert case.record.is_paid
    assert case.balance(rival.key) < balance
    work = case.ledger.state.contribution(case.run.index, rival.key.peer)
    assert work.refuted == 1


@pytest.mark.rule("V48")
def test_a_panel_that_gets_no_log_says_nothing_and_is_not_blamed() -> None:
    case = a_native_case()
    producer, actors = peers_of(case, replay=within(case.true))
    case.draw_verifiers()
    for actor in actors:
        asks = bool(case.drawn([actor.key])) if actor.key in case.able else False
        actor.replay = (lambda _: REFUSED) if asks else nothing
    assert play(producer, actors) is SegmentPhase.UNSAMPLED
    assert case.record.is_paid


@pytest.mark.rule("V48")
def test_who_would_not_sit_offers_nothing() -> None:
    """Its dice are worse than those of three that have offered: an offer would cost a fee for nothing."""
    case = a_native_case()
    rejected(case)
    draw_panel(case)
    _, actors = peers_of(case, replay=within(case.true))
    offered = list[Actor]()
    for actor in actors:
        before = len(actor.submitted)
        actor.act()
        offered += [actor] * (len(actor.submitted) - before)
        case.ledger.block()
        if case.record.panel is None or case.record.panel.is_seated:
            break
    assert offered
    key = window_key(case, 0)
    assert all(step.key == (DataRequest, key) for a in offered for step in a.submitted)


# --- nodes ---


@pytest.mark.rule("V48")
async def test_nodes_accept_honest_work_and_say_within_tolerance(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_native_case()
    async with a_network(case, tmp_path) as network:
        network.start()
        await network.until_judged(400.0)
        assert case.is_now(SegmentPhase.WITHIN)
        counts = [node.checks.counts for node in network.able]
        assert sum(one.agreed for one in counts) == len(case.record.checks) > 0
        result = await network.able[0].checks.audit(window_of(case.record, 0))
        assert result.verdict is AuditVerdict.WITHIN
        assert "is within tolerance" in result.lines[0]
        assert "ends 2.0e-06 of the way" in result.lines[1]
        assert result.accusation(bytes(16)) is None


@pytest.mark.rule("V48", "L97")
async def test_nodes_send_a_liar_away_by_the_logs_that_it_signed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_native_case()
    before = [case.stake(key) for key in case.ledger.keys]
    async with a_network(case, tmp_path) as network:
        for manifest in network.solver.checks.log_store.manifests(window_of(case.record, 0)):
            network.replays.answers[manifest.root] = REFUSED
        network.start()
        await network.until_judged(400.0)
        assert case.is_now(SegmentPhase.REJECTED)
        assert [case.stake(key) for key in case.ledger.keys] == before
        kinds = [kind for node in network.able for kind in node.recorded.kinds()]
        assert EventKind.DISPUTED in kinds
        result = await network.able[0].checks.audit(window_of(case.record, 0))
        assert result.verdict is AuditVerdict.REJECTED
        assert "ends 1.3e-01 of the way" in result.lines[1]
        assert result.accusation(bytes(16)) is None, "nothing was proven"


@pytest.mark.rule("V48", "V22")
async def test_a_solver_that_is_gone_when_the_panel_sits_is_rejected_by_the_log_of_a_verifier(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Adversary: it shows its log to whoever is drawn first, and to nobody else."""
    case = a_native_case()
    async with a_network(case, tmp_path) as network:
        for manifest in network.solver.checks.log_store.manifests(window_of(case.record, 0)):
            network.replays.answers[manifest.root] = REFUSED
        network.start()
        await network.until(SegmentPhase.DOUBTED, patience_s=400.0)
        del network.transport.hosts[network.solver.secret.peer]
        await network.until_judged(400.0)
        assert case.is_now(SegmentPhase.REJECTED)
