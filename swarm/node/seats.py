"""The seats this node sits in: taken, moved from round to round, traded for, left.

Shell: carries out what ``duties`` asks; one lock per seat keeps its rounds in order.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import trio
from torch import Tensor

from swarm.crypto import digest
from swarm.errors import Corrupt, InvalidStatement, Unreachable
from swarm.events import EventKind
from swarm.ledger.records import RoundInfo, Run, Seat
from swarm.ledger.transactions import CommitSegment
from swarm.node.checkpoints import (
    ClosedSegment,
    anchor_of,
    newest,
    pull,
    stage_parameters,
)
from swarm.node.context import Context
from swarm.node.datasets import token_source
from swarm.node.duties import BeginRound, LeaveSeat, LocalSeat, TakeSeat, TradeFragment
from swarm.node.recorder import commit_of, state_root_of
from swarm.node.trading import trade
from swarm.training.checkpoint import decode_shard
from swarm.training.resume import resume_shard, save_shard
from swarm.training.round_plan import RosterSeat, RoundPlan
from swarm.training.runner import SeatRunner
from swarm.training.segment import SegmentLog
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest, RoundIndex, StageIndex

RESUME_ROUNDS_MAX = 3
"""A saved shard older than this many rounds is left for the canonical checkpoint."""
CLOSED_KEPT = 3
"""Closed segments whose phi is held: the draw may ask for it until two boundaries later."""
LOSSES_MAX = 500
"""Points of the loss curve that are kept."""
RESUBMIT_BLOCKS = 4
"""A commit that is not on the ledger after this many blocks is sent again."""


def _scope() -> trio.CancelScope:
    return trio.move_on_after(math.inf)


@dataclass(slots=True)
class Live:
    """One seat of ours."""

    seat: Seat
    runner: SeatRunner | None = None
    round_index: RoundIndex | None = None
    lock: trio.Lock = field(default_factory=trio.Lock)
    scope: trio.CancelScope = field(default_factory=_scope)
    closed: list[ClosedSegment] = field(default_factory=list[ClosedSegment])
    saved_anchor: Digest = NO_DIGEST
    """The anchor that the shard on disk names."""


@dataclass(slots=True)
class Pending:
    """A commit on its way to the ledger."""

    body: CommitSegment
    sent_height: int


class Seats:
    """All seats of this node."""

    def __init__(self, context: Context, nursery: trio.Nursery) -> None:
        self.live: dict[tuple[StageIndex, int], Live] = {}
        self.pending: dict[tuple[StageIndex, int, RoundIndex], Pending] = {}
        self._context = context
        self._nursery = nursery
        self._folder = context.home / "seats"

    def locals(self) -> tuple[LocalSeat, ...]:
        """What ``duties`` wants to know of them."""
        return tuple(
            LocalSeat(stage, index, live.round_index, is_ready=live.runner is not None)
            for (stage, index), live in sorted(self.live.items())
        )

    def anchors(self) -> set[Digest] | None:
        """The checkpoints our shards refer to, in memory or saved; None while a seat is being prepared."""
        runners = [live.runner for live in self.live.values()]
        found = {runner.shard.anchor_root for runner in runners if runner is not None}
        saved = {live.saved_anchor for live in self.live.values()}
        return None if None in runners else found | saved

    def hashing_s(self) -> float:
        """Processor seconds spent on hashing states, over the seats held now."""
        return sum(live.runner.shard.hashing_s for live in self.live.values() if live.runner)

    # --- taking and leaving ---

    def take(self, duty: TakeSeat) -> None:
        """Start preparing a seat; it becomes ready when its shard and data are here."""
        live = Live(duty.seat)
        self.live[duty.seat.stage, duty.seat.index] = live
        self._nursery.start_soon(self._prepare, live)

    async def _prepare(self, live: Live) -> None:
        context, seat = self._context, live.seat
        run = context.run
        assert run is not None, "a seat belongs to a run"
        with live.scope:
            try:
                tokens = await token_source(context, run.spec)
                shard, came_from = await self._shard(run, seat)
            except Unreachable as error:
                context.report(EventKind.WARNING, f"seat {seat.stage}/{seat.index}: {error}")
                self.live.pop((seat.stage, seat.index), None)
                return
            runner = SeatRunner(
                shard,
                seat.index,
                tokens=tokens,
                compute=context.compute,
                forward=context.pipeline.forward,
                incarnation=context.incarnation,
            )
            context.pipeline.add(runner)
            live.runner = runner
            context.report(
                EventKind.SEAT_TAKEN,
                f"sits in stage {seat.stage} as replica {seat.index}, starting from {came_from}",
                stage=seat.stage,
                seat=seat.index,
            )
            await runner.run()

    async def _shard(self, run: Run, seat: Seat) -> tuple[Shard, str]:
        """Our own saved shard if it is fresh and the one we committed; else the canonical one."""
        context = self._context
        newest_round = run.rounds[-1].round if run.rounds else 0
        if seat.last_commit_round >= max(newest_round - RESUME_ROUNDS_MAX, 0):
            try:
                shard = await self._saved(run, seat)
            except (Corrupt, Unreachable) as error:
                context.report(EventKind.WARNING, f"the saved shard cannot be used: {error}")
            else:
                if shard is not None:
                    return shard, f"its own state of round {seat.last_commit_round}"
        phi_P, _, boundary = await newest(context, seat.stage)
        shard = await context.compute.run(Shard, run.spec, seat.stage, phi_P, time.thread_time)
        return shard, f"the checkpoint of round {boundary}" if boundary else "the initial weights"

    async def _saved(self, run: Run, seat: Seat) -> Shard | None:
        """The shard on this disk, if it is the one the ledger has the root of."""
        context = self._context
        data = await trio.to_thread.run_sync(_read, self._file(seat))
        if not data:
            return None
        numel = stage_parameters(context, seat.stage)
        saved = await context.compute.run(decode_shard, data, numel)
        anchor_P = await anchor_of(context, seat.stage, saved.anchor_root)
        shard = await context.compute.run(resume_shard, run.spec, saved, anchor_P, time.thread_time)
        root = state_root_of(await context.compute.run(shard.components))
        return shard if root == seat.last_end_root else None

    async def leave(self, duty: LeaveSeat) -> None:
        """Close and commit what is open, then free the seat."""
        live = self.live.get((duty.stage, duty.index))
        if live is None:
            return
        async with live.lock:
            if live.runner is not None and live.runner.log is not None:
                await self._close(live, live.runner)
            live.scope.cancel()
            if live.runner is not None:
                self._context.pipeline.remove(live.runner)
        self.live.pop((duty.stage, duty.index), None)
        self._context.report(
            EventKind.SEAT_YIELDED, f"left stage {duty.stage}, replica {duty.index}"
        )

    # --- rounds ---

    async def begin(self, duty: BeginRound) -> None:
        """Close the open segment, commit it, and open the next."""
        live = self.live.get((duty.stage, duty.index))
        if live is None or live.runner is None:
            return
        live.round_index = duty.info.round
        async with live.lock:
            runner = live.runner
            if runner.log is not None:
                await self._close(live, runner)
            run = self._context.run
            if run is None or live.round_index != duty.info.round:
                return
            anchor = await self._anchor(runner.shard, run, duty.info)
            plan = round_plan(run, duty.info, self._context.genesis.chain)
            await runner.begin_round(plan, anchor)

    async def _anchor(
        self, shard: Shard, run: Run, info: RoundInfo
    ) -> tuple[Tensor, Digest] | None:
        """The canonical checkpoint that was final at the boundary, when it is new and on this disk."""
        for checkpoint in run.checkpoints[shard.stage]:
            if checkpoint.height <= info.height:
                is_old = checkpoint.phi_root == shard.anchor_root
                if is_old or not self._context.blobs.has(checkpoint.phi_root):
                    return None
                return await pull(self._context, shard.stage, checkpoint), checkpoint.phi_root
        return None

    async def _close(self, live: Live, runner: SeatRunner) -> None:
        context = self._context
        log = await runner.close_round()
        phi_P = await context.compute.run(runner.shard.phi)
        live.closed = [*live.closed, ClosedSegment(log.round, log.end, phi_P)][-CLOSED_KEPT:]
        if log.loss_count:
            losses = context.tally.losses
            losses.append((log.round, log.loss_micro / 1e6))
            del losses[:-LOSSES_MAX]
        if log.num_steps:
            await self._commit(log, live)
            seat = live.seat
            assert context.run is not None, "a segment belongs to a run"
            saved = await context.compute.run(
                save_shard, runner.shard, context.run.spec_digest, seat.index, log.round
            )
            saved_anchor = runner.shard.anchor_root
            await trio.to_thread.run_sync(_write, self._file(live.seat), saved)
            live.saved_anchor = saved_anchor

    async def _commit(self, log: SegmentLog, live: Live) -> None:
        context = self._context
        assert context.run_index is not None, "a segment belongs to a run"
        run_bytes = context.run_index.to_bytes(4, "big")
        place = b"".join(part.to_bytes(4, "big") for part in (log.round, log.stage, log.seat))
        salt = digest("trace-salt", context.secret.seed, context.genesis.chain, run_bytes, place)
        body = commit_of(log, context.run_index, context.incarnation, salt)
        key = (log.stage, log.seat, log.round)
        self.pending[key] = Pending(body, context.ledger.height)
        await self._submit(body)
        context.report(
            EventKind.COMMITTED,
            f"round {log.round}: stage {log.stage} took {log.num_steps} steps,"
            f" {log.tokens:,} tokens, loss {log.loss_micro / 1e6:.3f}",
            round=log.round,
            stage=log.stage,
            seat=live.seat.index,
            steps=log.num_steps,
            tokens=log.tokens,
            loss_micro=log.loss_micro,
        )

    async def _submit(self, body: CommitSegment) -> None:
        try:
            await self._context.ledger.submit(body)
        except InvalidStatement as error:
            self._context.report(
                EventKind.WARNING, f"segment of round {body.round} not accepted: {error}"
            )

    async def resubmit(self, run: Run) -> None:
        """Send again what the ledger should have by now; forget what it has or never will."""
        height = self._context.ledger.height
        kept = {info.round for info in run.rounds}
        for key, pending in list(self.pending.items()):
            stage, index, round_index = key
            known = self._context.ledger.state.segment(run.index, round_index, stage, index)
            if known is not None or round_index not in kept:
                del self.pending[key]
            elif height - pending.sent_height >= RESUBMIT_BLOCKS:
                pending.sent_height = height
                await self._submit(pending.body)

    def closed(self, stage: StageIndex, index: int, round_: RoundIndex) -> ClosedSegment | None:
        """What is held of a closed segment."""
        live = self.live.get((stage, index))
        if live is None:
            return None
        return next((part for part in live.closed if part.round == round_), None)

    async def trade(self, duty: TradeFragment) -> None:
        """Take one outer step of one fragment, with the partner if it answers."""
        live = self.live.get((duty.stage, duty.index))
        if live is not None and live.runner is not None:
            await trade(self._context, live.runner, duty)

    def _file(self, seat: Seat) -> Path:
        return self._folder / f"{self._context.run16.hex()}-{seat.stage}-{seat.index}.bin"


def round_plan(run: Run, info: RoundInfo, chain: Digest) -> RoundPlan:
    """What training reads of a round."""
    return RoundPlan(
        chain=chain,
        run=run.index,
        run_digest=run.spec_digest,
        spec=run.spec,
        round=info.round,
        beacon=info.beacon,
        rosters=tuple(
            tuple(RosterSeat(seat.index, seat.peer, seat.last_tokens) for seat in roster)
            for roster in info.seats
        ),
    )


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _write(path: Path, data: bytes) -> None:
    """Replace a file at once: a crash leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_bytes(data)
    draft.replace(path)
