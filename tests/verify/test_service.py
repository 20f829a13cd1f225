"""Nodes check, show, move and report by themselves; who lies pays, who is silent holds nobody up."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from swarm.config.spec import NANO, CheckSpec
from swarm.errors import BadConfig, InvalidStatement, Unreachable, UsageError
from swarm.events import EventKind
from swarm.gossip.blobs.service import BLOB_PROTOCOL
from swarm.ledger.light import prove_entries
from swarm.ledger.state.accusations import Turn
from swarm.ledger.state.records import CheckPhase, SegmentPhase
from swarm.primitives import codec
from swarm.primitives.codec import decode, encode
from swarm.primitives.commitments import REFUSED
from swarm.primitives.crypto import SecretKey, digest, peer_name
from swarm.testing.ledger import STAKE, small_run_spec
from swarm.training.record.window import WINDOW_BYTES_MAX
from swarm.types import Digest, PeerId
from swarm.verify.answers import Sought, window_of
from swarm.verify.audit import AuditVerdict, decode_evidence, encode_evidence
from swarm.verify.edges import encode_list
from swarm.verify.evidence import Evidence, evidence_keys
from swarm.verify.evidence_check import prove
from swarm.verify.free_audits import FREE_MAX
from swarm.verify.manifest import (
    WINDOW_PROTOCOL,
    WindowFound,
    WindowMissing,
    WindowReply,
    decode_reply,
    request_of,
)
from tests.fakes import FakeHost
from tests.ledger.checking import a_case
from tests.verify.actors import FINAL
from tests.verify.manifests import signed
from tests.verify.simulated_network import LookedUp, Node, SimulatedNetwork, a_network, a_window

pytestmark = pytest.mark.usefixtures("inline_threads")


def phases(network: SimulatedNetwork) -> set[CheckPhase]:
    return {check.phase for check in network.case.record.checks}


async def test_an_honest_segment_is_verified_and_the_verifiers_tell_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_network(a_case(), tmp_path) as network:
        network.start()
        await network.until_judged()
        assert network.case.is_now(SegmentPhase.VERIFIED)
        for node in network.able:
            assert node.recorded.kinds() == [EventKind.CHECKED]
            assert "agrees" in node.recorded.events[0][1]
            counts = node.checks.counts
            assert (counts.done, counts.agreed, counts.differed, counts.missed) == (1, 1, 0, 0)
            assert not node.checks.jobs
        assert not [node.host.blamed for node in network.nodes.values() if node.host.blamed]
        assert len(network.chain.producer.pool) == 0


async def test_a_liar_is_convicted_although_it_never_stops_serving(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_network(a_case(lie=0), tmp_path) as network:
        network.start()
        await network.until_judged()
        assert network.case.is_now(SegmentPhase.GUILTY)
        assert network.case.stake(network.case.solver) == 0
        for node in network.nodes.values():
            assert [k for k in node.recorded.kinds() if k is EventKind.CONVICTED]
            assert node.checks.counts.convicted == 1
        assert sum(node.checks.counts.differed for node in network.able) == 2


@pytest.mark.rule("S14", "V18", "V63")
async def test_attack_a_log_that_cannot_be_honest_counts_as_none(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Its solver is not paid and fined, as if it served nobody; nobody accuses it, and nobody is blamed."""
    case = a_case()
    async with a_network(case, tmp_path) as network:
        (manifest,) = network.solver.checks.log_store.manifests(window_of(case.record, 0))
        network.replays.answers[manifest.root] = REFUSED
        before = case.balance(case.solver)
        network.start()
        await network.until_judged()
        assert case.is_now(SegmentPhase.SILENT)
        assert not case.record.is_paid
        assert case.balance(case.solver) < before, "fined"
        assert case.stake(case.solver) == STAKE
        assert [bool(one.refused) for one in case.record.contests] == [True]
        for node in network.able:
            assert not node.checks.log_store.answers
            assert node.checks.counts.missed == 0
            assert network.solver.secret.peer in node.host.faults()
        found = await network.able[0].checks.audit(window_of(case.record, 0))
        assert found.verdict is AuditVerdict.REFUSED
        assert found.accusation(bytes(16)) is None
        with pytest.raises(UsageError, match="nothing to report"):
            await network.able[0].checks.report(found)


@pytest.mark.rule("V19")
async def test_a_log_that_is_longer_than_a_checker_takes_counts_as_not_served(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_network(a_case(), tmp_path) as network:
        state, record, solver = network.case.ledger.state, network.case.record, network.solver
        key, run = window_of(record, 0), state.run(record.run)
        (manifest,) = solver.checks.log_store.manifests(key)
        said = (state.chain, run.spec_digest, key, Digest(bytes(32)), WINDOW_BYTES_MAX + 1)
        huge = signed(solver.secret, *said)
        assert huge.root != manifest.root
        with pytest.raises(Unreachable, match="longer than a checker takes"):
            await network.able[0].checks._logs.replay(
                huge, Sought(key, record, run), (solver.host.peer,), urgent=False
            )


@pytest.mark.rule("V50")
async def test_logs_of_a_run_that_is_checked_at_elements_stay_with_their_seat(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_network(a_case(), tmp_path) as network:
        key, solver, other = window_of(network.case.record, 0), network.solver, network.able[0]
        (manifest,) = solver.checks.log_store.manifests(key)
        holders = [solver.host.peer]
        wanted = (manifest.root, manifest.num_bytes, lambda: holders)
        with monkeypatch.context() as patch:
            patch.setattr(CheckSpec, "spots", property(lambda _: True))
            with pytest.raises(Unreachable):
                await other.blobs.fetch(*wanted, patience_s=1.0)
        await other.blobs.fetch(*wanted, patience_s=20.0)
        assert other.checks.log_store.own_window(manifest.root) is None
        assert solver.on_disk().own_window(manifest.root) == key


@pytest.mark.rule("S17")
async def test_a_false_accuser_loses_to_a_solver_that_answers(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_case(num_accounts=6, num_validators=1)
    async with a_network(case, tmp_path) as network:
        # The beacon of this case draws the second, not the first.
        idle, accuser, *others = network.able
        (manifest,) = network.solver.checks.log_store.manifests(window_of(case.record, 0))
        lie = case.true.with_lie(0).results[0]
        accuser.replays = LookedUp(case, {manifest.root: lie})
        accuser.reopen()
        for node in (idle, *others):
            node.checks_at_once = 0
            node.reopen()
        before = case.stake(accuser.secret)
        network.start()
        await network.until(SegmentPhase.DISPUTED, *FINAL)
        await network.until_judged()
        assert case.is_now(SegmentPhase.UNSAMPLED)
        assert case.stake(accuser.secret) == before * 9 // 10
        assert case.stake(case.solver) == STAKE


@pytest.mark.rule("S14", "V29")
async def test_a_solver_that_serves_nobody_is_silent_and_no_verifier_hangs(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_network(a_case(), tmp_path, keeps=False) as network:
        network.start()
        await network.until_judged()
        assert network.case.is_now(SegmentPhase.SILENT)
        for node in network.nodes.values():
            assert not node.checks.jobs
            assert node.checks.counts.missed == 0, "nobody is blamed for not having been served"
        assert [bool(case.refused) for case in network.case.record.contests] == [True]


@pytest.mark.rule("V29")
@pytest.mark.parametrize("protocol", [WINDOW_PROTOCOL, BLOB_PROTOCOL])
async def test_calls_that_never_return_end_with_their_deadlines(
    tmp_path: Path, autojump_clock: MockClock, protocol: str
) -> None:
    async def stall(peer: PeerId, request: bytes) -> bytes:
        await trio.sleep_forever()
        return b""

    async with a_network(a_case(), tmp_path) as network:
        for node in network.nodes.values():
            node.host.serve(protocol, stall, request_limit=1 << 20)
        network.start()
        await network.until_judged()
        assert network.case.is_now(SegmentPhase.SILENT)
        assert not [node for node in network.nodes.values() if node.checks.jobs]


@pytest.mark.rule("L113", "L114", "V65")
@pytest.mark.parametrize("lie", [None, 0])
async def test_a_solver_that_is_away_when_accused_is_told_and_may_come_back(
    tmp_path: Path, autojump_clock: MockClock, lie: int | None
) -> None:
    """Honest, it keeps its stake, and its accuser pays; with a lie it has come back for nothing."""
    case = a_case(lie=lie, num_accounts=6)
    async with a_network(case, tmp_path) as network:
        accuser = network.able[0]
        for node in network.nodes.values():
            node.checks_at_once = 0
            node.reopen()
        network.start()
        await network.until(SegmentPhase.UNSAMPLED)
        (manifest,) = network.solver.checks.log_store.manifests(window_of(case.record, 0))
        if lie is None:
            network.replays.answers[manifest.root] = case.true.with_lie(0).results[0]
        await accuser.checks.report(window_of(case.record, 0))
        network.solver.scope.cancel()
        await network.until(SegmentPhase.DISPUTED)
        await network.blocks(50)
        assert case.record.dispute is not None
        assert case.record.dispute.turn == Turn.SILENT
        assert any("silent when accused" in text for _, text in accuser.recorded.events)
        network.solver.restart()
        wanted = SegmentPhase.UNSAMPLED if lie is None else SegmentPhase.GUILTY
        await network.until(wanted, patience_s=400.0)
        assert case.stake(case.solver) == (STAKE if lie is None else 0)


@pytest.mark.rule("V24")
@pytest.mark.parametrize("lie", [None, 0])
async def test_a_restart_in_every_phase_loses_nothing(
    tmp_path: Path, autojump_clock: MockClock, lie: int | None
) -> None:
    async with a_network(a_case(lie=lie), tmp_path) as network:
        network.start()
        phases_met = [SegmentPhase.POSTED, SegmentPhase.SAMPLED, SegmentPhase.SEALED]
        phases_met.append(SegmentPhase.REVEALED if lie is None else SegmentPhase.DISPUTED)
        for phase in phases_met:
            await network.until(phase)
            for node in network.nodes.values():
                node.restart()
        await network.until_judged()
        guilty = SegmentPhase.VERIFIED if lie is None else SegmentPhase.GUILTY
        assert network.case.is_now(guilty)
        assert CheckPhase.MISSED not in phases(network)


async def test_over_links_that_lose_a_fifth_of_all_frames_a_segment_is_verified(
    tmp_path: Path, autojump_clock: MockClock, seed: int
) -> None:
    checks = CheckSpec(NANO, 10, 170)
    slow = small_run_spec(round_blocks=30, rounds=40, numerics="seq-f32/1", checks=checks)
    async with a_network(a_case(slow), tmp_path) as network:
        network.transport.loss = 0.2
        network.start()
        await network.until_judged()
        assert network.case.is_now(SegmentPhase.VERIFIED)
        assert not [node.host.blamed for node in network.nodes.values() if node.host.blamed]


@pytest.mark.rule("V24")
async def test_answers_are_on_the_disk_before_they_are_given(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_network(a_case(), tmp_path) as network:
        network.start()
        await network.until(SegmentPhase.SEALED)
        for node in network.able:
            (answer,) = node.on_disk().answers.values()
            (check,) = [c for c in network.case.record.checks if c.peer == node.secret.peer]
            assert answer.commitment(node.secret.peer) == check.commitment


@pytest.mark.rule("V21")
async def test_peers_with_a_stake_are_served_and_strangers_a_few_times_and_nobody_is_blamed_for_asking(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_network(a_case(), tmp_path) as network:
        key = window_of(network.case.record, 0)
        request, solver = encode(request_of(key)), network.solver.secret.peer
        stranger = FakeHost(network.transport, network.case.ledger.keys[9])
        network.transport.hosts[stranger.peer] = stranger
        for _ in range(3):  # one window of an hour, as often as it asks
            raw = await stranger.call(solver, WINDOW_PROTOCOL, request, timeout_s=5)
            assert isinstance(decode(WindowReply, raw), WindowFound)  # type: ignore[arg-type]
        audits = network.solver.checks._logs._free_audits
        for number in range(FREE_MAX):
            audits.admit(PeerId(bytes([number]) * 32), key, trio.current_time())
        newcomer = FakeHost(network.transport, SecretKey.from_seed(bytes([77]) * 32))
        network.transport.hosts[newcomer.peer] = newcomer
        with pytest.raises(Unreachable, match="stake"):
            await newcomer.call(solver, WINDOW_PROTOCOL, request, timeout_s=5)
        verifier = network.able[0].host
        raw = await verifier.call(solver, WINDOW_PROTOCOL, request, timeout_s=5)
        assert isinstance(decode(WindowReply, raw), WindowFound)  # type: ignore[arg-type]
        raw = await verifier.call(
            network.able[1].secret.peer, WINDOW_PROTOCOL, request, timeout_s=5
        )
        assert isinstance(decode(WindowReply, raw), WindowMissing)  # type: ignore[arg-type]
        assert not network.solver.host.blamed
        with pytest.raises(Unreachable):
            await verifier.call(solver, WINDOW_PROTOCOL, b"\xff", timeout_s=5)
        assert len(network.solver.host.blamed) == 1


@pytest.mark.rule("V21")
async def test_a_log_is_shown_to_nobody_before_its_segment_is_committed_and_only_the_last_try(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_case()
    async with a_network(case, tmp_path, keeps=False) as network:
        solver, asker = network.solver, network.able[0].host
        log_store = solver.checks.log_store
        for variant in (1, 2):
            for window in (0, 1):
                data = a_window(case, window, is_last=window == 1, variant=variant)
                await solver.checks.keep_window(case.run, data)
        key = window_of(case.record, 0)
        (kept,) = log_store.manifests(key)
        other = replace(key, round=type(key.round)(2))
        early = replace(a_window(case, 0, is_last=True), key=other)
        await solver.checks.keep_window(case.run, early)
        for asked, found in ((key, (kept,)), (other, ())):
            raw = await asker.call(
                solver.secret.peer, WINDOW_PROTOCOL, encode(request_of(asked)), timeout_s=5
            )
            run_digest = case.run.spec_digest
            chain = network.chain.producer.state.chain
            assert decode_reply(raw, asked, solver.secret.peer, chain, run_digest) == found
        assert len(solver.blobs.roots()) == 3
        assert solver.on_disk().manifests(key) == (kept,)


@pytest.mark.rule("V19")
async def test_a_manifest_its_solver_did_not_sign_is_blamed_on_who_serves_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_case()
    async with a_network(case, tmp_path) as network:
        key = window_of(case.record, 0)
        chain = network.chain.producer.state.chain
        parts = (chain, case.run.spec_digest, key, Digest(digest("test", b"x")), 100)
        forged = encode(WindowFound((signed(case.able[0], *parts),)))

        async def lie(peer: PeerId, request: bytes) -> bytes:
            return forged

        network.solver.host.serve(WINDOW_PROTOCOL, lie, request_limit=128)
        network.start()
        await network.until_judged()
        assert case.is_now(SegmentPhase.SILENT)
        for node in network.able:
            assert network.solver.secret.peer in node.host.faults()


@pytest.mark.rule("S15")
async def test_an_audit_finds_the_lie_and_a_report_convicts_whom_nobody_checked(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_case(lie=1, num_steps=20)
    async with a_network(case, tmp_path) as network:
        for node in network.nodes.values():
            node.checks_at_once = 0
            node.reopen()
        network.start()
        reporter = network.able[0]
        key = window_of(case.record, 1)
        before = await reporter.checks.audit(key)
        assert before.verdict is AuditVerdict.NOT_REVEALED
        with pytest.raises(UsageError, match="nothing to report"):
            await reporter.checks.report(before)
        await network.until(SegmentPhase.UNSAMPLED)
        await reporter.checks.report(key)
        await network.until(SegmentPhase.REVEALED)
        (check,) = case.record.checks
        answer = reporter.on_disk().answers[key]
        assert (check.peer, check.is_report) == (reporter.secret.peer, True)
        assert check.commitment == answer.commitment(reporter.secret.peer), "blind, and on the disk"
        await network.until(SegmentPhase.GUILTY)
        assert case.stake(case.solver) == 0
        assert reporter.checks.counts.differed == 1
        result = await reporter.checks.audit(key)
        assert result.verdict is AuditVerdict.FRAUD
        assert (result.claim, result.found) == (
            case.claimed.results[1].claim,
            case.true.results[1].claim,
        )
        assert result.evidence is not None
        assert result.evidence.result == case.true.results[1]
        assert decode_evidence(encode_evidence(result.evidence)) == result.evidence
        assert (
            await reporter.checks.audit(window_of(case.record, 0))
        ).verdict is AuditVerdict.HONEST
        with pytest.raises(UsageError, match="nothing to report"):
            await reporter.checks.report(window_of(case.record, 0))
        with pytest.raises(InvalidStatement):
            await reporter.checks.report(result)
        with pytest.raises(UsageError):
            await reporter.checks.audit(window_of(case.record, 2))


@pytest.mark.rule("V55")
async def test_a_lie_that_nobody_was_drawn_for_is_found_and_reported_by_who_audits_by_itself(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_case(lie=0)
    async with a_network(case, tmp_path) as network:
        for node in network.nodes.values():
            node.checks_at_once = 0
            node.audit_rate = 1.0 if node is network.able[0] else 0.0
            node.reopen()
        network.start()
        await network.until(SegmentPhase.UNSAMPLED)
        await network.until(SegmentPhase.GUILTY)
        assert case.stake(case.solver) == 0
        said = [text for _, text in network.able[0].recorded.events if "audited window" in text]
        assert len(said) == 1
        assert "it is false, and was reported" in said[0]


@pytest.mark.rule("V45")
async def test_a_lie_of_a_solver_that_is_gone_is_reported_by_a_stranger_with_a_file(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Who reports has never fetched the log: its moves are made from the file."""
    case = a_case(lie=1, num_steps=20)
    async with a_network(case, tmp_path) as network:
        for node in network.nodes.values():
            node.checks_at_once = 0
            node.reopen()
        network.start()
        await network.until(SegmentPhase.UNSAMPLED)
        auditor, reporter = network.able[:2]
        found = (await auditor.checks.audit(window_of(case.record, 1))).evidence
        assert found is not None
        material = await auditor.checks.gather(found)
        block, certificate = case.ledger.links[-1]
        keys = evidence_keys(found.key, ())
        evidence = Evidence(
            genesis=case.ledger.genesis,
            manifest=found.manifest,
            checkpoint_rounds=(),
            proof=prove_entries(case.ledger.state, block.header, certificate, [], keys),
            log=material.log.path.read_bytes(),
            sent=encode_list(material.log.committed.sent),
            weights=(),
            chunk_hashes=b"",
            chunks={},
        )
        assert prove(evidence).record == case.record
        network.solver.host.is_alive = auditor.host.is_alive = False
        await reporter.checks.adopt(evidence)
        await reporter.checks.report(found.key)
        await network.until(SegmentPhase.GUILTY)
        assert case.stake(case.solver) == 0


@pytest.mark.rule("V24")
async def test_a_report_is_shown_after_a_restart_and_repeated_with_the_same_answer(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_case(lie=0)
    async with a_network(case, tmp_path) as network:
        for node in network.nodes.values():
            node.checks_at_once = 0
            node.reopen()
        network.start()
        reporter, key = network.able[0], window_of(case.record, 0)
        await network.until(SegmentPhase.UNSAMPLED)
        found = await reporter.checks.audit(key)
        await reporter.checks.report(found)
        (first,) = reporter.on_disk().answers.values()
        with pytest.raises(InvalidStatement, match="on its way"):
            await reporter.checks.report(found)
        await network.until(SegmentPhase.REVEALED)
        with pytest.raises(InvalidStatement, match="answer of this peer"):
            await reporter.checks.report(found)
        assert list(reporter.on_disk().answers.values()) == [first]
        reporter.restart()
        await network.until(SegmentPhase.GUILTY)


async def test_what_a_check_of_ours_is_committed_to_is_not_replaced_by_a_report(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_case()
    async with a_network(case, tmp_path) as network:
        network.start()
        await network.until(SegmentPhase.SEALED)
        verifier, key = network.able[0], window_of(case.record, 0)
        (answer,) = verifier.on_disk().answers.values()
        elsewhere = codec.replace(answer.result, end_root=Digest(digest("test", b"elsewhere")))
        network.replays.answers[answer.root] = elsewhere
        with pytest.raises(UsageError, match="own check"):
            await verifier.checks.report(key)
        assert list(verifier.on_disk().answers.values()) == [answer]
        await network.until_judged()
        assert case.is_now(SegmentPhase.VERIFIED)
        assert CheckPhase.MISSED not in phases(network)


async def test_an_audit_of_what_nobody_serves_says_so_in_a_minute(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_network(a_case(), tmp_path, keeps=False) as network:
        with trio.fail_after(60):
            key = window_of(network.case.record, 0)
            result = await network.able[0].checks.audit(key)
        assert result.verdict is AuditVerdict.NOT_SERVED


async def test_an_audit_waits_for_a_solver_that_is_just_coming_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_case(num_steps=20)
    async with a_network(case, tmp_path) as network:
        key, auditor = window_of(case.record, 0), network.able[0]
        network.solver.host.is_alive = False
        gone = await auditor.checks.audit(key)
        assert gone.verdict is AuditVerdict.NOT_SERVED
        assert f"{peer_name(network.solver.secret.peer)} does not answer" in gone.lines

        async def come_back() -> None:
            await trio.sleep(10)
            network.solver.host.is_alive = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_back)
            back = await auditor.checks.audit(key)
        assert back.verdict is AuditVerdict.NOT_REVEALED


@pytest.mark.rule("V23")
async def test_everything_is_forgotten_when_the_ledger_has_forgotten_the_segment(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_case()
    async with a_network(case, tmp_path) as network:
        network.start()
        await network.until_judged()
        holders = [network.solver, *network.able]
        assert all(node.blobs.roots() for node in holders)
        await network.blocks(90)
        for node in holders:
            assert not node.blobs.roots()
            log_store = node.on_disk()
            assert (log_store.answers, log_store.reveals, log_store.num_windows) == ({}, {}, 0)


@pytest.mark.rule("V22")
async def test_who_was_given_a_manifest_serves_it_on_with_its_log(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_case()
    async with a_network(case, tmp_path) as network:
        network.start()
        await network.until(SegmentPhase.SEALED)
        network.solver.host.is_alive = False
        key, (holder, asker) = window_of(case.record, 0), network.able
        question = encode(request_of(key))
        raw = await asker.host.call(holder.secret.peer, WINDOW_PROTOCOL, question, timeout_s=5)
        chain, solver = network.chain.producer.state.chain, network.solver.secret.peer
        (manifest,) = decode_reply(raw, key, solver, chain, case.run.spec_digest)
        assert holder.blobs.has(manifest.root)


@pytest.mark.rule("V22")
async def test_of_one_giver_two_manifests_of_a_window_are_kept(tmp_path: Path) -> None:
    case = a_case()
    async with a_network(case, tmp_path, keeps=False) as network:
        key, log_store = window_of(case.record, 0), network.able[0].checks.log_store
        chain, solver = network.chain.producer.state.chain, network.solver.secret
        three = [
            signed(solver, chain, case.run.spec_digest, key, digest("test", name), 100)
            for name in (b"a", b"b", b"c")
        ]
        for manifest in three:
            await log_store.note(manifest, solver.peer)
        assert set(log_store.manifests(key)) == set(three[:2])
        await log_store.note(three[2], network.able[1].secret.peer)
        assert set(log_store.manifests(key)) == set(three)


async def test_a_full_disk_is_told_and_leaves_nothing_behind(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_case()
    async with a_network(case, tmp_path, keeps=False) as network:
        folder = tmp_path / "full"
        node = Node(network, network.solver.secret, folder, quota_bytes=100)
        with pytest.raises(BadConfig, match="do not fit"):
            await node.checks.keep_window(case.run, a_window(case, 0, is_last=True))
        assert node.checks.log_store.num_windows == 0
        assert node.on_disk().num_windows == 0
        node.store.close()
