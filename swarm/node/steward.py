"""Ask what is due after every block, and see that it is done.

Shell: folds events into knowledge, hands duties out, waits for none of them.
"""

from collections.abc import Awaitable, Callable

import trio

from swarm.errors import BadConfig, InvalidStatement, Unreachable
from swarm.events import EventKind
from swarm.ledger.records import Run
from swarm.ledger.transactions import Join
from swarm.node import checkpoints
from swarm.node.context import Context
from swarm.node.duties import (
    ENDED,
    AskToJoin,
    BeginRound,
    Duty,
    FetchCheckpoint,
    Known,
    LeaveSeat,
    PostCheckpoint,
    TakeSeat,
    TradeFragment,
    next_duties,
)
from swarm.node.seats import Seats
from swarm.types import RoundIndex, StageIndex

LOOK_S = 2.0
"""Duties are looked for at least this often, block or no block."""
JOIN_RETRY_BLOCKS = 5
POSTED_ROUNDS = 8
"""Longer than the ledger asks for a checkpoint."""
RATE_S = 5.0
"""Tokens per second are measured over this long."""


class Steward:
    """One node's conscience."""

    def __init__(self, context: Context, nursery: trio.Nursery) -> None:
        self.seats = Seats(context, nursery)
        self._context = context
        self._nursery = nursery
        self._trades: set[tuple[StageIndex, int, RoundIndex, int]] = set()
        self._posted: set[tuple[StageIndex, RoundIndex]] = set()
        self._fetching: set[tuple[StageIndex, RoundIndex]] = set()
        self._joined_at = -JOIN_RETRY_BLOCKS
        self._round: int | None = None
        self._finished = False

    async def serve(self) -> None:
        """Do duties until cancelled."""
        blocks = self._context.ledger.subscribe()
        self._nursery.start_soon(self._measure)
        while True:
            run = self._context.run
            if run is not None:
                await self._look(run)
            with trio.move_on_after(LOOK_S):
                await blocks.receive()

    async def _look(self, run: Run) -> None:
        self._tell(run)
        for duty in next_duties(self._known(run)):
            self._do(duty)
        await self.seats.resubmit(run)

    def _known(self, run: Run) -> Known:
        context = self._context
        height = context.ledger.height
        final = [
            (seat.stage, seat.index, info.round)
            for info in run.rounds
            for roster in info.seats
            for seat in roster
            if seat.peer == context.me
            and context.ledger.state.segment(run.index, info.round, seat.stage, seat.index)
        ]
        held = [(stage, RoundIndex(round_)) for stage, round_ in context.checkpoints_held.items()]
        return Known(
            me=context.me,
            run=run,
            height=height,
            is_solver=context.config.solve,
            is_archive=run.owner == context.me or not context.config.solve,
            is_joining=height - self._joined_at < JOIN_RETRY_BLOCKS,
            seats=self.seats.locals(),
            trades_begun=frozenset(self._trades),
            commits_final=frozenset(final),
            checkpoints_posted=frozenset(self._posted),
            checkpoints_held=frozenset([*held, *self._fetching]),
        )

    def _do(self, duty: Duty) -> None:
        """Note that a duty is under way, so that it is not given again, and start it."""
        start = self._nursery.start_soon
        match duty:
            case AskToJoin():
                self._joined_at = self._context.ledger.height
                start(self._join)
            case TakeSeat():
                self.seats.take(duty)
            case LeaveSeat():
                start(self._guarded, self.seats.leave, duty)
            case BeginRound():
                live = self.seats.live[duty.stage, duty.index]
                live.round_index = duty.info.round
                start(self._guarded, self.seats.begin, duty)
            case TradeFragment():
                self._trades.add((duty.stage, duty.index, duty.round_index, duty.fragment))
                start(self._guarded, self.seats.trade, duty)
            case PostCheckpoint():
                self._posted.add((duty.stage, duty.round_index))
                start(self._post, duty)
            case FetchCheckpoint():
                self._fetching.add((duty.stage, duty.checkpoint.round))
                start(self._fetch, duty)

    async def _guarded(self, act: "Callable[[Duty], Awaitable[None]]", duty: Duty) -> None:
        """The network may fail a duty; the next round brings the next."""
        try:
            await act(duty)
        except Unreachable as error:
            self._context.report(EventKind.WARNING, f"{type(duty).__name__}: {error}")

    async def _join(self) -> None:
        run = self._context.run
        if run is None:
            return
        try:
            await self._context.ledger.submit(Join(run.index))
        except (InvalidStatement, Unreachable) as error:
            self._context.report(EventKind.WARNING, f"could not ask for a seat yet: {error}")
        else:
            self._context.report(EventKind.PROGRESS, "asked the ledger for a seat")

    async def _post(self, duty: PostCheckpoint) -> None:
        before = RoundIndex(duty.round_index - 1)
        closed = self.seats.closed(duty.stage, duty.index, before)
        if closed is not None:
            await checkpoints.post_quietly(
                self._context, duty.stage, duty.index, duty.round_index, closed
            )

    async def _fetch(self, duty: FetchCheckpoint) -> None:
        key = (duty.stage, duty.checkpoint.round)
        try:
            await checkpoints.pull(self._context, duty.stage, duty.checkpoint)
        except (Unreachable, BadConfig) as error:
            self._context.report(EventKind.WARNING, f"checkpoint of stage {duty.stage}: {error}")
            await trio.sleep(LOOK_S)
        else:
            held = self._context.checkpoints_held
            held[duty.stage] = max(held.get(duty.stage, 0), duty.checkpoint.round)
            needed = self.seats.anchors()
            if needed is not None:
                await checkpoints.tidy(self._context, needed)
        finally:
            self._fetching.discard(key)

    def _tell(self, run: Run) -> None:
        """Say what changed for a person: a round began, the run ended."""
        context = self._context
        newest = run.rounds[-1].round if run.rounds else None
        if newest != self._round and newest is not None and newest < run.end_round:
            self._round = newest
            peers = {seat.peer for roster in run.rounds[-1].seats for seat in roster}
            context.report(
                EventKind.ROUND_STARTED,
                f"round {newest} of {run.end_round} with {len(peers)} peers",
                round=newest,
                peers=len(peers),
            )
            self._trades = {key for key in self._trades if key[2] >= newest - 1}
            self._posted = {key for key in self._posted if key[1] >= newest - POSTED_ROUNDS}
        if run.phase in ENDED and not self._finished:
            self._finished = True
            context.report(EventKind.RUN_FINISHED, f"the run is over after {run.end_round} rounds")

    async def _measure(self) -> None:
        before, tally = 0, self._context.tally
        while True:
            await trio.sleep(RATE_S)
            runners = [live.runner for live in self.seats.live.values() if live.runner]
            tally.tokens = sum(runner.shard.tokens_total for runner in runners)
            tally.hashing_s = self.seats.hashing_s()
            tally.steps = sum(runner.steps_total for runner in runners)
            tally.tokens_per_s = max(int((tally.tokens - before) / RATE_S), 0)
            before = tally.tokens
