"""Trade one fragment: offer ours, pull a partner's, apply the outer step between two inner steps.

Shell: carries the actions of ``training.averaging.trade_plan`` out and reports events to it; decides nothing.
"""

from functools import partial
from typing import Protocol

import trio

from swarm.config.spec import RunSpec
from swarm.events import EventKind
from swarm.gossip.trade.messages import Offer
from swarm.gossip.trade.outbox import NoteOffer
from swarm.gossip.trade.service import Trades
from swarm.node.context import TradeRecord
from swarm.node.control.planner import TradeFragment
from swarm.node.ports import HasMe, HasReport, HasStats
from swarm.primitives.crypto import peer_name
from swarm.training.averaging.outer_step import FragmentSnapshot, Merge
from swarm.training.averaging.trade_plan import (
    Action,
    AwaitReceipt,
    Publish,
    PullFrom,
    Settle,
    TradePlan,
)
from swarm.training.plan import RoundPlan
from swarm.types import RoundIndex

NOTES_MAX = 50
"""Trades the map shows."""


class HasTrades(Protocol):
    """Trader of fragments."""

    @property
    def trades(self) -> Trades:
        """The exchange of fragments with other peers."""
        ...


class TradeNode(HasMe, HasTrades, HasStats, HasReport, Protocol):
    """Parts of a node that a trade uses."""


class FragmentJobs(Protocol):
    """Jobs of a seat that a trade asks for: ``training.seat.SeatExecutor``."""

    async def snapshot(self, exchange: int) -> FragmentSnapshot:
        """Copy the fragment of an exchange between two steps."""
        ...

    async def clip_or_reject(self, merge: Merge) -> Merge:
        """Return the merge unchanged, with a clipped weight, or as a solo step."""
        ...


class TradeSeat(Protocol):
    """Parts of a seat that a trade uses: ``training.seat.SeatWorker``."""

    @property
    def spec(self) -> RunSpec:
        """The run that it trains."""
        ...

    @property
    def plan(self) -> RoundPlan | None:
        """The round it is in; None before the first."""
        ...

    @property
    def jobs(self) -> FragmentJobs:
        """Its worker thread."""
        ...

    async def reach(self, round_index: RoundIndex, budget_s: float) -> None:
        """Wait for a round; raise ``Unreachable`` after ``budget_s`` seconds."""
        ...

    def note_offer(self, window: int, offer: Offer) -> bool:
        """List a fragment that is offered, copied in ``window``; return False if it must not be signed."""
        ...

    async def merge(self, merge: Merge) -> bool:
        """Apply an outer step between two steps; return False if it never will be."""
        ...


async def trade(node: TradeNode, seat: TradeSeat, duty: TradeFragment) -> None:
    """Offer a fragment, pull the partner's, and take the outer step, solo if need be.

    Raises ``Unreachable`` if this seat does not get to the round in time.
    """
    await seat.reach(duty.round_index, seat.spec.deadlines.exchange_ms / 1000)
    plan = seat.plan
    if plan is None or plan.round != duty.round_index:
        return  # The round is over already.
    snapshot = await seat.jobs.snapshot(duty.exchange)
    trade_plan = TradePlan(plan, duty.stage, duty.index, duty.exchange)
    note = partial(seat.note_offer, snapshot.window)
    settled = await _settled(node.trades, trade_plan, snapshot, note)
    merge = await seat.jobs.clip_or_reject(settled)
    if seat.plan is None or seat.plan.round != duty.round_index:
        return  # The segment closed meanwhile: the next round trades this fragment again.
    if await seat.merge(merge):
        _note(node, duty, trade_plan, merge)


async def _settled(
    trades: Trades, plan: TradePlan, snapshot: FragmentSnapshot, note: NoteOffer
) -> Merge:
    """Carry out the actions of a trade until it is decided."""
    action: Action = plan.start(snapshot)
    while not isinstance(action, Settle):
        action = await _carried_out(trades, plan, action, note)
    return action.merge


async def _carried_out(
    trades: Trades, plan: TradePlan, action: Publish | PullFrom | AwaitReceipt, note: NoteOffer
) -> Action:
    """Carry out one action; return the next."""
    match action:
        case Publish(key, payload, partner, standby, outdated):
            trades.publish(
                key, payload, partner=partner, fallbacks=standby, outdated=outdated, note=note
            )
            return plan.published(trio.current_time())
        case PullFrom(wanted, anchor, offer_by, deadline):
            received = await trades.pull(wanted, anchor, deadline=deadline, offer_by=offer_by)
            if received is None:
                return plan.failed(trio.current_time(), trades.receivers(plan.key).values())
            published = trades.published(plan.key)
            shown = None if published is None else published.offered.get(wanted.partner)
            return plan.delivered(trio.current_time(), received, shown)
        case AwaitReceipt(until):
            return plan.acknowledged(await trades.acknowledged(plan.key, deadline=until))


def _note(node: TradeNode, duty: TradeFragment, plan: TradePlan, merge: Merge) -> None:
    """Record a trade for the map, and report it."""
    stats, paired = node.stats, plan.partner
    is_done = merge.theta_hat_P is not None
    peer = merge.partner if is_done else paired
    note = TradeRecord(
        round=duty.round_index,
        fragment=merge.snapshot.fragment,
        stage=duty.stage,
        source=node.me,
        target=peer,
        is_done=is_done,
        is_one_way=plan.is_one_way and not is_done,
    )
    stats.notes = [*stats.notes, note][-NOTES_MAX:]
    where = f"round {duty.round_index}, stage {duty.stage}, fragment {merge.snapshot.fragment}"
    if is_done and peer is not None:
        stats.trades += 1
        stats.last_partner = peer
        instead = f" in place of {peer_name(paired)}" if paired and paired != peer else ""
        node.report(EventKind.TRADED, f"traded with {peer_name(peer)}{instead}: {where}")
    else:
        stats.solo += 1
        taker = f", {peer_name(paired)} only receives as yet" if paired and note.is_one_way else ""
        node.report(EventKind.SOLO, f"stepped solo{taker}: {where}")
