"""Trade one fragment: offer ours, pull the partner's, apply the outer step between two steps.

Shell: carries what ``duties`` decided; who the partner is and when was decided there.
"""

import trio

from swarm.crypto import peer_name
from swarm.events import EventKind
from swarm.gossip.exchange import Snapshot as Offerable
from swarm.gossip.exchange import Wanted
from swarm.gossip.messages import FragmentKey
from swarm.ledger.records import Run
from swarm.node.context import Context, TradeNote
from swarm.node.duties import TradeFragment
from swarm.training.fragments import Merge, Received, Snapshot
from swarm.training.outer import outer_scalars, weight_nano
from swarm.training.runner import SeatRunner
from swarm.types import NO_DIGEST

NOTES_MAX = 50
"""Trades the map shows."""


async def trade(context: Context, runner: SeatRunner, duty: TradeFragment) -> None:
    """Offer a fragment, pull the partner's, and take the outer step, alone if need be.

    Raises ``Unreachable`` when this seat does not get to the round in time.
    """
    run = context.run
    if run is None:
        return
    await runner.reach(duty.round_index, run.spec.deadlines.exchange_ms / 1000)
    snapshot = await runner.snapshot(duty.fragment)
    merge = await _merge(context, run, duty, snapshot)
    if runner.plan is None or runner.plan.round != duty.round_index:
        return  # The segment closed meanwhile: the next round trades this fragment again.
    if await runner.merge(merge):
        _note(context, duty, merge)


async def _merge(context: Context, run: Run, duty: TradeFragment, snapshot: Snapshot) -> Merge:
    outer, partner = run.spec.outer, duty.partner
    scalars = outer_scalars(outer, duty.round_index)
    alone = Merge(snapshot, None, 0, scalars, None, -1, NO_DIGEST, NO_DIGEST)
    if partner is None:
        return alone
    mine = FragmentKey(run.index, duty.stage, duty.fragment, duty.round_index, duty.index)
    offered = Offerable(
        theta=snapshot.theta_P,
        anchor=snapshot.anchor_P,
        anchor_root=snapshot.anchor_root,
        step=snapshot.step,
        tokens=snapshot.tokens,
    )
    context.trades.publish(mine, offered, partner=partner.peer)
    if not duty.weight_allowed:
        return alone
    theirs = FragmentKey(run.index, duty.stage, duty.fragment, duty.round_index, partner.index)
    numel = snapshot.theta_P.numel()
    traded = await context.trades.pull(
        Wanted(theirs, partner.peer, duty.index, snapshot.anchor_root, numel),
        snapshot.anchor_P,
        mine=mine,
        deadline=trio.current_time() + run.spec.deadlines.exchange_ms / 1000,
    )
    if traded is None:
        return alone
    return Merge(
        snapshot,
        traded.theta_hat,
        weight_nano(snapshot.tokens, traded.offer.tokens, 0, outer.age_weights_nano),
        scalars,
        partner.peer,
        partner.index,
        traded.my_payload_hash or NO_DIGEST,
        traded.offer.payload_hash,
        Received(traded.offer, traded.payload),
    )


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
