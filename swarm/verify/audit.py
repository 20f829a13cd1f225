"""Compare a replay with a segment's commitments: verdict for users, evidence for other peers.

Core: pure functions; bounded formats.

Evidence is a manifest that the solver signed and the answer from the replay of its blob. A peer that has the
blob, the text of the run and the ledger can compute it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from swarm.config.spec import RunSpec
from swarm.errors import BadEncoding
from swarm.ledger.state.records import SegmentRecord
from swarm.ledger.transactions import LEAVES_MAX, RevealSegment, within
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.commitments import window_claim
from swarm.training.record.window import WindowKey
from swarm.types import Digest, PeerId
from swarm.verify.changes import where
from swarm.verify.judging import OwnAnswer, differs
from swarm.verify.manifest import WindowManifest, check_manifest
from swarm.verify.replay import REFUSED_LEAVES, Answer

EVIDENCE_BYTES_MAX = 16 << 10
"""Bytes of encoded evidence: 256 leaves and a manifest."""


class AuditEvidence(Message, frozen=True):
    """Manifest that a solver signed, and the answer that the replay of its log gives."""

    chain: Digest
    run_digest: Digest
    peer: PeerId
    """PeerID of the solver."""
    manifest: WindowManifest
    leaves: tuple[bytes, ...]
    end_root: Digest

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
    within("leaves", len(evidence.leaves), 1, LEAVES_MAX)
    hashes = (evidence.chain, evidence.run_digest, evidence.peer, evidence.end_root)
    if any(len(part) != 32 for part in (*hashes, *evidence.leaves)):
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
    NOT_REVEALED = "not_revealed"
    """A log was replayed and contradicts nothing, but the solver has not revealed its leaves yet."""
    NOT_SERVED = "not_served"
    """No log of this window could be replayed."""


@dataclass(frozen=True, slots=True)
class AuditResult:
    """Result of the audit of one window."""

    key: WindowKey
    verdict: AuditVerdict
    answer: Answer | None
    """Answer of the first log that differs, else of the first log; None if no log was replayed."""
    claim: Digest | None
    """Claim that the solver has revealed; None before its reveal."""
    found: Digest | None
    """Claim of our replay; None if no log was replayed."""
    first_difference: int | None
    """Index in the window, from 0, of the first leaf that differs; None if it is not known."""
    lines: tuple[str, ...]
    """Sentences for people."""
    evidence: AuditEvidence | None
    """Evidence for ``answer``; None if no log was replayed."""

    @property
    def text(self) -> str:
        """All sentences as one text."""
        return "\n".join(self.lines)

    def accusation(self, salt: bytes) -> OwnAnswer | None:
        """Return the answer with which to accuse the solver, hidden by ``salt``; None if it is no fraud."""
        if self.verdict is not AuditVerdict.FRAUD:
            return None
        assert self.answer is not None, "a fraud is found by a replay"
        assert self.evidence is not None, "and by the log of it"
        p = self.key
        return OwnAnswer(
            run=p.run,
            round=p.round,
            stage=p.stage,
            seat=p.seat,
            window=p.window,
            salt=salt,
            leaves=tuple(self.answer.leaves),
            end_root=self.answer.end_root,
            root=self.evidence.manifest.root,
        )


def judge_logs(
    record: SegmentRecord,
    spec: RunSpec,
    key: WindowKey,
    replayed: Sequence[tuple[AuditEvidence, Answer]],
    shown: Sequence[bytes] | None,
    troubles: Sequence[str] = (),
) -> AuditResult:
    """Compare every replayed log of a window with the segment's record.

    Args:
        record: Record of the segment on the ledger.
        spec: Specification of its run.
        key: Window that is audited.
        replayed: Evidence and answer of every log that was replayed.
        shown: The solver's leaves of the window; None if they are not known.
        troubles: Reasons why logs are missing, as sentences.
    """
    window = key.window
    claim = record.windows[window].claim if record.windows else None
    if not replayed:
        lines = [f"no log of window {window} of {where(record)} could be replayed", *troubles]
        return _result(key, AuditVerdict.NOT_SERVED, None, claim, shown, lines)
    for evidence, answer in replayed:
        if differs(record, spec, window, answer.leaves, answer.end_root):
            lines = _fraud(record, window, answer, shown)
            return _result(key, AuditVerdict.FRAUD, (evidence, answer), claim, shown, lines)
    about = f"window {window} of {where(record)}"
    num_leaves = len(replayed[0][1].leaves)
    if record.windows:
        lines = [f"{about} is honest: {num_leaves} leaves computed again, all equal"]
        return _result(key, AuditVerdict.HONEST, replayed[0], claim, shown, lines)
    lines = [
        f"{about} was computed again ({num_leaves} leaves), and nothing shown so far contradicts it",
        "its solver has not shown its leaves yet: it must, or is not paid; audit the window again then",
    ]
    return _result(key, AuditVerdict.NOT_REVEALED, replayed[0], claim, shown, lines)


def shown_leaves(record: SegmentRecord, window: int, body: RevealSegment) -> tuple[bytes, ...]:
    """Return the solver's leaves of one window, out of those of the revealed segment."""
    first = sum(earlier.num_leaves for earlier in record.windows[:window])
    return body.leaves[first : first + record.windows[window].num_leaves]


def first_difference(mine: Sequence[bytes], shown: Sequence[bytes]) -> int | None:
    """Return the index of the first leaf that differs; None if all are equal.

    If one sequence is the beginning of the other, it is the length of the shorter one.
    """
    for number, (my_leaf, their_leaf) in enumerate(zip(mine, shown, strict=False)):
        if my_leaf != their_leaf:
            return number
    return None if len(mine) == len(shown) else min(len(mine), len(shown))


def _result(
    key: WindowKey,
    verdict: AuditVerdict,
    best: tuple[AuditEvidence, Answer] | None,
    claim: Digest | None,
    shown: Sequence[bytes] | None,
    lines: Sequence[str],
) -> AuditResult:
    evidence, answer = (None, None) if best is None else best
    found = None if answer is None else window_claim(answer.leaves, answer.end_root)
    first = None
    if answer is not None and shown is not None:
        first = first_difference(answer.leaves, shown)
    return AuditResult(
        key=key,
        verdict=verdict,
        answer=answer,
        claim=claim,
        found=found,
        first_difference=first,
        lines=tuple(lines),
        evidence=evidence,
    )


def _fraud(
    record: SegmentRecord, window: int, answer: Answer, shown: Sequence[bytes] | None
) -> list[str]:
    lines = [f"window {window} of {where(record)} is false"]
    if answer.leaves == REFUSED_LEAVES:
        lines.append("the log that it signed cannot be an honest one")
        return lines
    if not record.windows:
        lines.append("its log leads to another state than the one it committed to")
    elif shown is not None:
        first = first_difference(answer.leaves, shown)
        if first is None:
            lines.append("its leaves are those of its log, but the state after them is another")
        else:
            lines.append(f"leaf {first} of {len(shown)} is the first that its log does not give")
    return lines
