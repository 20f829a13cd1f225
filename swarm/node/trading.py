"""Trade one fragment: offer ours, pull the partner's, apply the outer step between two steps.

Shell: carries what ``duties`` decided; who the partner is and when was decided there.
"""

from dataclasses import replace

import trio

from swarm.crypto import peer_name
from swarm.events import EventKind
from swarm.gossip.exchange import Wanted
from swarm.gossip.messages import Codec, FragmentKey
from swarm.ledger.records import Run
from swarm.node.context import Context, TradeNote
from swarm.node.duties import TradeFragment
from swarm.training.fragments import Merge, Received, Sent, Snapshot
from swarm.training.offers import offerable, read_values
from swarm.training.outer import outer_scalars
from swarm.training.round_plan import RoundPlan
from swarm.training.runner import SeatRunner
from swarm.training.terms import terms_of
from swarm.training.window_heads import ALONE
from swarm.types import NO_DIGEST

NOTES_MAX = 50
"""Trades the map shows."""
ACKNOWLEDGE_WAIT_S = 5.0
"""Both sides pull at once, so a partner's receipt comes about when our own pull ends, or is lost. What is said
twice for want of a receipt costs a little accuracy; a merge that waits for it costs steps."""


async def trade(context: Context, runner: SeatRunner, duty: TradeFragment) -> None:
    """Offer a fragment, pull the partner's, and take the outer step, alone if need be.

    Raises ``Unreachable`` when this seat does not get to the round in time.
    """
    run = context.run
    if run is None:
        return
    await runner.reach(duty.round_index, run.spec.deadlines.exchange_ms / 1000)
    plan = runner.plan
    if plan is None or plan.round != duty.round_index:
        return  # It is over already.
    snapshot = await runner.snapshot(duty.fragment)
    merge = await runner.doubted(await _merge(context, run, plan, duty, snapshot))
    if runner.plan is None or runner.plan.round != duty.round_index:
        return  # The segment closed meanwhile: the next round trades this fragment again.
    if await runner.merge(merge):
        _note(context, duty, merge)


async def _merge(
    context: Context, run: Run, plan: RoundPlan, duty: TradeFragment, snapshot: Snapshot
) -> Merge:
    spec, is_consensus = run.spec, plan.is_consensus
    scalars = outer_scalars(spec.outer, plan.round)
    alone = Merge(
        snapshot, None, 0, scalars, None, ALONE, NO_DIGEST, NO_DIGEST, is_consensus=is_consensus
    )
    partner = duty.partner
    terms = None if partner is None else terms_of(plan, duty.stage, duty.index, duty.fragment)
    if partner is None or terms is None:
        return alone
    mine = FragmentKey(run.index, duty.stage, duty.fragment, duty.round_index, duty.index)
    offered = offerable(spec, plan.round, snapshot, is_consensus=is_consensus)
    context.trades.publish(mine, offered, partner=partner.peer)
    deadline = trio.current_time() + spec.deadlines.exchange_ms / 1000
    traded = None
    if duty.weight_allowed:
        theirs = FragmentKey(run.index, duty.stage, duty.fragment, duty.round_index, partner.index)
        numel, root = offered.theta.numel(), snapshot.anchor_root
        wanted = Wanted(theirs, partner.peer, duty.index, root, numel, offered.codec)
        traded = await context.trades.pull(wanted, offered.anchor, mine=mine, deadline=deadline)
    sent = await _sent(context, mine, deadline) if offered.codec is Codec.INT4 else None
    if traded is None:
        acknowledged = sent.receipt.payload_hash if sent else NO_DIGEST
        return replace(alone, my_payload=acknowledged, sent=sent)
    theta_hat, phi_hat = read_values(spec, traded.theta_hat, is_consensus=is_consensus)
    return Merge(
        snapshot,
        theta_hat,
        terms.due_nano(snapshot.tokens, traded.offer.tokens),
        scalars,
        partner.peer,
        partner.index,
        sent.receipt.payload_hash if sent else traded.my_payload_hash or NO_DIGEST,
        traded.offer.payload_hash,
        Received(traded.offer, traded.payload),
        phi_hat,
        sent,
        is_consensus,
    )


async def _sent(context: Context, mine: FragmentKey, deadline: float) -> Sent | None:
    """What of ours in int4 has been acknowledged, once it has, or None when that takes too long."""
    until = min(deadline, trio.current_time() + ACKNOWLEDGE_WAIT_S)
    given = await context.trades.acknowledged(mine, deadline=until)
    packed = None if given is None else given.acknowledged
    if given is None or given.receipt is None or packed is None or packed.residual is None:
        return None
    return Sent(given.receipt, packed.residual)


def _note(context: Context, duty: TradeFragment, merge: Merge) -> None:
    """Remember for the map what was merged, and say it."""
    tally, peer = context.tally, duty.partner.peer if duty.partner else None
    is_done = merge.theta_hat_P is not None
    note = TradeNote(duty.round_index, duty.fragment, duty.stage, context.me, peer, is_done)
    tally.notes = [*tally.notes, note][-NOTES_MAX:]
    where = f"round {duty.round_index}, stage {duty.stage}, fragment {duty.fragment}"
    if is_done and peer is not None:
        tally.trades += 1
        tally.last_partner = peer
        context.report(EventKind.TRADED, f"traded with {peer_name(peer)}: {where}")
    else:
        tally.solo += 1
        context.report(EventKind.SOLO, f"stepped alone: {where}")
