"""Stay connected: keep links of our own choice, remember who was there, say when this node is isolated.

Shell: looks at the host once a second, dials, writes rows; ``host/outbound``, ``anchors`` and ``isolation``
decide.
"""

import secrets
from collections.abc import Collection, Sequence
from typing import Protocol

import trio

from swarm.errors import Unreachable
from swarm.events import EventKind
from swarm.host.addresses import network_at
from swarm.host.outbound import Known, Outbound, Rank
from swarm.node.context import LinkStats
from swarm.node.join import known_peers
from swarm.node.join.anchors import Seen, watched
from swarm.node.join.isolation import IsolationWatch, Links
from swarm.node.join.join import TABLE
from swarm.node.ports import HasGenesis, HasLedger, HasMe, HasReport, HasRun, HasStats, HasStore
from swarm.primitives.randomness import RandomStream, stream
from swarm.types import PeerId

TICK_S = 1.0
PLAN_S = 5.0
"""Seconds between two looks at all that are known, which may be thousands; while isolated it is ``TICK_S``."""
FIRST_POLL_S = 1.0
POLL_INTERVAL_S = 20.0
"""Seconds between two looks at whom to remember; a node that is killed forgets the peers it met since."""


class LinksPort(Protocol):
    """Connections that can be dialled and kept: ``swarm.host.service.Host``."""

    def connected(self) -> list[PeerId]:
        """Return the connected peers, sorted."""
        ...

    def is_connected(self, peer: PeerId) -> bool:
        """Return True if a peer is connected."""
        ...

    def known(self) -> list[PeerId]:
        """Return the peers whose addresses are known, connected or not."""
        ...

    def known_addresses(self, peer: PeerId) -> list[str]:
        """Return the addresses that would be dialled, in order."""
        ...

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Remember addresses of a peer, as the newest of all."""
        ...

    def network(self, peer: PeerId) -> str:
        """Return the public network that a peer is connected from; "" for none."""
        ...

    def is_dialled(self, peer: PeerId) -> bool:
        """Return True if we dialled an open connection to the peer."""
        ...

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Connect to a peer; raise ``Unreachable``."""
        ...

    async def prove(self, peer: PeerId) -> None:
        """Dial a peer, connected or not; raise ``Unreachable``."""
        ...

    def keep(self, peers: Collection[PeerId]) -> None:
        """Let no connection to these peers be pushed out."""
        ...


class StayingNode(HasMe, HasRun, HasGenesis, HasLedger, HasStats, HasStore, HasReport, Protocol):
    """Parts of a node that staying connected needs."""

    @property
    def host(self) -> LinksPort:
        """Connections."""
        ...


async def stay_connected(context: StayingNode, named: Collection[PeerId]) -> None:
    """Keep the links of our own choice, and remember peers; runs until cancelled.

    Args:
        context: The node.
        named: Peers of the ticket, of the node file and of the last start.
    """
    dice = stream(secrets.token_bytes(32), "host.outbound")
    await Staying(context, named, dice).run()


class Staying:
    """Links of one node: those that it keeps by choice, and those that it had."""

    def __init__(self, context: StayingNode, named: Collection[PeerId], dice: RandomStream) -> None:
        now = trio.current_time()
        self._context, self._host = context, context.host
        self._named = frozenset(named)
        self._outbound = Outbound(dice)
        self._watch = IsolationWatch(now)
        self._anchors = known_peers.anchors_of(context.store, TABLE)
        self._kept = frozenset[PeerId]()
        self._since: dict[PeerId, float] = {}
        """Time since which each connected peer is, without a break."""
        self._height: tuple[int, float] = (-1, now)
        """Height of the ledger, and the time when it was first seen."""

    async def run(self) -> None:
        """Look, dial and remember until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_remembering)
            planned_at = float("-inf")
            while True:
                now = trio.current_time()
                self._look(now)
                is_isolated = self._watch.found is not None
                if is_isolated or now >= planned_at + PLAN_S:
                    planned_at = now
                    for peer in self._plan(now, is_isolated=is_isolated):
                        nursery.start_soon(self._dial, peer)
                await trio.sleep(TICK_S)

    def _look(self, now: float) -> None:
        """Note who is connected, and say if this node is isolated, or no more."""
        context, connected = self._context, self._host.connected()
        self._since = {peer: self._since.get(peer, now) for peer in connected}
        if context.ledger.height != self._height[0]:
            self._height = (context.ledger.height, now)
        voters = {voter.peer: voter.power for voter in context.ledger.state.validators}
        votes = voters.get(context.me, 0) if context.ledger.is_validator else 0
        networks = [self._host.network(peer) for peer in connected]
        context.stats.links = LinkStats(
            connected=len(connected),
            chosen=len(self._kept & {*connected}),
            networks=len(set(filter(None, networks))),
            anchors=len(self._anchors.peers),
        )
        links = Links(
            networks=networks,
            num_known=len({*self._host.known(), *self._named} - {context.me}),
            needs_others=3 * votes <= 2 * sum(voters.values()),
            has_validator=any(peer in voters for peer in connected),
            ledger_age_s=now - self._height[1],
            pace_s=context.genesis.block_interval_ms / 1000,
            failure=self._outbound.last_failure,
        )
        text = self._watch.judge(links, now)
        found = context.stats.isolation = self._watch.found
        if text:
            context.report(EventKind.WARNING if found else EventKind.NETWORK, text)

    def _plan(self, now: float, *, is_isolated: bool) -> Sequence[PeerId]:
        """Choose links; return the peers to dial for it."""
        known = self._known()
        for one in known:
            if one.rank <= Rank.NAMED:  # the table is bounded, and hearsay would push them out
                self._host.learn(one.peer, self._host.known_addresses(one.peer))
        plan = self._outbound.plan(known, now, is_isolated=is_isolated)
        self._kept = frozenset(plan.keep)
        self._host.keep({*plan.keep, *plan.dial})
        return plan.dial

    def _known(self) -> list[Known]:
        context, host = self._context, self._host
        connected = set(host.connected())
        voters = {voter.peer for voter in context.ledger.state.validators}
        rosters = context.run.seats if context.run else ()
        members = {seat.peer for roster in rosters for seat in roster}
        found = list[Known]()
        for peer in sorted({*host.known(), *connected} - {context.me}):
            is_here = peer in connected
            addresses = host.known_addresses(peer)
            if not (is_here or addresses):
                continue
            rank = Rank.MEMBER if peer in members else Rank.HEARD
            if peer in self._named:
                rank = Rank.NAMED
            if peer in voters:
                rank = Rank.VALIDATOR
            if peer in self._anchors:
                rank = Rank.ANCHOR
            found.append(
                Known(
                    peer=peer,
                    rank=rank,
                    network=host.network(peer) if is_here else network_at(addresses[0]),
                    is_connected=is_here,
                    is_dialled=is_here and host.is_dialled(peer),
                )
            )
        return found

    async def _dial(self, peer: PeerId) -> None:
        try:
            if not self._host.is_connected(peer):
                await self._host.connect(peer, ())
            if not self._host.is_dialled(peer):  # it came to us
                await self._host.prove(peer)
        except Unreachable as error:
            self._outbound.failed(peer, str(error), trio.current_time())
        else:
            self._outbound.reached(peer)

    async def _keep_remembering(self) -> None:
        """Write down whom to call after the next start, again and again."""
        pause_s = FIRST_POLL_S
        while True:
            await trio.sleep(pause_s)
            seen = self._seen(trio.current_time())
            self._anchors = watched(self._anchors, seen, round(pause_s))
            await known_peers.remember(self._context.store, TABLE, self._anchors, seen)
            pause_s = POLL_INTERVAL_S if seen else FIRST_POLL_S

    def _seen(self, now: float) -> list[Seen]:
        host, proved = self._host, self._outbound.proved
        voters = {voter.peer for voter in self._context.ledger.state.validators}
        return [
            Seen(
                peer=peer,
                addresses=tuple(host.known_addresses(peer)),
                network=host.network(peer),
                connected_s=now - self._since.get(peer, now),
                is_proved=peer in proved or host.is_dialled(peer),
                is_validator=peer in voters,
            )
            for peer in host.connected()
        ]
