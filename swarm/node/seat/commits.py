"""Commit closed segments: write windows and reveal to disk, then submit the commit of the log.

Shell: waits for the disk and submits; a segment that could not be revealed later is never committed.

    runner --WindowData--> Keeper --Checks.keep_window--> disk
    close ------------------------> Commits: all windows kept? --keep_reveal--> disk --CommitSegment--> ledger
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from swarm.errors import BadConfig, DiskFull, InvalidStatement, Reason, SwarmError
from swarm.events import EventKind
from swarm.ledger.check_statements import RevealSegment
from swarm.ledger.state.records import Run
from swarm.ledger.transactions import CommitSegment
from swarm.ledger.transition.starts import shortened
from swarm.node.ports import HasGenesis, HasLedger, HasReport
from swarm.primitives.commitments import SALT_BYTES
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.edges import SentEntry
from swarm.primitives.state_parts import ANCHOR
from swarm.training.record.segment import SegmentLog
from swarm.training.record.window import WindowData
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.transcript import reveal_of, segment_roots, state_root


def commit_of(log: SegmentLog, run: RunIndex, incarnation: int, salt: bytes) -> CommitSegment:
    """Return the commit of a closed segment (docs/spec/protocol.md section 5)."""
    roots = segment_roots(log, salt)
    return CommitSegment(
        run=run,
        round=log.round,
        stage=log.stage,
        seat=log.seat,
        incarnation=incarnation,
        start=roots.start_root if log.source is None else b"",
        end_root=roots.end_root,
        trace_commit=roots.trace_commit,
        sent_root=roots.sent_root,
        num_steps=roots.num_steps,
        tokens=roots.tokens,
        source=b"" if log.source is None else log.source.root,
        inherited=() if log.source is None else log.source.parts,
        anchor=log.start[ANCHOR] if log.source is not None and log.source.parts else b"",
    )


def state_root_of(components: Sequence[Digest]) -> Digest:
    """Return the root of a state, to compare with the committed one."""
    return state_root(components)


class EvidencePort(Protocol):
    """Keeper of what a checker may ask for: ``swarm.verify.service.Verifier``."""

    async def keep_window(self, run: Run, data: WindowData) -> None:
        """Keep a window of a seat here; raise ``BadConfig`` or ``DiskFull``."""
        ...

    async def keep_reveal(self, body: RevealSegment, sent: Sequence[SentEntry]) -> None:
        """Keep the claims of a segment, and what it sent; raise ``BadConfig`` or ``DiskFull``."""
        ...

    def has_closed(self, key: tuple[RunIndex, RoundIndex, StageIndex, int]) -> bool:
        """Return True if a segment of our own, by run, round, stage and seat, was closed to be committed."""
        ...


class HasEvidence(Protocol):
    """Owner of evidence."""

    @property
    def checks(self) -> EvidencePort:
        """Keeper of windows and reveals."""
        ...


class HasSignature(Protocol):
    """Signer of segments of a run."""

    @property
    def secret(self) -> SecretKey:
        """Key of this node."""
        ...

    @property
    def incarnation(self) -> int:
        """Number of starts of this node."""
        ...

    @property
    def run_index(self) -> RunIndex | None:
        """The run on the ledger; None before it is found."""
        ...


class CommittingNode(HasSignature, HasGenesis, HasLedger, HasEvidence, HasReport, Protocol):
    """Parts of a node that commit segments."""


RESUBMIT_BLOCKS = 4
"""Blocks after which a commit that is not on the ledger is sent again."""
PASSING = frozenset({Reason.FULL, Reason.DUPLICATE})
"""Temporary refusals: no room at the moment, or already on its way. Any other refusal is final."""
WINDOWS_WAITING_MAX = 1
"""Complete windows in memory behind the one being written: training waits rather than fill memory."""


@dataclass(slots=True)
class Pending:
    """Commit on its way to the ledger."""

    body: CommitSegment
    sent_height: int
    is_refusal_reported: bool = False


@dataclass(slots=True)
class _Kept:
    """Progress of writing the windows of one segment."""

    settled: trio.Event = field(default_factory=trio.Event)
    count: int = 0
    failure: SwarmError | None = None


class Keeper:
    """Writer of the windows of one seat, in the order in which they come.

    The seat's runner sends; nothing here waits for the runner, so closing a segment cannot deadlock. The end of
    the channel is the end of the seat; windows sent before are still written.
    """

    def __init__(self, context: HasEvidence, run: Run) -> None:
        self.send, self._receive = trio.open_memory_channel[WindowData](WINDOWS_WAITING_MAX)
        self._context = context
        self._run = run
        self._kept: dict[RoundIndex, _Kept] = {}

    async def serve(self) -> None:
        """Write windows until the seat is left."""
        async with self._receive:
            async for data in self._receive:
                await self._keep(data)

    async def failure(self, round_index: RoundIndex) -> SwarmError | None:
        """Wait until a closed segment's windows are on disk; return the error that prevented it, or None."""
        kept = self._of(round_index)
        await kept.settled.wait()
        del self._kept[round_index]
        return kept.failure

    async def _keep(self, data: WindowData) -> None:
        kept = self._of(data.key.round)
        assert data.key.window == kept.count, "a segment's windows come in order, and all of them"
        kept.count += 1
        if kept.failure is None:
            try:
                await self._context.checks.keep_window(self._run, data)
            except (BadConfig, DiskFull) as error:
                kept.failure = error
        if data.is_last:
            kept.settled.set()

    def _of(self, round_index: RoundIndex) -> _Kept:
        return self._kept.setdefault(round_index, _Kept())


class Commits:
    """Closed segments of this node's seats that the ledger does not have yet."""

    def __init__(self, context: CommittingNode, nursery: trio.Nursery) -> None:
        self.pending: dict[tuple[StageIndex, int, RoundIndex], Pending] = {}
        self._context = context
        self._nursery = nursery
        self._prepared = set[tuple[StageIndex, int, RoundIndex]]()
        """Segments whose windows are not all on the disk yet."""

    def is_under_way(self, stage: StageIndex, index: int, round_: RoundIndex) -> bool:
        """Return True if the commit of a segment may still come to the ledger."""
        key = (stage, index, round_)
        return key in self._prepared or key in self.pending

    def keeper(self, run: Run) -> Keeper:
        """Start and return a writer for the windows of one seat; it runs until its channel is closed."""
        keeper = Keeper(self._context, run)
        self._nursery.start_soon(keeper.serve)
        return keeper

    def begin(self, log: SegmentLog, keeper: Keeper | None) -> None:
        """Commit a closed segment as soon as it can be revealed; without windows there is no ``keeper``."""
        self._prepared.add((log.stage, log.seat, log.round))
        self._nursery.start_soon(self._prepare, log, keeper)

    async def _prepare(self, log: SegmentLog, keeper: Keeper | None) -> None:
        try:
            await self._commit(log, keeper)
        finally:
            self._prepared.discard((log.stage, log.seat, log.round))

    async def _commit(self, log: SegmentLog, keeper: Keeper | None) -> None:
        context = self._context
        assert context.run_index is not None, "a segment belongs to a run"
        run_bytes = context.run_index.to_bytes(4, "big")
        segment_key = b"".join(part.to_bytes(4, "big") for part in (log.round, log.stage, log.seat))
        hidden = (context.secret.seed, context.genesis.chain, run_bytes, segment_key)
        salt = digest("trace-salt", *hidden)[:SALT_BYTES]
        failure = None if keeper is None else await keeper.failure(log.round)
        if failure is None:
            try:
                reveal = reveal_of(log, context.run_index, salt)
                await context.checks.keep_reveal(reveal, log.sent)
            except (BadConfig, DiskFull) as error:
                failure = error
        if failure is not None:
            self._tell_unkept(log, failure)
            return
        body = commit_of(log, context.run_index, context.incarnation, salt)
        key = (log.stage, log.seat, log.round)
        self.pending[key] = Pending(body, context.ledger.height)
        if not await self._submit(self.pending[key]):
            del self.pending[key]
            return
        work = f"took {log.num_steps} steps, {log.tokens:,} tokens"
        if log.loss_micro >= 0:
            work += f", loss {log.loss_micro / 1e6:.3f}"
        if not log.num_steps:
            work = "averaged with its partner, without a step"
        context.report(
            EventKind.COMMITTED,
            f"round {log.round}: stage {log.stage} {work}",
            round=log.round,
            stage=log.stage,
            seat=log.seat,
            steps=log.num_steps,
            tokens=log.tokens,
            loss_micro=log.loss_micro,
        )

    def _tell_unkept(self, log: SegmentLog, failure: SwarmError) -> None:
        hint = f"; try: {failure.hint}" if failure.hint else ""
        self._context.report(
            EventKind.WARNING,
            f"round {log.round} of stage {log.stage} is not committed: it could not be shown to a peer that"
            f" checks it: {failure}{hint}",
            round=log.round,
            stage=log.stage,
            seat=log.seat,
        )

    async def _submit(self, pending: Pending) -> bool:
        """Send a commit; return False if the ledger will never take it, which is reported once."""
        body, state = pending.body, self._context.ledger.state
        try:
            await self._context.ledger.submit(shortened(state.run(body.run), body))
        except InvalidStatement as error:
            if error.reason is not Reason.DUPLICATE and not pending.is_refusal_reported:
                pending.is_refusal_reported = True
                self._context.report(
                    EventKind.WARNING,
                    f"segment of round {body.round} of stage {body.stage} not accepted: {error}",
                )
            return error.reason in PASSING
        return True

    async def resubmit(self, run: Run) -> None:
        """Send again the commits that the ledger should have by now; forget those it has or never will."""
        height = self._context.ledger.height
        kept = {info.round for info in run.rounds}
        for key, pending in list(self.pending.items()):
            stage, index, round_index = key
            known = self._context.ledger.state.segment(run.index, round_index, stage, index)
            is_over = known is not None or round_index not in kept
            if not is_over and height - pending.sent_height >= RESUBMIT_BLOCKS:
                pending.sent_height = height
                is_over = not await self._submit(pending)
            if is_over:
                del self.pending[key]
