"""Audit or report a window when the user of this machine asks: the actions behind the commands.

Shell: chooses what was not named, writes the evidence file, calls the checks and the ledger.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from swarm.errors import BadConfig, PeerFault, UsageError
from swarm.files import write_whole
from swarm.ledger.state.records import Run, SegmentRecord
from swarm.ledger.transition.phases import is_reportable_at
from swarm.ledger.transition.sampling import num_windows
from swarm.node.api.evidence import EvidencePort, ProofsPort, adopt_evidence, save_evidence
from swarm.node.launch.sizing import window_bytes
from swarm.node.ports import HasGenesis, HasHome, HasLedger, HasMe, HasRun
from swarm.primitives.crypto import peer_name
from swarm.training.record.window import WindowKey
from swarm.types import Digest, RoundIndex, StageIndex
from swarm.verify.audit import (
    EVIDENCE_BYTES_MAX,
    AuditResult,
    AuditVerdict,
    decode_evidence,
    encode_evidence,
)
from swarm.verify.evidence_file import looks_like_evidence

FOLDER = "evidence"
SUFFIX = ".swarm"
BUNDLE_SUFFIX = ".evidence"
CHEAP_BYTES = 32 << 20
"""Bytes of all windows of a segment up to which all are audited; of a larger segment, one window is."""
PASSED = frozenset({AuditVerdict.HONEST, AuditVerdict.WITHIN})
"""Verdicts that find nothing wrong."""
_AGAIN = "swarm audit, without a segment: the newest that can be audited"


class AuditsPort(EvidencePort, Protocol):
    """Checks of single windows: ``swarm.verify.service.Verifier``."""

    async def audit(self, key: WindowKey) -> AuditResult:
        """Fetch and replay a window on the ledger."""
        ...

    async def report(self, found: WindowKey) -> Digest:
        """Accuse a window; return the digest of the statement."""
        ...


class AuditingNode(HasMe, HasHome, HasRun, HasLedger, HasGenesis, Protocol):
    """Parts of a node that audit segments."""

    @property
    def checks(self) -> AuditsPort:
        """Checks of single windows."""
        ...


@dataclass(slots=True)
class Auditor:
    """Audits of one node: one at a time, because each fetches and replays."""

    context: AuditingNode
    proofs: ProofsPort
    """Proofs of what is on the ledger."""
    is_busy: bool = False

    async def audit(self, asked: Mapping[str, object]) -> Mapping[str, object]:
        """Audit ``{round, stage, seat?, window?, bundle?}`` and return the verdict on one window, as JSON.

        Without a seat, the newest segment of the stage that can be audited is taken; without a window, all of
        them if that is cheap, else a random one. With ``bundle`` evidence for strangers is written, whatever
        the verdict is, if a log was replayed. Raises ``UsageError`` for a segment or window that is not on the
        ledger.
        """
        record = self._record(self._run(), asked)
        result, windows = await self.replay(record, _number(asked, "window"))
        lines = list(result.lines)
        if len(windows) > 1 and result.verdict in PASSED:
            lines.append(f"all {len(windows)} windows of the segment were computed again")
        is_fraud = result.verdict is AuditVerdict.FRAUD
        evidence = await self._save(result) if is_fraud else None
        if asked.get("bundle") and result.evidence is not None:
            path = self._path(result.key, BUNDLE_SUFFIX)
            await save_evidence(self.context, self.proofs, result.evidence, path)
            evidence = path
        key = result.key
        return {
            "verdict": str(result.verdict),
            "text": lines,
            "round": key.round,
            "stage": key.stage,
            "seat": key.seat,
            "window": key.window,
            "windows": list(windows),
            "solver": peer_name(record.peer),
            "claim": _hex(result.claim),
            "replay": _hex(result.found),
            "evidence": None if evidence is None else str(evidence),
        }

    async def replay(
        self, record: SegmentRecord, window: int | None
    ) -> tuple[AuditResult, list[int]]:
        """Audit one window of a segment; without one all of them where that is cheap, else a random one.

        Returns:
            The result for the first window that is not honest, or for the last one, and the windows chosen.

        Raises:
            UsageError: There is no such window, the run cannot be replayed, or another audit is under way.
            Unreachable: The run's text cannot be had.
        """
        windows = _windows(self._run(), record, window)
        self._enter()
        try:
            return await self._first_fraud(record, windows), windows
        finally:
            self.is_busy = False

    async def report(self, asked: Mapping[str, object]) -> Mapping[str, object]:
        """Report ``{evidence: path}`` or ``{round, stage, seat, window}`` and return the statement submitted.

        The window is audited first, because an accuser risks a bond. Raises ``UsageError`` if there is nothing
        to report, and ``InvalidStatement`` if the ledger would not take it.
        """
        run = self._run()
        if "evidence" in asked:
            key = await self._key_in(run, Path(str(asked["evidence"])))
        else:
            numbers = [_required(asked, name) for name in ("round", "stage", "seat", "window")]
            round_, stage, seat, window = numbers
            key = WindowKey(run.index, RoundIndex(round_), StageIndex(stage), seat, window)
        self._enter()
        try:
            name = await self.context.checks.report(key)
        finally:
            self.is_busy = False
        where = f"window {key.window} of segment {key.round}/{key.stage}/{key.seat}"
        next_ = "this node shows its answer next, and answers its solver's moves: keep it running"
        text = f"reported {where}: {next_}; statement {name.hex()[:12]}"
        return {"submitted": name.hex(), "text": text}

    def _enter(self) -> None:
        if self.is_busy:
            raise UsageError(
                "another audit is under way on this node", hint="try again in a minute"
            )
        self.is_busy = True

    async def _first_fraud(self, record: SegmentRecord, windows: list[int]) -> AuditResult:
        """Return the result for the first window that is not honest; for the last one if all are."""
        result: AuditResult | None = None
        for window in windows:
            key = WindowKey(record.run, record.round, record.stage, record.seat, window)
            result = await self.context.checks.audit(key)
            if result.verdict not in PASSED:
                break
        assert result is not None, "a segment has windows"
        return result

    def _run(self) -> Run:
        run = self.context.run
        if run is None:
            raise UsageError("this node has no run yet", hint="swarm status")
        return run

    def _record(self, run: Run, asked: Mapping[str, object]) -> SegmentRecord:
        """Return the named segment, or the newest of its round and stage that can be audited."""
        round_, stage = _required(asked, "round"), _required(asked, "stage")
        seat, state = _number(asked, "seat"), self.context.ledger.state
        meant = [
            record
            for record in state.live_segments()
            if (record.run, record.round, record.stage) == (run.index, round_, stage)
            and seat in {None, record.seat}
        ]
        if not meant:
            where = f"{round_}/{stage}" if seat is None else f"{round_}/{stage}/{seat}"
            raise UsageError(f"no segment {where} is on the ledger", hint=_AGAIN)
        able = [
            record
            for record in meant
            if record.claims
            and record.peer != self.context.me
            and is_reportable_at(record, run.spec, state.height)
        ]
        return max(able or meant, key=lambda record: (record.height, -record.seat))

    async def _save(self, result: AuditResult) -> Path | None:
        """Write the evidence to a file in the home and return its path; the same window overwrites its file."""
        if result.evidence is None:
            return None
        path = self._path(result.key, SUFFIX)
        try:
            await trio.to_thread.run_sync(_write, path, encode_evidence(result.evidence))
        except OSError as error:
            raise BadConfig(
                f"the evidence cannot be written to {path}: {error.strerror}",
                hint=f"df -h {path.parent}",
            ) from None
        return path

    def _path(self, key: WindowKey, suffix: str) -> Path:
        name = f"segment-{key.round}-{key.stage}-{key.seat}-window-{key.window}{suffix}"
        return self.context.home / FOLDER / name

    async def _key_in(self, run: Run, path: Path) -> WindowKey:
        """Return the window that a file is about; what evidence for strangers holds is kept and served."""
        if await trio.to_thread.run_sync(looks_like_evidence, path):
            return await adopt_evidence(self.context, run, path)
        return await trio.to_thread.run_sync(self._key_of, run, path)

    def _key_of(self, run: Run, path: Path) -> WindowKey:
        """Return the window that an evidence file is about; raises ``UsageError`` if it is not of this run."""
        try:
            with path.open("rb") as file:
                evidence = decode_evidence(file.read(EVIDENCE_BYTES_MAX + 1))
        except OSError as error:
            raise UsageError(
                f"{path} cannot be read: {error.strerror}", hint="swarm audit writes one"
            ) from None
        except PeerFault as fault:
            raise UsageError(
                f"{path} is no evidence: {fault}", hint="swarm audit writes one"
            ) from None
        if (evidence.chain, evidence.run_digest) != (self.context.genesis.chain, run.spec_digest):
            raise UsageError(f"{path} is about another run than this node's", hint="swarm status")
        return evidence.key


def _windows(run: Run, record: SegmentRecord, wanted: int | None) -> list[int]:
    """Return the windows of a segment to audit."""
    count = num_windows(record.num_steps, run.spec.checks.window_steps)
    if wanted is not None:
        if wanted >= count:
            raise UsageError(f"there is no window {wanted}: the segment has {count}", hint=_AGAIN)
        return [wanted]
    if count * window_bytes(run.spec, record.stage) <= CHEAP_BYTES:
        return list(range(count))
    return [random.SystemRandom().randrange(count)]


def _number(asked: Mapping[str, object], name: str) -> int | None:
    value = asked.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 16:
        raise UsageError(f"{name} is a number from 0 to 65535", hint="swarm audit --help")
    return value


def _required(asked: Mapping[str, object], name: str) -> int:
    value = _number(asked, name)
    if value is None:
        raise UsageError(f"{name} is missing", hint="swarm audit --help")
    return value


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
