"""Manage the seats of this node: take them, move them from round to round, trade, leave.

Shell: carries out what ``node/control/planner.py`` decides; one lock per seat keeps its rounds in order.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

import trio
from torch import Tensor

from swarm.errors import DeviceLost, Unreachable
from swarm.events import EventKind
from swarm.ledger.state.records import RoundInfo, Run, Seat
from swarm.ledger.transition.rollbacks import anew_round
from swarm.ledger.views import is_lasting
from swarm.node.artifacts.checkpoints import ClosedSegment
from swarm.node.artifacts.text import TextArtifacts, token_source
from swarm.node.control.planner import (
    BeginRound,
    CloseRound,
    LeaveSeat,
    LocalSeat,
    TakeSeat,
    TradeFragment,
    may_be_drawn,
)
from swarm.node.launch.sizing import keeps_windows
from swarm.node.ports import (
    HasBlobs,
    HasCompute,
    HasConfig,
    HasGenesis,
    HasHome,
    HasHost,
    HasLedger,
    HasMe,
    HasReport,
    HasRun,
    HasStats,
    WeightsPort,
)
from swarm.node.seat.adoption import keep_shard
from swarm.node.seat.commits import Commits, HasEvidence, HasSignature, Keeper
from swarm.node.seat.compute import HasDevices, step_down
from swarm.node.seat.start import find_shard
from swarm.node.seat.trade import HasTrades, trade
from swarm.training.pipeline import Pipeline
from swarm.training.seat import SeatWorker
from swarm.training.shard import Shard
from swarm.training.terms import Catching, catching_up, lag_rounds
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.round_plan import round_plan

CLOSED_KEPT = 3
"""Closed segments whose phi is held: the draw may select it until two boundaries later."""
LOSSES_MAX = 500
"""Points of the loss curve that are kept."""


def _scope() -> trio.CancelScope:
    return trio.move_on_after(math.inf)


@dataclass(slots=True)
class RunningSeat:
    """Seat that this node holds, with its runner and its progress."""

    seat: Seat
    runner: SeatWorker | None = None
    keeper: Keeper | None = None
    """Writer of its windows; None in a run whose windows cannot be replayed."""
    round_index: RoundIndex | None = None
    current: int = 0
    """Round of its state: the one in which it was found, or closed its last segment."""
    lock: trio.Lock = field(default_factory=trio.Lock)
    scope: trio.CancelScope = field(default_factory=_scope)
    is_shown: bool = True
    """True if the open segment can be replayed, so that it is committed: its anchor stays on the ledger."""
    saved_anchor: Digest = NO_DIGEST
    """Root of the anchor that the shard on disk names."""
    trained: list[RoundIndex] = field(default_factory=list[RoundIndex])
    """Rounds of the segments that its state goes on from, but for those that the ledger has."""


class SeatArtifacts(WeightsPort, TextArtifacts, Protocol):
    """Weights and texts of a run: ``ArtifactCache``."""


class SeatsNode(
    HasMe,
    HasHome,
    HasConfig,
    HasRun,
    HasSignature,
    HasGenesis,
    HasHost,
    HasLedger,
    HasEvidence,
    HasTrades,
    HasBlobs,
    HasCompute,
    HasDevices,
    HasStats,
    HasReport,
    Protocol,
):
    """Parts of a node that its seats use."""

    @property
    def artifacts(self) -> SeatArtifacts:
        """Weights and texts of the run."""
        ...

    @property
    def pipeline(self) -> Pipeline:
        """Carrier of micro-batches between stages."""
        ...


class Seats:
    """Seats of this node."""

    def __init__(self, context: SeatsNode, nursery: trio.Nursery) -> None:
        self.live: dict[tuple[StageIndex, int], RunningSeat] = {}
        self.commits = Commits(context, nursery)
        self._closed: dict[tuple[StageIndex, int], list[ClosedSegment]] = {}
        """Closed segments by seat, also of seats that were left: the beacon may draw them for the checkpoint of
        the boundary that ended them."""
        self._begun: set[tuple[RunIndex, RoundIndex, StageIndex, int]] = set()
        """Segments that were begun in this process, by run, round, stage and seat."""
        self._context = context
        self._nursery = nursery
        self._hashed_s = 0.0
        """Processor seconds spent on hashing by the seats that were left."""

    def locals(self) -> tuple[LocalSeat, ...]:
        """Return the state of each seat as ``duties`` needs it."""
        return tuple(
            LocalSeat(
                stage,
                index,
                live.round_index,
                is_ready=live.runner is not None,
                is_open=live.runner is not None and live.runner.log is not None,
            )
            for (stage, index), live in sorted(self.live.items())
        )

    def anchors(self) -> set[Digest] | None:
        """Return the checkpoints our shards refer to, in memory or saved; None while a seat is prepared."""
        runners = [live.runner for live in self.live.values()]
        found = {runner.shard.anchor_root for runner in runners if runner is not None}
        saved = {live.saved_anchor for live in self.live.values()}
        return None if None in runners else found | saved

    def hashing_s(self) -> float:
        """Return the processor seconds spent on hashing states since the start."""
        held = (live.runner.shard.hashing_s for live in self.live.values() if live.runner)
        return self._hashed_s + sum(held)

    def open_loss(self) -> float | None:
        """Return the mean training loss of the open segments in nats; None before their first micro-batch."""
        runners = (live.runner for live in self.live.values())
        logs = [runner.log for runner in runners if runner is not None and runner.log is not None]
        count = sum(log.loss_count for log in logs)
        return sum(log.loss_sum_micro for log in logs) / 1e6 / count if count else None

    # --- taking and leaving ---

    def take(self, duty: TakeSeat) -> None:
        """Start preparing a seat; it becomes ready when its shard and data are here."""
        live = RunningSeat(duty.seat, current=duty.info.round)
        self.live[duty.seat.stage, duty.seat.index] = live
        self._nursery.start_soon(self._prepare, live)

    async def _prepare(self, live: RunningSeat) -> None:
        context, seat = self._context, live.seat
        run = context.run
        assert run is not None, "a seat belongs to a run"
        with live.scope:
            try:
                tokens = await token_source(context, run)
                shard, came_from = await find_shard(context, run, seat)
            except Unreachable as error:
                context.report(EventKind.WARNING, f"seat {seat.stage}/{seat.index}: {error}")
                if isinstance(error, DeviceLost):
                    step_down(context, str(error))
                self.live.pop((seat.stage, seat.index), None)
                return
            live.keeper = self.commits.keeper(run) if keeps_windows(run.spec) else None
            runner = SeatWorker(
                shard,
                seat.index,
                tokens=tokens,
                compute=context.compute,
                forward=context.pipeline.forward,
                incarnation=context.incarnation,
                windows=live.keeper.send if live.keeper is not None else None,
            )
            context.pipeline.add(runner)
            live.runner = runner
            context.report(
                EventKind.SEAT_TAKEN,
                f"sits in stage {seat.stage} as replica {seat.index}, starting from {came_from}",
                stage=seat.stage,
                seat=seat.index,
            )
            try:
                await runner.run()
            finally:
                shard.engine.close()

    async def leave(self, duty: LeaveSeat) -> None:
        """Close and commit the open segment, then free the seat."""
        live = self.live.get((duty.stage, duty.index))
        if live is None:
            return
        async with live.lock:
            if self.live.get((duty.stage, duty.index)) is not live:
                return  # already left by an earlier call
            if live.runner is not None and live.runner.log is not None:
                await self._close(live, live.runner)
            self._drop(live)
        self._context.report(
            EventKind.SEAT_YIELDED, f"left stage {duty.stage}, replica {duty.index}"
        )

    def _drop(self, live: RunningSeat) -> None:
        """Free a seat and its shard."""
        live.scope.cancel()
        if live.runner is not None:
            self._context.pipeline.remove(live.runner)
            self._hashed_s += live.runner.shard.hashing_s
        if live.keeper is not None:
            live.keeper.send.close()  # windows already sent are still written
        del self.live[live.seat.stage, live.seat.index]

    # --- rounds ---

    async def close(self, duty: CloseRound) -> None:
        """Close and commit the open segment; the seat stays, and waits for the next round."""
        live = self.live.get((duty.stage, duty.index))
        if live is None or live.runner is None:
            return
        async with live.lock:
            if live.runner.log is not None:
                await self._close(live, live.runner)

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
            is_left = self.live.get((duty.stage, duty.index)) is not live
            if run is None or is_left or live.round_index != duty.info.round:
                return
            if not self._may_begin(run, live, duty.info):
                return
            if _is_outdated(run, live, duty.info) or self._is_lost(run, live):
                self._drop(live)
                return  # the seat is taken again, and begins from another state
            if not self._computes(runner.shard):
                self._drop(live)
                return
            await self._check_anchor(live, runner.shard, run, duty.info)
            anchor = await self._anchor(runner.shard, run, duty.info)
            plan = round_plan(run, duty.info, self._context.genesis.chain)
            await runner.begin_round(plan, anchor, is_shown=live.is_shown)

    def _may_begin(self, run: Run, live: RunningSeat, info: RoundInfo) -> bool:
        """Return False for a round that this seat was in before, in this process or before it started again.

        What it would send now would contradict the list of what it sent then, and cost its stake.
        """
        key = (run.index, info.round, live.seat.stage, live.seat.index)
        if key in self._begun or self._context.checks.has_closed(key):
            return False
        self._begun.add(key)
        return True

    def _is_lost(self, run: Run, live: RunningSeat) -> bool:
        """Return True if the ledger will never have a segment that a seat goes on from."""
        seat, roster = live.seat, run.seats[live.seat.stage] if run.seats else ()
        held = (one.last_commit_round for one in roster if one.index == seat.index)
        newest = max(held, default=-1)
        live.trained = [round_ for round_ in live.trained if round_ > newest]
        ways = (self.commits.is_under_way(seat.stage, seat.index, r) for r in live.trained)
        return not all(ways)

    def _computes(self, shard: Shard) -> bool:
        """Report the notices of a seat's devices; if none is left, step down and return False."""
        notices = shard.engine.notices
        while notices:
            self._context.report(EventKind.WARNING, notices.popleft(), stage=shard.stage)
        if shard.engine.is_gone:
            step_down(self._context, "no device is left")
        return not shard.engine.is_gone

    async def _check_anchor(
        self, live: RunningSeat, shard: Shard, run: Run, info: RoundInfo
    ) -> None:
        """Let a segment be trained, but not committed, whose anchor is so old that the ledger forgets it.

        Its checkers would find no such checkpoint and convict an honest solver. What it trains is on the ledger
        nowhere, so the seat begins again after it, with a newer anchor.
        """
        listed = run.checkpoints[shard.stage]
        initial_root = run.spec.starts[shard.stage].weights
        is_sound = is_lasting(listed, info.height, shard.anchor_root, initial_root)
        live.is_shown = is_sound or live.keeper is None  # a segment without windows is not judged
        if not live.is_shown:
            self._context.report(
                EventKind.WARNING,
                f"stage {shard.stage}: the checkpoint that replica {live.seat.index} trades against is older"
                " than the ledger lists; this round is not committed, and the seat begins again"
                " after it",
                stage=shard.stage,
                seat=live.seat.index,
            )

    async def _anchor(
        self, shard: Shard, run: Run, info: RoundInfo
    ) -> tuple[Tensor, Digest] | None:
        """Return the canonical checkpoint final at the boundary, if it is new and on this disk, else None."""
        for checkpoint in run.standing(shard.stage):
            if checkpoint.height <= info.height:
                is_old = checkpoint.phi_root == shard.anchor_root
                if is_old or not self._context.blobs.has(checkpoint.phi_root):
                    return None
                phi_P = await self._context.artifacts.checkpoint(run, shard.stage, checkpoint)
                return phi_P, checkpoint.phi_root
        return None

    async def _close(self, live: RunningSeat, runner: SeatWorker) -> None:
        context = self._context
        log = await runner.close_round()
        live.current = log.round
        phi_P = await runner.jobs.phi()
        kept = self._closed.setdefault((live.seat.stage, live.seat.index), [])
        kept.append(ClosedSegment(log.round, log.end, phi_P))
        del kept[:-CLOSED_KEPT]
        if log.loss_count:
            losses = context.stats.losses
            losses.append((log.round, log.loss_micro / 1e6))
            del losses[:-LOSSES_MAX]
        if log.records:
            live.trained.append(log.round)
        if log.records and live.is_shown:
            self.commits.begin(log, live.keeper)
            run = context.run
            assert run is not None, "a segment belongs to a run"
            anchor_root = runner.shard.anchor_root
            await keep_shard(context, run, live.seat, runner.shard, log.round)
            live.saved_anchor = anchor_root

    def closed(self, stage: StageIndex, index: int, round_: RoundIndex) -> ClosedSegment | None:
        """Return the data of a closed segment, also of a seat that was left; None if it is not held."""
        kept = self._closed.get((stage, index), ())
        return next((part for part in kept if part.round == round_), None)

    def tidy(self, run: Run) -> None:
        """Drop closed segments whose phi cannot be asked for any more."""
        height = self._context.ledger.height
        for (stage, index), kept in list(self._closed.items()):
            kept[:] = [part for part in kept if may_be_drawn(run, height, stage, index, part.round)]
            if not kept:
                del self._closed[stage, index]

    async def trade(self, duty: TradeFragment) -> None:
        """Take one outer step of one fragment, with the partner if it answers."""
        live = self.live.get((duty.stage, duty.index))
        if live is not None and live.runner is not None:
            await trade(self._context, live.runner, duty)


def _is_outdated(run: Run, live: RunningSeat, info: RoundInfo) -> bool:
    """Return True if a seat must begin from another state: it is too far behind, or was rolled back."""
    behind = lag_rounds(live.current, info.round - 1)
    anew = anew_round(run, live.seat.stage, live.seat.index)
    is_set_back = live.current < anew <= info.round
    return is_set_back or catching_up(behind) is Catching.ADOPT
