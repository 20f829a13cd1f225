"""Open a node in this process and use it: the Python API, and the entrance of the command line.

Shell: starts the tasks of the node; its values come from the packages below.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import trio

from swarm.config.advice import nearest
from swarm.config.resources import load_node
from swarm.config.schema import NodeConfig
from swarm.dht.directory import PeerView, view
from swarm.errors import UsageError, cause_of
from swarm.events import Event, EventKind
from swarm.host.identity import load_identity
from swarm.ledger.reader import Ledger, LedgerBlock
from swarm.ledger.state.records import Run, SegmentRecord
from swarm.node.api.actions import ticket_of
from swarm.node.node import NodeSetup, OpenedNode, run_node
from swarm.node.start import Resume, Start, prepared
from swarm.primitives.crypto import peer_name, peer_text
from swarm.types import PeerId
from swarm.verify.audit import AuditResult

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PeerMap:
    """Peers that a node has heard of within the last hour, itself among them; ``str`` makes a table of them."""

    me: PeerId
    """Public key of the node that drew the map."""
    peers: tuple[PeerView, ...]
    """All peers, in the order of their keys; iterating over the map gives the same."""

    @property
    def others(self) -> tuple[PeerView, ...]:
        """Peers without the node that drew the map."""
        return tuple(peer for peer in self.peers if peer.peer != self.me)

    def __iter__(self) -> Iterator[PeerView]:
        return iter(self.peers)

    def __len__(self) -> int:
        return len(self.peers)

    def __str__(self) -> str:
        return "\n".join(self._row(peer) for peer in self.peers)

    def _row(self, peer: PeerView) -> str:
        said, rtt = peer.announcement, "-" if peer.rtt_ms is None else f"{peer.rtt_ms} ms"
        seats = ", ".join(f"{stage}/{seat}" for stage, seat in said.seats) if said else ""
        path = "you" if peer.peer == self.me else rtt
        state = peer.state if peer.reason == "ok" else peer.reason
        return f"{peer.name:<24} {path:>8}  seats {seats or '-':<8} {state}"


class Follower(AsyncIterator[T], Generic[T]):
    """Endless asynchronous iterator; it holds nothing that needs to be closed."""

    def __init__(
        self, item_after: Callable[[int], Awaitable[tuple[int, T]]], position: int
    ) -> None:
        self._item_after, self._position = item_after, position

    async def __anext__(self) -> T:
        self._position, item = await self._item_after(self._position)
        return item


class Node:
    """Running node, made by ``open_node``; use it inside that ``async with`` only."""

    def __init__(self, opened: OpenedNode) -> None:
        self._opened, self._context = opened, opened.context
        context = opened.context
        self._ledger = Ledger(context.store, context.genesis, lambda: context.ledger.state)

    @property
    def peer_id(self) -> str:
        """Identifier of this node among its peers: its key, as ``12D3Koo...``."""
        return peer_text(self._context.me)

    @property
    def key(self) -> PeerId:
        """Public key of this node, by which the records of the ledger name it."""
        return self._context.me

    @property
    def name(self) -> str:
        """Human name of this node, made from its key."""
        return peer_name(self._context.me)

    @property
    def home(self) -> Path:
        """Folder with the key, the ledger, the text and the checkpoints of this node."""
        return self._context.home

    @property
    def url(self) -> str:
        """Address of the local page with the map."""
        return self._opened.url

    @property
    def ledger(self) -> Ledger:
        """Ledger as far as this node knows it; it moves on with every block."""
        return self._ledger

    @property
    def run(self) -> Run | None:
        """Run of this node as of the last final block; None before it has joined one."""
        return self._context.run

    @property
    def training_loss(self) -> float | None:
        """Mean loss in nats of the last round this node trained, or of the open one; None before the first."""
        return self._context.stats.training_loss

    @property
    def num_steps(self) -> int:
        """Number of optimizer steps that this node has made since it was opened."""
        return self._context.stats.steps

    def ticket(self) -> str:
        """Return an invitation to this node's network and run, ``swarm1:...``, good for 30 days.

        Raises:
            UsageError: The node has no run yet (see ``wait_run``), or no address that others could call.
        """
        return ticket_of(self._context)

    def peer_map(self) -> PeerMap:
        """Return the peers of this network: state and reason, seats, speed, round-trip time."""
        return PeerMap(self._context.me, view(self._context.dht.peer_map, trio.current_time()))

    async def wait_run(self) -> Run:
        """Wait until this node has opened or joined its run; return it.

        The node ends, and its ``async with`` raises ``BadConfig``, when the run does not fit this machine.
        """
        await self.wait_for(EventKind.RUN_JOINED)
        run = self.run
        assert run is not None, "a run that was joined does not go away"
        return run

    def events(self, *, past: bool = False) -> AsyncIterator[Event]:
        """Iterate over the events of this node as they come; the iterator does not end.

        A reader that is more than ``EVENTS_KEPT`` events behind misses the oldest.

        Args:
            past: Begin with those since the node was opened, as far as they are kept.
        """
        log = self._context.report
        return Follower(log.event_after, 0 if past else log.total)

    async def wait_for(self, kind: EventKind | str, text: str = "") -> Event:
        """Wait for an event; one that has happened since the node was opened counts.

        Args:
            kind: Kind of the event, such as ``"checkpoint"``.
            text: A part of its sentence; any will do by default.

        Returns:
            The first such event.

        Raises:
            UsageError: There is no such kind of event.
        """
        kinds = [known.value for known in EventKind]
        if kind not in kinds:
            near = nearest(str(kind), kinds) or ", ".join(kinds)
            raise UsageError(f"no event is called {str(kind)[:40]!r}", hint=f"did you mean: {near}")
        async for event in self.events(past=True):
            if event.kind == kind and text in event.text:
                return event
        raise AssertionError("events do not end")

    def blocks(self, first: int | None = None) -> AsyncIterator[LedgerBlock]:
        """Iterate over the final blocks, each once and in order, as they become final.

        A node that is far behind goes on from a snapshot: the blocks before it are left out, unless ``first``
        asks for one of them; then ``Pruned`` is raised.

        Args:
            first: Height of the first block; the next one to become final by default.
        """
        if first is None:
            return Follower(self._next_block, self.ledger.height + 1)
        return Follower(self._block_at, max(first, 1))

    async def _next_block(self, height: int) -> tuple[int, LedgerBlock]:
        await self._context.ledger.wait_height(height)
        return await self._block_at(max(height, self.ledger.first))

    async def _block_at(self, height: int) -> tuple[int, LedgerBlock]:
        await self._context.ledger.wait_height(height)
        return height + 1, self.ledger.block(height)

    async def wait_segment(self) -> SegmentRecord:
        """Wait until work of another peer can be replayed; return the newest such segment.

        A segment is the work of one seat in one round. Its solver commits to it at the end of the round, and
        shows the hashes of its steps after the answer of a checker, who thus cannot have copied them.
        """
        blocks = self.blocks()
        while True:
            shown = [one for one in self.ledger.segments() if one.peer != self.key and one.claims]
            if shown:
                return shown[-1]
            await anext(blocks)

    async def audit(self, segment: SegmentRecord, window: int | None = None) -> AuditResult:
        """Replay a part of a peer's work and compare it bit for bit with what that peer has committed to.

        Takes as long as fetching the logs and computing the steps again. The run needs numerics that are exact.
        Peers show a few logs an hour to nodes without a stake, and all to those with one.

        Args:
            segment: One of ``ledger.segments()``, or that of ``wait_segment``.
            window: Number of the window in it; by default all windows where that is cheap, else a random one.

        Returns:
            The result for the first window that is not honest, or for the last one that was replayed.

        Raises:
            UsageError: There is no such window, the run cannot be checked, or another audit is under way.
            Unreachable: The text of the run cannot be had.
        """
        result, _ = await self._opened.auditor.replay(segment, window)
        return result

    async def pause_run(self) -> Run:
        """Let the run rest from the next round on; return it. Raises as ``stop_run`` does."""
        return await self._change("pause")

    async def resume_run(self) -> Run:
        """Let a paused run go on; return it. Raises as ``stop_run`` does."""
        return await self._change("resume")

    async def stop_run(self) -> Run:
        """End the run early: after the round under way its replicas are averaged into one model.

        Returns:
            The run as of the block that holds the decision.

        Raises:
            UsageError: This node does not own the run, or the run is over already.
            Unreachable: The ledger made nothing final within a minute.
        """
        return await self._change("stop")

    async def _change(self, name: str) -> Run:
        run, _ = await self._opened.control.change(name)
        return run


@asynccontextmanager
async def open_node(
    config: NodeConfig | None = None,
    *,
    home: str | Path,
    start: Start | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> AsyncGenerator[Node]:
    """Run a node for the time of an ``async with`` block, under trio.

    It trains, checks, votes and serves in the background. An error that ends it cancels the block and is raised
    from there.

    Args:
        config: Settings of this machine; by default those in ``node.toml`` of the home, if there is one.
        home: Folder of the node, made on first use; one process at a time may use it.
        start: ``Join(ticket)``, ``Launch(file)``, or ``Resume()`` (the default) to go on with the home's run.
        on_event: Called with every event from the first on; it must neither block nor raise.

    Returns:
        An asynchronous context manager that enters with the ``Node`` once it serves; it may have no run yet.

    Raises:
        BadIdentity: Another process uses the home, or its key is unreadable.
        UsageError: Nothing to resume, a ticket of another network, or a busy port.
        BadTicket: No peer of the ticket's network knows the ticket.
        BadConfig: A run, a setting or a device that cannot be had here.
        Corrupt: The disk has damaged what was stored.
    """
    setup = _setup(config, Path(home), start or Resume(), on_event)
    try:
        async with trio.open_nursery() as nursery:
            # The overloads of start cannot be matched with a keyword-only argument.
            serve: Any = partial(run_node, setup)
            opened: OpenedNode = await nursery.start(serve)
            try:
                yield Node(opened)
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        cause = cause_of(group)
        if cause is group:
            raise
        raise cause from None


def _setup(
    config: NodeConfig | None, home: Path, start: Start, on_event: Callable[[Event], None] | None
) -> NodeSetup:
    folder = home.expanduser().absolute()
    return NodeSetup(
        home=folder,
        config=load_node(folder) if config is None else config,
        secret=load_identity(folder),
        start=prepared(start, folder),
        report=on_event,
    )
