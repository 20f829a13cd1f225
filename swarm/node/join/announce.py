"""Announce this node's roles, seats and progress in the directory, again and again.

Shell: reads the context, gives the directory an announcement whenever it wants one, and carries those of the
run's peers as news.
"""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from swarm import __version__
from swarm.dht.directory import SOLVE, VALIDATE, VERIFY, Announcement
from swarm.dht.service import Dht
from swarm.gossip.news.router import Verdict
from swarm.gossip.news.service import News
from swarm.host.outbound import VALIDATOR_LINKS
from swarm.ledger.net.standing import Standings
from swarm.node.control.planner import ENDED
from swarm.node.ports import HasConfig, HasHost, HasLedger, HasMe, HasRun, HasStats
from swarm.types import PeerId


class BusyChecks(Protocol):
    """Checks of others' work: ``swarm.verify.service.Verifier``."""

    @property
    def jobs(self) -> Sequence[object]:
        """The windows that are being fetched or replayed now."""
        ...


class DescribedNode(HasMe, HasRun, HasConfig, HasStats, HasLedger, HasHost, Protocol):
    """Parts of a node that an announcement describes."""

    @property
    def checks(self) -> BusyChecks:
        """Checks of others' work."""
        ...


class AnnouncingNode(DescribedNode, Protocol):
    """Parts of a node that announces itself."""

    @property
    def dht(self) -> Dht:
        """The directory of peers."""
        ...

    @property
    def news(self) -> News:
        """News of this node: statements to everybody."""
        ...

    def peers_of_run(self) -> list[PeerId]:
        """Return the peers that the ledger or the network names for this run."""
        ...


async def announce(context: AnnouncingNode) -> None:
    """Announce this node and read the announcements of others; runs until cancelled."""
    await context.dht.directory_loop(
        partial(announcement, context),
        partial(peers_asked, context),
        spread=RunNews(context).spread,
    )


class RunNews:
    """Announcements of the peers of this node's run as news, on a topic of that run."""

    def __init__(self, context: AnnouncingNode) -> None:
        self._context = context
        self._standings = Standings(lambda: context.ledger.state)
        self._topic = ""

    def spread(self, record: bytes) -> None:
        """Take the topic of the run that this node is in, and send a record on it; an empty one is not sent."""
        context = self._context
        topic = f"announcements/{context.run16.hex()}" if context.run else ""
        if topic != self._topic:
            if self._topic:
                context.news.leave(self._topic)
            if topic:
                context.news.join(topic, self._judge)
            self._topic = topic
        if topic and record:
            context.news.publish(topic, record)

    def _judge(self, _bringer: PeerId, data: bytes) -> Verdict:
        """Pass on what a peer with a stake or a seat announces of itself: keys without are free."""
        is_new = self._context.dht.hear(data, self._standings.has_any)
        return Verdict.ACCEPT if is_new else Verdict.IGNORE


def peers_asked(context: AnnouncingNode) -> list[PeerId]:
    """Return the peers to ask for their announcements, and to look for in the DHT where they are not connected.

    Beside those of the run these are the validators, as long as fewer are connected than a node has links to
    keep for them: to hear only peers that have nothing to lose is to hear what they like.
    """
    found, voters = context.peers_of_run(), context.ledger.state.validators
    connected = set(context.host.connected())
    if sum(voter.peer in connected for voter in voters) >= VALIDATOR_LINKS:
        return found
    return list(dict.fromkeys([*found, *(voter.peer for voter in voters)]))


def announcement(context: DescribedNode) -> Announcement:
    """Return the announcement of what this node is doing now."""
    run, stats = context.run, context.stats
    seats = tuple(
        (seat.stage, seat.index)
        for roster in (run.seats if run else ())
        for seat in roster
        if seat.peer == context.me
    )
    loss = stats.training_loss
    return Announcement(
        run16=context.run16 if run else b"",
        roles=_roles(context),
        seats=seats,
        tokens_per_s=stats.tokens_per_s,
        loss_milli=int(loss * 1000) if loss is not None else -1,
        round=run.rounds[-1].round if run and run.rounds else 0,
        steps=stats.steps,
        height=context.ledger.height,
        reachability=context.host.reachability(),
        version=__version__,
        addresses=tuple(context.host.addresses()[:4]),
        state=_state(context, is_seated=bool(seats)),
        num_traded=stats.trades,
        last_partner=stats.last_partner,
    )


def _roles(context: DescribedNode) -> int:
    """Return the roles as a bit set; a verifier has a stake to be liable with, and is configured to verify."""
    verifies = context.config.verify and context.ledger.state.account(context.me).stake > 0
    return (
        (SOLVE if context.config.solve else 0)
        | (VALIDATE if context.ledger.is_validator else 0)
        | (VERIFY if verifies else 0)
    )


def _state(context: DescribedNode, *, is_seated: bool) -> str:
    run = context.run
    if is_seated and run is not None and run.phase not in ENDED:
        return "training"
    if context.checks.jobs:
        return "verifying"
    return "idle" if run else "syncing"
