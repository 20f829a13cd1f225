"""Trade one fragment: offer ours, pull a partner's, apply the outer step between two inner steps.

Shell: carries out what ``duties`` decided, the partner and the time included.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import trio

from swarm.events import EventKind
from swarm.gossip.trade.messages import Codec, FragmentKey
from swarm.gossip.trade.outbox import NO_STANDBY, StandbyReceivers
from swarm.gossip.trade.payload import FragmentPayload
from swarm.gossip.trade.pull import Wanted
from swarm.gossip.trade.service import TradeResult
from swarm.ledger.state.records import Run
from swarm.node.context import NodeContext, TradeRecord
from swarm.node.control.planner import TradeFragment
from swarm.primitives.crypto import peer_name
from swarm.training.averaging.outer_step import (
    FragmentSnapshot,
    Merge,
    ReceivedFragment,
    SentFragment,
    outer_scalars,
)
from swarm.training.averaging.payload import fragment_payload, read_values
from swarm.training.plan import RoundPlan
from swarm.training.record.window import ALONE
from swarm.training.seat import SeatWorker
from swarm.training.terms import TradeTerms, is_standby, standby_partners, terms_of, terms_with
from swarm.types import NO_DIGEST, PeerId

NOTES_MAX = 50
"""Trades the map shows."""
DRAWN_SHARE = 0.5
"""Share of the time for a trade in which the drawn partner must have offered; then a fallback partner is asked,
which needs the rest."""
ACKNOWLEDGE_WAIT_S = 5.0
"""Seconds to wait for a partner's receipt: both sides pull at once, so it comes about when our own pull ends,
or is lost. Sending the same twice for want of a receipt costs a little accuracy; a merge that waits for it
costs steps."""


async def trade(context: NodeContext, runner: SeatWorker, duty: TradeFragment) -> None:
    """Offer a fragment, pull the partner's, and take the outer step, solo if need be.

    Raises ``Unreachable`` if this seat does not get to the round in time.
    """
    run = context.run
    if run is None:
        return
    await runner.reach(duty.round_index, run.spec.deadlines.exchange_ms / 1000)
    plan = runner.plan
    if plan is None or plan.round != duty.round_index:
        return  # The round is over already.
    snapshot = await runner.snapshot(duty.fragment)
    merge = await runner.doubted(await _merge(context, run, plan, duty, snapshot))
    if runner.plan is None or runner.plan.round != duty.round_index:
        return  # The segment closed meanwhile: the next round trades this fragment again.
    if await runner.merge(merge):
        _note(context, duty, merge)


async def _merge(
    context: NodeContext, run: Run, plan: RoundPlan, duty: TradeFragment, snapshot: FragmentSnapshot
) -> Merge:
    spec, is_consensus = run.spec, plan.is_consensus
    scalars = outer_scalars(spec.outer, plan.round)
    alone = Merge(
        snapshot, None, 0, scalars, None, ALONE, NO_DIGEST, NO_DIGEST, is_consensus=is_consensus
    )
    place = (plan, duty.stage, duty.index, duty.fragment)
    drawn = None if duty.partner is None else terms_of(*place)
    standby = standby_partners(*place)
    if drawn is None and not standby:
        return alone
    mine = FragmentKey(run.index, duty.stage, duty.fragment, duty.round_index, duty.index)
    offered = fragment_payload(spec, plan.round, snapshot, is_consensus=is_consensus)
    context.trades.publish(
        mine,
        offered,
        partner=None if drawn is None else drawn.partner.peer,
        fallbacks=StandbyReceivers(partial(_may_step_in, plan, mine), spec.outer.num_retries)
        if standby
        else NO_STANDBY,
    )
    deadline = trio.current_time() + spec.deadlines.exchange_ms / 1000
    table = _Table(context, plan, mine, offered, deadline)
    terms, traded = await table.pull(drawn if duty.weight_allowed else None, standby)
    is_heard = offered.codec is Codec.INT4 and drawn is not None
    sent = await _sent(context, mine, deadline) if is_heard else None
    if traded is None or terms is None:
        acknowledged = sent.receipt.payload_hash if sent else NO_DIGEST
        return replace(alone, my_payload=acknowledged, sent=sent)
    theta_hat, phi_hat = read_values(spec, traded.theta_hat, is_consensus=is_consensus)
    return Merge(
        snapshot,
        theta_hat,
        terms.due_nano(snapshot.tokens, traded.offer.tokens),
        scalars,
        terms.partner.peer,
        terms.partner.index,
        sent.receipt.payload_hash if sent else traded.my_payload_hash or NO_DIGEST,
        traded.offer.payload_hash,
        ReceivedFragment(traded.offer, traded.payload),
        phi_hat,
        sent,
        is_consensus,
    )


def _may_step_in(plan: RoundPlan, mine: FragmentKey, seat: int, peer: PeerId) -> bool:
    """Return True if a peer may have our fragment in the place of a partner that failed it."""
    return is_standby(plan, mine.stage, mine.fragment, mine.seat, seat, peer)


@dataclass(frozen=True, slots=True)
class _Table:
    """Trade of one fragment of ours, and the pulls it needs."""

    context: NodeContext
    plan: RoundPlan
    mine: FragmentKey
    offered: FragmentPayload
    deadline: float

    async def pull(
        self, drawn: TradeTerms | None, standby: Sequence[TradeTerms]
    ) -> tuple[TradeTerms | None, TradeResult | None]:
        """Pull from the drawn partner, or from fallback partners in turn; (None, None) if all fail."""
        now = trio.current_time()
        if drawn is not None:
            share = DRAWN_SHARE if standby else 1.0
            traded = await self._from(drawn, now + share * (self.deadline - now))
            if traded is not None:
                return drawn, traded
        tried = set[int]()
        while (terms := self._next(standby, tried)) is not None:
            tried.add(terms.partner.index)
            traded = await self._from(terms, self.deadline)
            if traded is not None:
                return terms, traded
        return None, None

    def _next(self, standby: Sequence[TradeTerms], tried: set[int]) -> TradeTerms | None:
        """Return the fallback partner to ask next; None if none is left or the time is up.

        Peers that asked us come first, because they are reachable and want a partner too.
        """
        if len(tried) >= len(standby) or trio.current_time() >= self.deadline:
            return None
        mine = self.mine
        where = (self.plan, mine.stage, mine.seat, mine.fragment)
        asked = sorted(self.context.trades.takers(mine).values())
        came = (terms_with(*where, seat) for seat in asked)
        willing = [terms for terms in came if terms is not None and terms.gives]
        choice = [*willing, *standby]
        return next((terms for terms in choice if terms.partner.index not in tried), None)

    async def _from(self, terms: TradeTerms, ask_by: float) -> TradeResult | None:
        mine, offered = self.mine, self.offered
        theirs = FragmentKey(mine.run, mine.stage, mine.fragment, mine.round, terms.partner.index)
        wanted = Wanted(
            theirs,
            terms.partner.peer,
            mine.seat,
            offered.anchor_root,
            offered.theta.numel(),
            offered.codec,
        )
        return await self.context.trades.pull(
            wanted, offered.anchor, mine=mine, deadline=self.deadline, ask_by=ask_by
        )


async def _sent(context: NodeContext, mine: FragmentKey, deadline: float) -> SentFragment | None:
    """Return the receipt and residual of our int4 payload, once acknowledged; None if that takes too long."""
    until = min(deadline, trio.current_time() + ACKNOWLEDGE_WAIT_S)
    given = await context.trades.acknowledged(mine, deadline=until)
    packed = None if given is None else given.acknowledged
    if given is None or given.receipt is None or packed is None or packed.residual is None:
        return None
    return SentFragment(given.receipt, packed.residual)


def _note(context: NodeContext, duty: TradeFragment, merge: Merge) -> None:
    """Record a trade for the map, and report it."""
    tally, drawn = context.tally, duty.partner.peer if duty.partner else None
    is_done = merge.theta_hat_P is not None
    peer = merge.partner if is_done else drawn
    note = TradeRecord(duty.round_index, duty.fragment, duty.stage, context.me, peer, is_done)
    tally.notes = [*tally.notes, note][-NOTES_MAX:]
    where = f"round {duty.round_index}, stage {duty.stage}, fragment {duty.fragment}"
    if is_done and peer is not None:
        tally.trades += 1
        tally.last_partner = peer
        instead = f" in place of {peer_name(drawn)}" if drawn and drawn != peer else ""
        context.report(EventKind.TRADED, f"traded with {peer_name(peer)}{instead}: {where}")
    else:
        tally.solo += 1
        context.report(EventKind.SOLO, f"stepped alone: {where}")
