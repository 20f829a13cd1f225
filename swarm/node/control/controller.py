"""Derive the due duties after every block and start them, and report verdicts that concern this node.

Shell: collects knowledge, starts duties, waits for none of them.

Verdicts on segments are reported together with what they mean for this node.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import trio

from swarm.errors import BadConfig, InvalidStatement, Unreachable
from swarm.events import EventKind
from swarm.ledger.check_statements import AMOUNT_MAX
from swarm.ledger.describe import progress_text
from swarm.ledger.state.records import Account, Contribution, Run, RunPhase
from swarm.ledger.state.state import State
from swarm.ledger.transactions import ChangeAsk, Join, Stake, Validate
from swarm.ledger.transition.prices import solver_stake, sufficient_fee
from swarm.ledger.transition.seats import seats_of
from swarm.ledger.views import new_convictions, seat_outlook, trial_text
from swarm.node.artifacts import checkpoints
from swarm.node.context import NodeContext, TokenRate, validates
from swarm.node.control.planner import (
    ENDED,
    FEES_KEPT,
    Action,
    AskToJoin,
    BeginRound,
    CloseRound,
    FetchCheckpoint,
    LeaveSeat,
    NodeView,
    OfferToValidate,
    PostCheckpoint,
    StakePosition,
    StateAsk,
    TakeSeat,
    TopUpStake,
    TradeFragment,
    ValidatorPosition,
    guarded_stages,
    is_accused,
    plan_actions,
)
from swarm.node.launch.sizing import keeps_windows
from swarm.node.seat.adoption import StateServer
from swarm.node.seat.seats import Seats
from swarm.types import Amount, RoundIndex, StageIndex


class VerdictReporter:
    """Reporter of verdicts on one node."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._before: State | None = None

    def poll(self, run: Run) -> None:
        """Compare the ledger's final state with the previous one, and report new verdicts."""
        context, state = self._context, self._context.ledger.state
        before, self._before = self._before, state
        if before is state:
            return
        context.stats.convictions.extend(new_convictions(before, state, run.index))
        if before is not None:
            old = before.contribution(run.index, context.me)
            self._report_changes(old, state.contribution(run.index, context.me))

    def _report_changes(self, old: Contribution, new: Contribution) -> None:
        report = self._context.report
        if new.silent > old.silent:
            report(
                EventKind.WARNING,
                "a segment of this node was voided: its windows or leaves were not shown in time, and its seat"
                " begins again from what others have",
            )
        if new.is_barred and not old.is_barred:
            report(
                EventKind.ERROR,
                "a segment of this node was proven false: this node trains no more in this run, and puts up no"
                " stake. If it is honest, its arithmetic or memory is faulty",
            )


POLL_S = 2.0
"""Seconds after which duties are derived even without a block."""
JOIN_RETRY_BLOCKS = 5
STAKE_RETRY_BLOCKS = 10
"""Blocks after a stake that the ledger refused: a balance that was spent meanwhile has to be earned again."""
OUTLOOK_ROUNDS = 4
"""Rounds between two words to a node that waits for a seat about why it has none yet."""
POSTED_ROUNDS = 8
"""Rounds that posted checkpoints are remembered: longer than the ledger asks for one."""
RATE_S = 5.0
"""Seconds between two measurements of tokens per second."""

_FAILED: Mapping[type, str] = {
    TradeFragment: "a fragment was not traded",
    BeginRound: "a round was not begun",
    CloseRound: "a segment was not closed",
    LeaveSeat: "a seat was not left",
}
"""Messages for the duties that the network may make fail."""


ActionT = TypeVar("ActionT", bound=Action)


class Controller:
    """Control loop: after every block, derive the due duties from final state and start them."""

    def __init__(self, context: NodeContext, nursery: trio.Nursery) -> None:
        self.seats = Seats(context, nursery)
        self._context = context
        self._nursery = nursery
        self._trades: set[tuple[StageIndex, int, RoundIndex, int]] = set()
        self._trades_open: set[tuple[StageIndex, int, RoundIndex, int]] = set()
        self._posted: set[tuple[StageIndex, RoundIndex]] = set()
        self._fetching: set[tuple[StageIndex, RoundIndex]] = set()
        self._verdicts = VerdictReporter(context)
        self._joined_at = -JOIN_RETRY_BLOCKS
        self._is_staking = False
        self._is_offering, self._offer_from = False, 0
        self._is_asking, self._ask_from = False, 0
        self._is_shortage_reported = False
        self._stake_from = 0
        self._round: int | None = None
        self._trial = ""
        self._finished = False
        self._is_paused = False

    async def serve(self) -> None:
        """Do duties until cancelled."""
        StateServer(self._context).serve()
        blocks = self._context.ledger.subscribe()
        self._nursery.start_soon(self._measure)
        while True:
            run = self._context.run
            if run is not None:
                await self._reconcile(run)
            with trio.move_on_after(POLL_S):
                await blocks.receive()

    async def _reconcile(self, run: Run) -> None:
        self._report_changes(run)
        self._verdicts.poll(run)
        for duty in plan_actions(self._known(run)):
            self._do(duty)
        self.seats.tidy(run)
        await self.seats.commits.resubmit(run)

    def _known(self, run: Run) -> NodeView:
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
        return NodeView(
            me=context.me,
            run=run,
            height=height,
            is_solver=context.config.solve,
            is_archive=self._is_archive(run),
            is_joining=height - self._joined_at < JOIN_RETRY_BLOCKS
            or height < context.ledger.state.contribution(run.index, context.me).rest_until,
            seats=self.seats.locals(),
            trades_begun=frozenset(self._trades),
            trades_open=frozenset(self._trades_open),
            commits_final=frozenset(final),
            closed=frozenset(
                (stage, seat, round_)
                for index, round_, stage, seat in context.checks.log_store.reveals
                if index == run.index
            ),
            checkpoints_posted=frozenset(self._posted),
            checkpoints_held=frozenset([*held, *self._fetching]),
            stake_position=self._stake_position(run),
            validator_position=self._validator_position(),
            ask=context.config.ask,
            is_asking=self._is_asking or height < self._ask_from,
        )

    def _validator_position(self) -> ValidatorPosition:
        context, state = self._context, self._context.ledger.state
        stake, least = state.account(context.me).stake, state.params.validator_stake
        return ValidatorPosition(
            wants=validates(context.config, context.genesis, context.me),
            is_candidate=context.me in state.council.candidates,
            is_able=stake >= least and state.equivocator(context.me) is None,
            is_offering=self._is_offering or state.height < self._offer_from,
        )

    def _stake_position(self, run: Run) -> StakePosition:
        context, state = self._context, self._context.ledger.state
        account, wanted = state.account(context.me), context.config.stake
        if validates(context.config, context.genesis, context.me):
            wanted = max(wanted, state.params.validator_stake)
        fee = sufficient_fee(state.params, Stake(Amount(AMOUNT_MAX)))
        if context.config.solve:
            wanted = max(wanted, self._affordable_stake(run, account, fee))
        is_waiting = state.height < self._stake_from
        mine = () if account.stake >= wanted else state.live_segments()
        work = state.contribution(run.index, context.me)
        return StakePosition(
            balance=account.balance,
            stake=account.stake,
            wanted=wanted,
            fee=fee,
            is_staking=self._is_staking or is_waiting,
            is_accused=any(record.peer == context.me and is_accused(record) for record in mine),
            is_barred=work.is_barred or work.absent > 0,
        )

    def _affordable_stake(self, run: Run, account: Account, fee: Amount) -> int:
        """Return the stake of a solver if this node has the money for it; 0 leaves it a volunteer."""
        wanted = solver_stake(self._context.ledger.state.params, run.spec)
        spare = account.balance + account.stake - FEES_KEPT * fee
        return wanted if spare >= wanted else 0

    def _do(self, duty: Action) -> None:
        """Note that a duty is under way, so that it is not given again, and start it."""
        start = self._nursery.start_soon
        match duty:
            case TopUpStake():
                self._top_up(duty)
            case OfferToValidate():
                self._is_offering = True
                start(self._offer, duty)
            case AskToJoin():
                self._joined_at = self._context.ledger.height
                start(self._join)
            case StateAsk():
                self._is_asking = True
                start(self._state_ask, duty)
            case TakeSeat():
                self.seats.take(duty)
            case LeaveSeat():
                start(self._guarded, self.seats.leave, duty)
            case CloseRound():
                start(self._guarded, self.seats.close, duty)
            case BeginRound():
                live = self.seats.live[duty.stage, duty.index]
                live.round_index = duty.info.round
                start(self._guarded, self.seats.begin, duty)
            case TradeFragment():
                key = (duty.stage, duty.index, duty.round_index, duty.exchange)
                self._trades.add(key)
                self._trades_open.add(key)
                start(self._trade, duty)
            case PostCheckpoint():
                self._posted.add((duty.stage, duty.round_index))
                start(self._post, duty)
            case FetchCheckpoint():
                self._fetching.add((duty.stage, duty.checkpoint.round))
                start(self._fetch, duty)

    async def _guarded(
        self, carry_out: "Callable[[ActionT], Awaitable[None]]", duty: ActionT
    ) -> None:
        """Carry out a duty; a failure of the network is reported, and the next round brings the next duty."""
        try:
            await carry_out(duty)
        except Unreachable as error:
            message = _FAILED.get(type(duty), "a duty was not done")
            self._context.report(EventKind.WARNING, f"{message}: {error}")

    async def _trade(self, duty: TradeFragment) -> None:
        """Trade, and note when it is settled: the next exchange of the fragment begins after that."""
        key = (duty.stage, duty.index, duty.round_index, duty.exchange)
        try:
            await self._guarded(self.seats.trade, duty)
        finally:
            self._trades_open.discard(key)

    def _top_up(self, duty: TopUpStake) -> None:
        if not duty.short:
            self._is_staking = True
            self._nursery.start_soon(self._put_up, duty.amount)
        elif not self._is_shortage_reported:
            self._is_shortage_reported = True
            self._context.report(
                EventKind.PROGRESS,
                f"node.toml asks for a stake of {self._context.config.stake:,}: the balance lacks"
                f" {duty.short:,}, and it is put up as soon as that is earned",
            )

    async def _put_up(self, amount: Amount) -> None:
        """Stake, and wait until that is final or cannot be any more, so that it is never put up twice."""
        ledger = self._context.ledger
        try:
            await ledger.submit_final(Stake(amount), math.inf)
        except InvalidStatement as error:
            self._stake_from = ledger.height + STAKE_RETRY_BLOCKS
            self._context.report(EventKind.WARNING, f"the stake was not put up yet: {error}")
        else:
            self._is_shortage_reported = False
            self._context.report(EventKind.PROGRESS, f"put up {amount:,} as a stake")
        finally:
            self._is_staking = False

    async def _offer(self, duty: OfferToValidate) -> None:
        """Offer to validate, or withdraw, and wait until that is final or cannot be any more."""
        ledger = self._context.ledger
        try:
            await ledger.submit_final(Validate(duty.is_on), math.inf)
        except InvalidStatement as error:
            self._offer_from = ledger.height + STAKE_RETRY_BLOCKS
            self._context.report(EventKind.WARNING, f"the offer to validate was refused: {error}")
        else:
            text = "offered to validate" if duty.is_on else "withdrew the offer to validate"
            self._context.report(
                EventKind.PROGRESS, f"{text}: it counts from the epoch after next on"
            )
        finally:
            self._is_offering = False

    async def _state_ask(self, duty: StateAsk) -> None:
        """Change the ask on the ledger, and wait until that is final or cannot be any more."""
        run, ledger = self._context.run, self._context.ledger
        assert run is not None, "an ask belongs to a run"
        try:
            await ledger.submit_final(ChangeAsk(run.index, duty.ask), math.inf)
        except InvalidStatement as error:
            self._ask_from = ledger.height + STAKE_RETRY_BLOCKS
            self._context.report(EventKind.WARNING, f"the ask was not changed yet: {error}")
        else:
            text = f"asks {duty.ask:,} for 1,000 tokens from the next round on"
            self._context.report(EventKind.PROGRESS, text)
        finally:
            self._is_asking = False

    async def _join(self) -> None:
        run = self._context.run
        if run is None:
            return
        try:
            await self._context.ledger.submit(Join(run.index, self._context.config.ask))
        except (InvalidStatement, Unreachable) as error:
            self._context.report(EventKind.WARNING, f"could not ask for a seat yet: {error}")
        else:
            self._context.report(EventKind.PROGRESS, "asked the ledger for a seat")

    async def _post(self, duty: PostCheckpoint) -> None:
        before = RoundIndex(duty.round_index - 1)
        closed = self.seats.closed(duty.stage, duty.index, before)
        if (
            closed is None
        ):  # not closed yet; derived again until it is, or the ledger takes it no more
            self._posted.discard((duty.stage, duty.round_index))
        else:
            await checkpoints.post_quietly(
                self._context, duty.stage, duty.index, duty.round_index, closed
            )

    async def _fetch(self, duty: FetchCheckpoint) -> None:
        key = (duty.stage, duty.checkpoint.round)
        try:
            run = self._context.run
            assert run is not None, "a checkpoint belongs to a run"
            await self._context.artifacts.keep_base(run, duty.stage)
            await self._context.artifacts.checkpoint(run, duty.stage, duty.checkpoint)
        except (Unreachable, BadConfig) as error:
            self._context.report(EventKind.WARNING, f"checkpoint of stage {duty.stage}: {error}")
            await trio.sleep(POLL_S)
        else:
            held = self._context.checkpoints_held
            held[duty.stage] = max(held.get(duty.stage, 0), duty.checkpoint.round)
            needed = self.seats.anchors()
            if needed is not None:
                await checkpoints.tidy(self._context, needed, self._followed(run))
        finally:
            self._fetching.discard(key)

    def _followed(self, run: Run) -> set[StageIndex]:
        """Return the stages whose checkpoints this node keeps: all of them for an archive."""
        if self._is_archive(run):
            return {StageIndex(stage) for stage in range(run.spec.num_stages)}
        mine = {stage for stage, _ in self.seats.live}
        return mine | guarded_stages(mine, run.spec.num_stages)

    def _is_archive(self, run: Run) -> bool:
        config = self._context.config
        return run.owner == self._context.me or not config.solve or config.evaluate

    def _report_changes(self, run: Run) -> None:
        """Report what changed for the user: a round began, the run paused, resumed or ended."""
        context = self._context
        newest = run.rounds[-1].round if run.rounds else None
        if newest != self._round and newest is not None and newest < run.final_round:
            self._round = newest
            peers = {seat.peer for roster in run.rounds[-1].seats for seat in roster}
            context.report(
                EventKind.ROUND_STARTED,
                f"{progress_text(run, newest)} with {len(peers)} peer{'s' * (len(peers) != 1)}",
                round=newest,
                peers=len(peers),
            )
            if newest % OUTLOOK_ROUNDS == 0 and any(w.peer == context.me for w in run.waiting):
                text = seat_outlook(context.ledger.state, run, context.me, context.config.ask)
                context.report(EventKind.PROGRESS, f"waits for a seat: {text}")
            self._report_trial(run)
            self._trades = {key for key in self._trades if key[2] >= newest - 1}
            self._posted = {key for key in self._posted if key[1] >= newest - POSTED_ROUNDS}
        if (run.phase is RunPhase.PAUSED) != self._is_paused:
            self._is_paused = not self._is_paused
            text = "rests: its owner paused it" if self._is_paused else "goes on after a pause"
            context.report(EventKind.PROGRESS, f"run {run.spec.name} {text}")
        if run.phase in ENDED and not self._finished:
            self._finished = True
            text = f"the run is over after {run.end_round} rounds"
            if context.checks.log_store.reveals and keeps_windows(run.spec):
                text += "; stay for its last segments, which are still being checked"
            context.report(EventKind.RUN_FINISHED, text)

    def _report_trial(self, run: Run) -> None:
        """Report how far this node's trial as a volunteer is, if that has changed, and its end."""
        context, before = self._context, self._trial
        self._trial = trial_text(context.ledger.state, run, context.me)
        if self._trial and self._trial != before:
            context.report(EventKind.PROGRESS, self._trial)
        elif before and not self._trial and seats_of(run, context.me):
            context.report(EventKind.PROGRESS, "the trial is over: partners take its weights now")

    async def _measure(self) -> None:
        rate, stats = TokenRate(trio.current_time()), self._context.stats
        while True:
            await trio.sleep(RATE_S)
            runners = [live.runner for live in self.seats.live.values() if live.runner]
            stats.tokens = sum(runner.shard.tokens_total for runner in runners)
            stats.hashing_s = self.seats.hashing_s()
            stats.open_loss = self.seats.open_loss()
            stats.steps = sum(runner.steps_total for runner in runners)
            seats = tuple(map(id, runners))
            stats.tokens_per_s = rate.measured(stats.tokens, trio.current_time(), seats)
