"""The node writes evidence for strangers, and reports what a stranger's shows, if it is not too late."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from swarm.config.spec import Genesis
from swarm.errors import BadConfig, Unreachable, UsageError
from swarm.ledger.state.records import Run, SegmentRecord
from swarm.node.api.audit import Auditor
from swarm.node.api.evidence import save_evidence
from swarm.primitives.codec import replace
from swarm.training.record.window import WindowKey
from swarm.types import Digest, Height, PeerId
from swarm.verify.audit import AuditEvidence, AuditResult, AuditVerdict, judge_logs
from swarm.verify.evidence import Evidence
from swarm.verify.evidence_check import convince, prove
from swarm.verify.evidence_file import read_evidence_file, write_evidence
from swarm.verify.replay_process import Material
from tests.node.fakes import GENESIS, FakeLedger
from tests.verify.evidence_world import LIE, Proofs, World, a_world, result_of


@dataclass
class Checks:
    """Replays that are looked up, and logs that lie in a folder."""

    world: World
    folder: Path
    adopted: list[Evidence] = field(default_factory=list)
    reported: list[WindowKey] = field(default_factory=list)

    def found(self, window: int) -> AuditEvidence:
        material = self.world.material(self.folder, window)
        record, result = self.record, result_of(self.world, window)
        chain, run_digest = self.world.state.chain, self.world.run.spec_digest
        return AuditEvidence(chain, run_digest, record.peer, material.log.manifest, result)

    @property
    def record(self) -> SegmentRecord:
        where = self.world.record()
        found = self.world.state.segment(where.run, where.round, where.stage, where.seat)
        assert found is not None
        return found

    async def audit(self, key: WindowKey) -> AuditResult:
        return judge_logs(self.record, self.world.crop.spec, key, [self.found(key.window)])

    async def gather(self, evidence: AuditEvidence) -> Material:
        return self.world.material(self.folder, evidence.key.window)

    async def adopt(self, evidence: Evidence) -> None:
        self.adopted.append(evidence)

    async def report(self, found: WindowKey) -> Digest:
        self.reported.append(found)
        return Digest(b"n" * 32)


@dataclass
class EvidenceNode:
    """A node whose checks find what the ledger of the test says."""

    home: Path
    me: PeerId
    run: Run
    ledger: FakeLedger
    genesis: Genesis
    checks: Checks
    run16: bytes = bytes(16)


class SlowLedger(FakeLedger):
    """A block every second."""

    async def wait_height(self, height: int) -> object:
        """Be there in a second."""
        await trio.sleep(1)
        self.height = Height(height)
        return self.state


@pytest.fixture(autouse=True)
def trained() -> None:
    """The segments, which are trained once, outside of the loop of a test."""
    a_world()


def an_auditor(tmp_path: Path, *, is_false: bool) -> tuple[Auditor, Checks]:
    world = a_world()
    record = world.lying() if is_false else world.record()
    world.commit(record)
    ledger, checks = SlowLedger(), Checks(world, tmp_path)
    ledger.state = world.state
    me, run = world.ledger.keys[0].peer, world.state.run(record.run)
    node = EvidenceNode(
        home=tmp_path, me=me, run=run, ledger=ledger, genesis=world.ledger.genesis, checks=checks
    )
    return Auditor(node, Proofs(world.ledger)), checks


ASKED = {"round": 1, "stage": 1, "seat": 0, "window": LIE, "bundle": True}


@pytest.mark.rule("V43", "N19")
@pytest.mark.parametrize("is_false", [True, False])
async def test_evidence_is_written_whatever_the_verdict(tmp_path: Path, is_false: bool) -> None:
    auditor, checks = an_auditor(tmp_path, is_false=is_false)
    found = await auditor.audit(ASKED)
    path = Path(str(found["evidence"]))
    assert path == tmp_path / "evidence" / f"segment-1-1-0-window-{LIE}.evidence"
    kept = read_evidence_file(path)
    verdict = convince(kept, prove(kept)).verdict
    assert found["verdict"] == verdict
    assert verdict is (AuditVerdict.FRAUD if is_false else AuditVerdict.HONEST)
    assert kept.weights, "the checkpoint that the round began with"
    assert not list(path.parent.glob("*.part"))
    assert not checks.adopted


async def test_nothing_is_written_while_no_block_is_final(
    tmp_path: Path, autojump_clock: object
) -> None:
    auditor, checks = an_auditor(tmp_path, is_false=True)

    class Unproved(Proofs):
        @property
        def proved_height(self) -> int:
            return 0

    auditor.context.ledger.height = Height(5)  # type: ignore[misc]
    path = tmp_path / "e"
    proofs = Unproved(checks.world.ledger)
    with pytest.raises(Unreachable, match="became final"):
        await save_evidence(auditor.context, proofs, checks.found(LIE), path)
    assert not path.exists()


async def test_a_log_that_the_disk_has_changed_makes_no_evidence(tmp_path: Path) -> None:
    auditor, checks = an_auditor(tmp_path, is_false=True)
    found = checks.found(LIE)

    async def changed(evidence: AuditEvidence) -> Material:
        material = checks.world.material(tmp_path, evidence.key.window)
        material.log.path.write_bytes(b"rotten")
        return material

    checks.gather = changed  # type: ignore[method-assign]
    with pytest.raises(Unreachable, match="not what its manifest names"):
        await save_evidence(auditor.context, auditor.proofs, found, tmp_path / "e")
    assert not (tmp_path / "e").exists()


async def test_a_strangers_evidence_is_kept_and_reported(tmp_path: Path) -> None:
    """The accuser's moves are made from the log in the file, which its node never fetched."""
    auditor, checks = an_auditor(tmp_path, is_false=True)
    path = tmp_path / "stranger"
    write_evidence(path, checks.world.shown(checks.world.lying()))
    done = await auditor.report({"evidence": str(path)})
    assert [one.key for one in checks.adopted] == checks.reported
    assert checks.reported[0].window == LIE
    assert done["submitted"] == (b"n" * 32).hex()


async def test_evidence_of_others_or_too_late_is_refused_by_name(tmp_path: Path) -> None:
    auditor, checks = an_auditor(tmp_path, is_false=True)
    path, world = tmp_path / "stranger", checks.world
    evidence = world.shown(world.lying())
    write_evidence(path, evidence)
    auditor.context.genesis = GENESIS  # type: ignore[misc]
    with pytest.raises(UsageError, match="another run"):
        await auditor.report({"evidence": str(path)})
    auditor.context.genesis = world.ledger.genesis  # type: ignore[misc]
    record = replace(world.lying(), judged=(LIE,))
    world.commit(record)
    auditor.context.ledger.state = world.state  # type: ignore[misc]
    with pytest.raises(UsageError, match="was judged already"):
        await auditor.report({"evidence": str(path)})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match="is no evidence"):
        await auditor.report({"evidence": str(path)})
    assert not checks.adopted
    assert not checks.reported
    assert not auditor.is_busy


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    auditor, _ = an_auditor(tmp_path, is_false=True)
    (tmp_path / "evidence").write_bytes(b"a file in the way")
    with pytest.raises(BadConfig, match="cannot be written"):
        await auditor.audit({**ASKED})
