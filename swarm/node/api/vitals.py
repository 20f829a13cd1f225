"""Watch what of a node and its run moves: height, steps of every peer, losses.

Shell: reads the packages and the clock once a second, so that every figure has a true age; ``health`` and
``figures`` decide.
"""

import re
from dataclasses import dataclass

import trio

from swarm.dht.directory import Announcement, PeerView, view
from swarm.events import EventKind
from swarm.host.clocks import clock_warning
from swarm.host.reachability import Reachable
from swarm.ledger.state.records import Run, RunPhase
from swarm.node.api.figures import (
    Standing,
    closed_round,
    empty_stages,
    mean_loss,
    names_missing,
    standing_of,
)
from swarm.node.api.health import Health, HealthInputs, HealthWatch, Motion
from swarm.node.context import NodeContext
from swarm.primitives.crypto import peer_name
from swarm.types import PeerId

POLL_S = 1.0
"""Ages are as exact as this; a reading takes the peer map and some counters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPeer:
    """One peer in one reading; ``rate`` and ``loss`` are None when stale."""

    seen: PeerView
    is_me: bool
    seats: tuple[tuple[int, int], ...]
    standing: Standing
    rate: int | None
    loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VitalsReading:
    """One reading of the node, its run and its peers."""

    now: float
    run: Run | None
    health: Health
    peers: tuple[SeenPeer, ...]
    missing: tuple[str, ...]
    """Validators that are not heard."""
    seats: tuple[tuple[int, int], ...]
    """Of this node."""
    loss: float | None
    """``schema.RunRow.loss_nats``."""
    own_loss: float | None
    own_rate: int | None
    height_age_s: float
    work_age_s: float
    own_age_s: float
    is_ledger_still: bool


class Vitals:
    """Remembers since when which figure stands still, and the training loss of every round."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._watch = HealthWatch(trio.current_time())
        self._steps: dict[PeerId, Motion] = {}
        self._clocks = ""
        """The last word about clocks, without its figures."""
        self._reach: tuple[Reachable, list[PeerId]] = (Reachable.UNKNOWN, [])
        """Machines that could reach this node when that was said last."""
        self.curve: dict[int, float] = {}
        """The run's training loss at the end of each round that was watched."""

    async def watch(self) -> None:
        """Read the vitals every ``POLL_S`` until cancelled."""
        while True:
            self.read()
            self.tell_clocks()
            self.tell_reach()
            await trio.sleep(POLL_S)

    def tell_clocks(self) -> None:
        """Say that a clock is wrong, once, and that it is right again."""
        context, before = self._context, self._clocks
        named = {peer_name(peer): skew_s for peer, skew_s in context.host.skews_s().items()}
        text = clock_warning(named)
        self._clocks = re.sub(r"[0-9]+ [a-z]+", "", text)
        if text and self._clocks != before:
            context.report(EventKind.WARNING, text)
        elif before and not text:
            context.report(
                EventKind.NETWORK, "the clocks of this machine and its peers agree again"
            )

    def tell_reach(self) -> None:
        """Say who can reach this node, whenever that has changed."""
        host = self._context.host
        reached, relays = host.reach.verdict().reached, host.relays.relays()
        if (reached, relays) != self._reach and (relays or reached is not Reachable.UNKNOWN):
            self._reach = reached, relays
            self._context.report(EventKind.NETWORK, host.reach_text(), reach=str(reached))

    def read(self) -> VitalsReading:
        """Return the vitals now: the figures that moved since the last reading, and the verdict."""
        context, now, watch = self._context, trio.current_time(), self._watch
        run = context.run
        watch.height.see(context.ledger.height, now)
        interval_s = context.genesis.block_interval_ms / 1000
        is_ledger_still = watch.is_ledger_still(now, interval_s)
        views = view(context.dht.peer_map, now)
        self._record_steps(views, now)
        peers = tuple(self._seen(one, run, now, is_moving=not is_ledger_still) for one in views)
        missing, seats = self._missing(peers), _seats(run, context.me)
        health = watch.judge(
            self._inputs(run, peers, missing, is_seated=bool(seats)), now, interval_s
        )
        loss = self._loss(run, peers, now)
        if run is not None and loss is not None and (closed := closed_round(run)) is not None:
            self.curve[closed] = loss
        trains = run is not None and run.phase is RunPhase.TRAINING
        is_own_still = trains and (watch.own.is_still(now) or is_ledger_still)
        return VitalsReading(
            now=now,
            run=run,
            health=health,
            peers=peers,
            missing=missing,
            seats=seats,
            loss=loss,
            own_loss=None if is_own_still else context.stats.training_loss,
            own_rate=context.stats.tokens_per_s if seats and trains and not is_own_still else None,
            height_age_s=watch.height.age_s(now),
            work_age_s=watch.work.age_s(now),
            own_age_s=watch.own.age_s(now),
            is_ledger_still=is_ledger_still,
        )

    def _record_steps(self, views: tuple[PeerView, ...], now: float) -> None:
        """Keep a clock for the steps of each peer on the map."""
        known = dict[PeerId, Motion]()
        for seen in views:
            steps = self._context.stats.steps if seen.peer == self._context.me else _steps_of(seen)
            known[seen.peer] = self._steps.get(seen.peer) or Motion(now)
            known[seen.peer].see(steps, now)
        self._steps = known

    def _inputs(
        self,
        run: Run | None,
        peers: tuple[SeenPeer, ...],
        missing: tuple[str, ...],
        *,
        is_seated: bool,
    ) -> HealthInputs:
        context = self._context
        own = (context.stats.steps, context.stats.tokens)
        useless = {one.seen.peer for one in peers if one.standing.condition in {"gone", "out"}}
        others = tuple(_steps_of(one.seen) for one in peers if not one.is_me)
        return HealthInputs(
            height=context.ledger.height,
            work=(run.tokens if run else 0, own, sum(others)),
            own_work=own,
            phase=run.phase.value if run else "",
            is_seated=is_seated,
            waits_for=context.stats.waits_for,
            isolation=context.stats.isolation,
            missing=missing,
            num_validators=len(context.ledger.state.validators),
            is_silent=context.ledger.is_silent,
            empty_stages=empty_stages(run, frozenset(useless)) if run else (),
        )

    def _seen(self, seen: PeerView, run: Run | None, now: float, *, is_moving: bool) -> SeenPeer:
        context = self._context
        is_me, stats, announcement = seen.peer == context.me, context.stats, seen.announcement
        work = context.ledger.state.contribution(run.index, seen.peer) if run else None
        standing = standing_of(
            seen,
            run,
            is_barred=work is not None and work.is_barred,
            is_me=is_me,
            is_moving=is_moving,
            still_s=self._steps[seen.peer].age_s(now),
        )
        rate = stats.tokens_per_s if is_me else announcement.tokens_per_s if announcement else None
        loss = stats.training_loss if is_me else _loss_of(announcement)
        seats = _seats(run, seen.peer)
        return SeenPeer(
            seen=seen,
            is_me=is_me,
            seats=seats,
            standing=standing,
            rate=rate if standing.has_rate and seats else None,
            loss=loss if standing.has_figures else None,
        )

    def _missing(self, peers: tuple[SeenPeer, ...]) -> tuple[str, ...]:
        """Return the validators that this node neither is connected to nor hears of."""
        context = self._context
        heard = {one.seen.peer for one in peers if one.standing.gone_s is None and not one.is_me}
        heard.update(context.host.connected())
        if context.ledger.is_validator:
            heard.add(context.me)
        voters = [(one.peer, peer_name(one.peer)) for one in context.ledger.state.validators]
        return names_missing(voters, frozenset(heard))

    def _loss(self, run: Run | None, peers: tuple[SeenPeer, ...], now: float) -> float | None:
        if run is None or (run.phase is RunPhase.TRAINING and self._watch.work.is_still(now)):
            return None
        last = run.spec.num_stages - 1
        seated = [one for one in peers if last in {stage for stage, _ in one.seats}]
        return mean_loss(one.loss for one in seated)


def _seats(run: Run | None, peer: PeerId) -> tuple[tuple[int, int], ...]:
    rosters = run.seats if run else ()
    return tuple(
        (seat.stage, seat.index) for roster in rosters for seat in roster if seat.peer == peer
    )


def _steps_of(seen: PeerView) -> int:
    return seen.announcement.steps if seen.announcement else 0


def _loss_of(announcement: Announcement | None) -> float | None:
    return (
        announcement.loss_milli / 1000
        if announcement is not None and announcement.loss_milli >= 0
        else None
    )
