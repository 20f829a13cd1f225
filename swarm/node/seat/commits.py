"""The way of a closed segment: its windows to the disk, its reveal behind them, its commit to the ledger.

Shell: waits for the disk and submits; a segment that could not be shown later is never committed.

    runner --WindowData--> Keeper --Checks.keep_window--> disk
    close ------------------------> Commits: all windows kept? --keep_reveal--> disk --CommitSegment--> ledger

Turn what a seat wrote down into what the ledger is told.

pure functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from swarm.errors import BadConfig, DiskFull, InvalidStatement, Reason, SwarmError
from swarm.events import EventKind
from swarm.ledger.state.records import Run
from swarm.ledger.transactions import CommitSegment
from swarm.node.context import NodeContext
from swarm.primitives.crypto import digest
from swarm.training.record.segment import SegmentLog
from swarm.training.record.window import WindowData
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.transcript import Counts, reveal_of, segment_roots, state_root


def commit_of(log: SegmentLog, run: RunIndex, incarnation: int, salt: bytes) -> CommitSegment:
    """The commit of a closed segment (docs/spec/protocol.md section 5)."""
    roots = segment_roots(log, salt)
    return CommitSegment(
        run=run,
        round=log.round,
        stage=log.stage,
        seat=log.seat,
        incarnation=incarnation,
        start_root=roots.start_root,
        end_root=roots.end_root,
        trace_commit=roots.trace_commit,
        inbox_root=roots.inbox_root,
        outbox_root=roots.outbox_root,
        gossip_root=roots.gossip_root,
        num_steps=roots.num_steps,
        tokens=roots.tokens,
    )


def state_root_of(components: Sequence[Digest]) -> Digest:
    """The root of a state, to compare with what was committed."""
    return state_root(components)


RESUBMIT_BLOCKS = 4
"""A commit that is not on the ledger after this many blocks is sent again."""
PASSING = frozenset({Reason.FULL, Reason.DUPLICATE})
"""Refusals that time mends: no room on the way, or still on the way. After any other the commit is dead."""
WINDOWS_WAITING_MAX = 1
"""Complete windows in memory behind the one on its way to the disk: training waits rather than fill it."""


@dataclass(slots=True)
class Pending:
    """A commit on its way to the ledger."""

    body: CommitSegment
    sent_height: int
    is_refusal_told: bool = False


@dataclass(slots=True)
class _Kept:
    """How far the windows of one segment are."""

    settled: trio.Event = field(default_factory=trio.Event)
    count: int = 0
    failure: SwarmError | None = None


class Keeper:
    """Brings the windows of one seat to the disk, in the order in which they come.

    The seat's runner sends; nothing here waits for the runner, so closing a segment cannot lock up. The end
    of the channel is the end of the seat: what was sent before is kept all the same.
    """

    def __init__(self, context: NodeContext, run: Run) -> None:
        self.send, self._receive = trio.open_memory_channel[WindowData](WINDOWS_WAITING_MAX)
        self._context = context
        self._run = run
        self._kept: dict[RoundIndex, _Kept] = {}

    async def serve(self) -> None:
        """Keep what comes until the seat is left."""
        async with self._receive:
            async for data in self._receive:
                await self._keep(data)

    async def failure(self, round_index: RoundIndex) -> SwarmError | None:
        """Wait until every window of a closed segment is on the disk; what kept it from that, or None."""
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
    """What this node's seats have closed, and the ledger does not have yet."""

    def __init__(self, context: NodeContext, nursery: trio.Nursery) -> None:
        self.pending: dict[tuple[StageIndex, int, RoundIndex], Pending] = {}
        self._context = context
        self._nursery = nursery

    def keeper(self, run: Run) -> Keeper:
        """Somebody who keeps the windows of one seat until its channel is closed."""
        keeper = Keeper(self._context, run)
        self._nursery.start_soon(keeper.serve)
        return keeper

    def begin(self, log: SegmentLog, counts: tuple[Counts, Counts], keeper: Keeper | None) -> None:
        """Commit a closed segment as soon as it can be shown.

        ``counts`` are the tokens of its first and its last state; ``keeper`` is None in a run without windows.
        """
        self._nursery.start_soon(self._commit, log, counts, keeper)

    async def _commit(
        self, log: SegmentLog, counts: tuple[Counts, Counts], keeper: Keeper | None
    ) -> None:
        context = self._context
        assert context.run_index is not None, "a segment belongs to a run"
        run_bytes = context.run_index.to_bytes(4, "big")
        place = b"".join(part.to_bytes(4, "big") for part in (log.round, log.stage, log.seat))
        salt = digest("trace-salt", context.secret.seed, context.genesis.chain, run_bytes, place)
        failure = None if keeper is None else await keeper.failure(log.round)
        if failure is None:
            try:
                reveal = reveal_of(log, context.run_index, salt, counts)
                await context.checks.keep_reveal(reveal)
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
        work = f"took {log.num_steps} steps, {log.tokens:,} tokens, loss {log.loss_micro / 1e6:.3f}"
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
            f"round {log.round} of stage {log.stage} is not committed, for it could not be shown to who"
            f" checks it: {failure}{hint}",
            round=log.round,
            stage=log.stage,
            seat=log.seat,
        )

    async def _submit(self, pending: Pending) -> bool:
        """Send a commit; False if the ledger will never take it, which is said once."""
        body = pending.body
        try:
            await self._context.ledger.submit(body)
        except InvalidStatement as error:
            if error.reason is not Reason.DUPLICATE and not pending.is_refusal_told:
                pending.is_refusal_told = True
                self._context.report(
                    EventKind.WARNING,
                    f"segment of round {body.round} of stage {body.stage} not accepted: {error}",
                )
            return error.reason in PASSING
        return True

    async def resubmit(self, run: Run) -> None:
        """Send again what the ledger should have by now; forget what it has or never will."""
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
