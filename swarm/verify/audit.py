"""Compare a replay with a segment's commitments: verdict for users, evidence for other peers.

Core: pure functions; bounded formats.

Evidence is a manifest that the solver signed and the result of the replay of its blob. A peer that has the
blob, the text of the run and the ledger can compute it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isinf

from swarm.config.spec import RunSpec
from swarm.errors import BadEncoding
from swarm.ledger.check_statements import TOKENS_MAX, within
from swarm.ledger.state.records import SegmentRecord
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.commitments import REFUSED, WindowResult
from swarm.training.record.window import WindowKey
from swarm.types import Digest, PeerId
from swarm.verify.answers import OwnAnswer, differs
from swarm.verify.changes import where
from swarm.verify.manifest import WindowManifest, check_manifest
from swarm.verify.tolerance import Comparison

EVIDENCE_BYTES_MAX = 2 << 10
"""Bytes of encoded evidence: a manifest and a result."""


class AuditEvidence(Message, frozen=True):
    """Manifest that a solver signed, and the result that the replay of its log gives."""

    chain: Digest
    run_digest: Digest
    peer: PeerId
    """PeerID of the solver."""
    manifest: WindowManifest
    result: WindowResult

    @property
    def key(self) -> WindowKey:
        """Key of the window."""
        return self.manifest.key


def encode_evidence(evidence: AuditEvidence) -> bytes:
    """Encode evidence as the bytes that ``decode_evidence`` reads."""
    return encode(evidence)


def decode_evidence(raw: bytes) -> AuditEvidence:
    """Decode the bytes of ``encode_evidence`` and verify the solver's signature.

    Raises ``PeerFault`` if the form, a bound or the signature is wrong.
    """
    evidence = decode(AuditEvidence, raw, limit=EVIDENCE_BYTES_MAX)
    result = evidence.result
    within("tokens", result.tokens, 0, TOKENS_MAX)
    hashes = (result.leaves_root, result.start_root, result.end_root)
    if any(len(p) != 32 for p in (evidence.chain, evidence.run_digest, evidence.peer, *hashes)):
        raise BadEncoding("a hash that has not 32 bytes")
    manifest = evidence.manifest
    check_manifest(manifest, manifest.key, evidence.peer, evidence.chain, evidence.run_digest)
    return evidence


class AuditVerdict(StrEnum):
    """Verdict of an audit on one window."""

    HONEST = "honest"
    """Every log that was replayed gives what the solver has revealed."""
    FRAUD = "fraud"
    """A log that the solver signed contradicts its commitments."""
    WITHIN = "within_tolerance"
    """In a run without exact numerics: every log ends where its solver says, but for rounding."""
    REJECTED = "rejected"
    """In such a run: the replay of a signed log ends too far away, or the log is not the one committed to."""
    REFUSED = "refused"
    """In a run with exact numerics: the only log that its solver served cannot be an honest one. That counts as
    none: a verifier complains, and nothing of it can be reported."""
    NOT_REVEALED = "not_revealed"
    """A log was replayed and contradicts nothing, but the solver has not revealed its windows yet."""
    NOT_SERVED = "not_served"
    """No log of this window could be replayed."""


@dataclass(frozen=True, slots=True)
class AuditResult:
    """Result of the audit of one window."""

    key: WindowKey
    verdict: AuditVerdict
    claim: Digest | None
    """Claim that the solver has revealed; None before its reveal."""
    found: Digest | None
    """Claim of our replay; None if no log was replayed."""
    lines: tuple[str, ...]
    """Sentences for people."""
    evidence: AuditEvidence | None
    """Evidence of the first log that differs, else of the first log; None if no log was replayed."""

    @property
    def text(self) -> str:
        """All sentences as one text."""
        return "\n".join(self.lines)

    def accusation(self, salt: bytes) -> OwnAnswer | None:
        """Return the answer with which to accuse the solver, hidden by ``salt``; None if it is no fraud."""
        if self.verdict is not AuditVerdict.FRAUD:
            return None
        assert self.evidence is not None, "a fraud is found by the replay of a log"
        p = self.key
        return OwnAnswer(
            run=p.run,
            round=p.round,
            stage=p.stage,
            seat=p.seat,
            window=p.window,
            salt=salt,
            result=self.evidence.result,
            root=self.evidence.manifest.root,
        )


def judge_logs(
    record: SegmentRecord,
    spec: RunSpec,
    key: WindowKey,
    replayed: Sequence[AuditEvidence],
    troubles: Sequence[str] = (),
) -> AuditResult:
    """Compare every replayed log of a window with the segment's record.

    Args:
        record: Record of the segment on the ledger.
        spec: Specification of its run.
        key: Window that is audited.
        replayed: Evidence of every log that was replayed.
        troubles: Reasons why logs are missing, as sentences.
    """
    window, about = key.window, f"window {key.window} of {where(record)}"
    claim = record.claims[window] if record.claims else None
    if not replayed:
        lines = [f"no log of {about} could be replayed", *troubles]
        return _result(key, AuditVerdict.NOT_SERVED, None, claim, lines)
    sound = [evidence for evidence in replayed if evidence.result != REFUSED]
    if not sound:
        lines = [
            f"{about} was not served: the log that its solver signed cannot be an honest one",
            *troubles,
        ]
        lines.append(
            "nothing of it can be reported; a verifier that is served such a log complains"
        )
        return _result(key, AuditVerdict.REFUSED, replayed[0], claim, lines)
    for evidence in sound:
        if differs(record, spec, window, evidence.result):
            lines = _fraud(record, about)
            return _result(key, AuditVerdict.FRAUD, evidence, claim, lines)
    if record.claims:
        lines = [f"{about} is honest: computed again, with the same result"]
        return _result(key, AuditVerdict.HONEST, sound[0], claim, lines)
    lines = [
        f"{about} was computed again, and nothing shown so far contradicts it",
        "its solver has not shown its windows yet: it must, or is not paid; audit the window again then",
    ]
    return _result(key, AuditVerdict.NOT_REVEALED, sound[0], claim, lines)


def judge_distances(
    record: SegmentRecord,
    spec: RunSpec,
    key: WindowKey,
    measured: Sequence[tuple[AuditEvidence, Comparison]],
    troubles: Sequence[str] = (),
) -> AuditResult:
    """Judge the replayed logs of a window in a run without exact numerics, as ``judge_logs`` does.

    Args:
        record: Record of the segment on the ledger.
        spec: Specification of its run.
        key: Window that is audited.
        measured: Evidence of every log that was replayed, and how far its replay ends.
        troubles: Reasons why logs are missing, as sentences.
    """
    if not measured:
        return judge_logs(record, spec, key, (), troubles)
    about = f"window {key.window} of {where(record)}"
    claim = record.claims[key.window] if record.claims else None
    worst, far = max(measured, key=lambda one: one[1].distance)
    for evidence, found in measured:
        if differs(record, spec, key.window, evidence.result):
            lines = [f"{about} is rejected", _distance_text(found)]
            if evidence.result != REFUSED:
                lines.append("its log is not the one that its solver has committed to")
            lines.append("nothing was proved: only three fresh verifiers can void its pay")
            return _result(key, AuditVerdict.REJECTED, evidence, claim, lines)
    lines = [f"{about} is within tolerance", _distance_text(far)]
    if not record.claims:
        lines.append("its solver has not shown its windows yet")
    return _result(key, AuditVerdict.WITHIN, worst, claim, lines)


def _distance_text(found: Comparison) -> str:
    if isinf(found.distance):
        return "the log that it signed cannot be an honest one"
    return (
        f"a replay here ends {found.distance:.1e} of the way from where its solver says it ends;"
        f" up to {found.bound:.0e} is accepted"
    )


def _result(
    key: WindowKey,
    verdict: AuditVerdict,
    best: AuditEvidence | None,
    claim: Digest | None,
    lines: Sequence[str],
) -> AuditResult:
    found = None if best is None else best.result.claim
    return AuditResult(
        key=key, verdict=verdict, claim=claim, found=found, lines=tuple(lines), evidence=best
    )


def _fraud(record: SegmentRecord, about: str) -> list[str]:
    lines = [f"{about} is false"]
    if not record.claims:
        lines.append("its log leads to another state than the one it committed to")
    else:
        lines.append("its log gives another result than the one it has shown")
    return lines
