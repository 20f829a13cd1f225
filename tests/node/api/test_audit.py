"""What a person asks of the node about the work of others: bounded, typed, with a file that shows a fraud."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from swarm.config.spec import Genesis
from swarm.errors import UsageError
from swarm.ledger.state.records import Run
from swarm.node.api.audit import Auditor
from swarm.primitives.commitments import WindowResult
from swarm.training.record.window import WindowKey
from swarm.types import Digest, PeerId
from swarm.verify.audit import AuditEvidence, AuditResult, AuditVerdict, decode_evidence
from swarm.verify.evidence import Evidence
from swarm.verify.replay_process import Material
from tests.ledger.checking import Case, a_case
from tests.node.fakes import GENESIS, FakeLedger
from tests.verify.evidence_world import Proofs
from tests.verify.manifests import signed

CLAIM = Digest(b"c" * 32)
ROOT = Digest(b"r" * 32)
RESULT = WindowResult(Digest(b"l" * 32), Digest(b"s" * 32), ROOT, 640)


class Checks:
    """Finds what the test says, and remembers what it was asked."""

    def __init__(self, case: Case, false: frozenset[int] = frozenset()) -> None:
        self.case, self.false = case, false
        self.audited: list[int] = []
        self.reported: list[WindowKey] = []

    async def audit(self, place: WindowKey) -> AuditResult:
        self.audited.append(place.window)
        run, chain = self.case.run, self.case.ledger.state.chain
        manifest = signed(self.case.solver, chain, run.spec_digest, place, ROOT, 1)
        peer = self.case.solver.peer
        evidence = AuditEvidence(
            chain=chain,
            run_digest=run.spec_digest,
            peer=peer,
            manifest=manifest,
            result=RESULT,
        )
        verdict = AuditVerdict.FRAUD if place.window in self.false else AuditVerdict.HONEST
        return AuditResult(
            key=place,
            verdict=verdict,
            claim=CLAIM,
            found=RESULT.claim,
            lines=("a line",),
            evidence=evidence,
        )

    async def gather(self, evidence: AuditEvidence) -> Material:
        raise AssertionError("nobody asked for evidence for strangers")

    async def adopt(self, evidence: Evidence) -> None:
        raise AssertionError("no file of strangers came")

    async def report(self, found: WindowKey) -> Digest:
        self.reported.append(found)
        return Digest(b"n" * 32)


@dataclass
class Audited:
    """A node whose checks find what the test says."""

    home: Path
    me: PeerId
    run: Run
    ledger: FakeLedger
    genesis: Genesis
    checks: Checks
    run16: bytes = bytes(16)


def an_auditor(case: Case, home: Path, *false: int) -> tuple[Auditor, Checks]:
    checks = Checks(case, frozenset(false))
    state = case.ledger.state
    ledger = FakeLedger()
    ledger.state = state
    run, me = state.run(case.run.index), case.ledger.keys[0].peer
    node = Audited(
        home=home, me=me, run=run, ledger=ledger, genesis=case.ledger.genesis, checks=checks
    )
    return Auditor(node, Proofs(case.ledger)), checks


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def read_evidence(path: Path) -> AuditEvidence:
    return decode_evidence(path.read_bytes())


def a_revealed_case() -> Case:
    case = a_case(num_steps=25)
    case.up_to_reveal()
    return case


@pytest.mark.rule("N19")
async def test_all_windows_of_a_small_segment_are_audited(tmp_path: Path) -> None:
    """Without seat and window: the segment of that round and stage that can be, and all of it."""
    auditor, checks = an_auditor(a_revealed_case(), tmp_path)
    found = await auditor.audit({"round": 1, "stage": 0})
    assert checks.audited == found["windows"] == [0, 1, 2]
    assert (found["verdict"], found["seat"], found["evidence"]) == ("honest", 1, None)
    assert found["text"] == ["a line", "all 3 windows of the segment were computed again"]
    assert names_in(tmp_path) == []


@pytest.mark.rule("N19")
async def test_a_fraud_is_written_down_and_can_be_reported(tmp_path: Path) -> None:
    case = a_revealed_case()
    auditor, checks = an_auditor(case, tmp_path, 1)
    found = await auditor.audit({"round": 1, "stage": 0, "seat": 1})
    assert checks.audited == [0, 1]
    assert (found["verdict"], found["window"]) == ("fraud", 1)
    assert (found["claim"], found["replay"]) == (CLAIM.hex(), RESULT.claim.hex())
    path = Path(str(found["evidence"]))
    assert path == tmp_path / "evidence" / "segment-1-0-1-window-1.swarm"
    assert read_evidence(path).peer == case.solver.peer
    assert read_evidence(path).result == RESULT
    done = await auditor.report({"evidence": str(path)})
    assert checks.reported == [
        WindowKey(case.run.index, case.record.round, case.record.stage, 1, 1)
    ]
    assert done["submitted"] == (b"n" * 32).hex()


async def test_what_is_no_evidence_is_refused_by_name(tmp_path: Path) -> None:
    case = a_revealed_case()
    auditor, _ = an_auditor(case, tmp_path, 0)
    junk = tmp_path / "junk.swarm"
    with pytest.raises(UsageError, match="cannot be read"):
        await auditor.report({"evidence": str(junk)})
    junk.write_bytes(b"x" * 100_000)
    with pytest.raises(UsageError, match="is no evidence"):
        await auditor.report({"evidence": str(junk)})
    found = await auditor.audit({"round": 1, "stage": 0, "window": 0})
    auditor.context = replace(auditor.context, genesis=GENESIS)  # type: ignore[type-var]
    with pytest.raises(UsageError, match="another run"):
        await auditor.report({"evidence": found["evidence"]})


@pytest.mark.rule("N19")
@pytest.mark.parametrize(
    ("asked", "cause"),
    [
        ({}, "round is missing"),
        ({"round": 1}, "stage is missing"),
        ({"round": True, "stage": 0}, "round is a number"),
        ({"round": 1, "stage": -1}, "stage is a number"),
        ({"round": 1, "stage": "0"}, "stage is a number"),
        ({"round": 9, "stage": 0}, "no segment 9/0 is on the ledger"),
        ({"round": 1, "stage": 0, "seat": 7}, "no segment 1/0/7"),
        ({"round": 1, "stage": 0, "window": 3}, "there is no window 3"),
    ],
)
async def test_a_place_that_is_not_there_is_a_usage_error(
    tmp_path: Path, asked: dict[str, object], cause: str
) -> None:
    auditor, checks = an_auditor(a_revealed_case(), tmp_path)
    with pytest.raises(UsageError, match=cause):
        await auditor.audit(asked)
    assert not checks.audited
    assert not auditor.is_busy


@pytest.mark.rule("N19")
async def test_one_audit_at_a_time(tmp_path: Path) -> None:
    auditor, _ = an_auditor(a_revealed_case(), tmp_path)
    auditor.is_busy = True
    with pytest.raises(UsageError, match="under way"):
        await auditor.audit({"round": 1, "stage": 0})
    with pytest.raises(UsageError, match="under way"):
        await auditor.report({"round": 1, "stage": 0, "seat": 1, "window": 0})
