"""Send requests to peers: dial them, keep streams open, wait no longer than a deadline.

Shell: coalesced dials, a small pool of streams per peer and protocol, a deadline on everything.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import trio
from libp2p.abc import INetStream
from multiaddr.multiaddr import Multiaddr

from swarm.errors import Unreachable
from swarm.host.addresses import AddressBook, direct_first, network_at, relay_in
from swarm.host.backoff import CircuitBreakers, PeerScores
from swarm.host.closing import Untyped
from swarm.host.connections import Connections
from swarm.host.libp2p_patches import GuardedHost
from swarm.host.links import Link
from swarm.host.listen import listening_at
from swarm.host.peer_ids import id_of
from swarm.host.streams import LINK_ERRORS, Declined, FrameStream, NoReply
from swarm.primitives.crypto import peer_name
from swarm.types import PeerId

DIAL_S = 5.0
"""Seconds for TCP, Noise and Yamux at one address; then the next address is tried."""

BEFORE_RELAY_S = 1.5
"""Seconds for that at a direct address of a peer that has one through a relay, too: it probably cannot be
dialled there."""

SOURCE_S = 0.1
"""Seconds within which a dial fails whose port is not free: then it goes on from another."""
RELAYED_S = 12.0
"""Seconds for that through a relay, which is dialled first, and asks the peer."""

GREET_S = 5.0
"""Seconds for the hello after that."""

DIALS_MAX = 16
"""Dials at once: handshakes are arithmetic, and this many already keep a core busy."""

OPEN_S = 5.0
"""Seconds to open a stream on a connection: it takes 3 ms when all is well, a second on a starved machine."""

STREAMS_MAX = 8
"""Kept streams per peer and protocol; the ninth request waits for one of them."""

WIDE_REPLY_BYTES = 256 << 10
"""Bytes of Yamux's window: replies that may be longer get more credit before they are requested."""

IDLE_S = 120.0
SWEEP_INTERVAL_S = 30.0
"""Seconds between sweeps; each closes the streams unused for ``IDLE_S``."""

log = logging.getLogger("swarm.host")

DialRelayed = Callable[[PeerId, str], Awaitable[Untyped]]


class _Pool:
    def __init__(self) -> None:
        self.slots = trio.Semaphore(STREAMS_MAX)
        self.idle: deque[FrameStream] = deque()
        self.num_users = 0


class _Dial:
    def __init__(self) -> None:
        self.done = trio.Event()
        self.error = ""


class Client:
    """Client side of the host: sends requests, connecting to peers as needed."""

    def __init__(
        self,
        host: GuardedHost,
        nursery: trio.Nursery,
        links: Connections,
        *,
        address_book: AddressBook,
        breakers: CircuitBreakers,
        scores: PeerScores,
        traffic: "Traffic",
    ) -> None:
        self._host = host
        self._nursery = nursery
        self._links = links
        self._address_book = address_book
        self._breakers = breakers
        self._scores = scores
        self._traffic = traffic
        self._pools: dict[tuple[PeerId, str], _Pool] = {}
        self._dials: dict[PeerId, _Dial] = {}
        self._dial_slots = trio.Semaphore(DIALS_MAX)
        self.dial_relayed: DialRelayed | None = None
        """Function that dials a peer at an address through a relay."""
        nursery.start_soon(self._sweep)

    # ---- connections

    async def connect(self, peer: PeerId) -> Link:
        """Return a link to ``peer``, dialling its known addresses if there is none.

        Callers that want the same peer wait for the same dial. Raises ``Unreachable`` with what was tried.
        """
        live = self._links.of(peer)
        if live:
            return live[-1]
        dial = self._dials.get(peer)
        if dial is None:
            dial = self._dials[peer] = _Dial()
            self._nursery.start_soon(self._run_dial, peer, dial)
        await dial.done.wait()
        live = self._links.of(peer)  # a dial that failed does not matter if the peer came to us
        if live:
            return live[-1]
        raise Unreachable(dial.error or f"{peer_name(peer)} hung up")

    async def reach_relay(self, relay: PeerId, address: str) -> None:
        """Connect to a relay at an address, or those known if it is ""; raise ``Unreachable``.

        It may be one that is no peer of our network.
        """
        if address:
            self._address_book.learn(relay, [address])
        self._links.accept_helper(relay)
        if self._links.relay_link(relay) is None:
            try:
                await self.connect(relay)
            except Unreachable:
                if self._links.relay_link(relay) is None:
                    raise

    async def prove(self, peer: PeerId, *, is_direct: bool = False) -> None:
        """Dial ``peer`` at its addresses, connected or not; raise ``Unreachable`` if it is at none of them.

        ``is_direct`` leaves out those through relays.
        """
        notes: list[str] = []
        async with self._dial_slots:
            for address in self._address_book.addresses(peer):
                if is_direct and relay_in(address) is not None:
                    continue
                note = await self._try_address(peer, address)
                if not note:
                    self._address_book.worked(peer, address)
                    return
                notes.append(f"{address} ({note})")
        raise Unreachable(f"{peer_name(peer)} is not at {', '.join(notes) or 'any address'}")

    async def _run_dial(self, peer: PeerId, dial: _Dial) -> None:
        """Dial in a task of its own, so that a caller that gives up does not end the others' dial."""
        try:
            async with self._dial_slots:
                dial.error = await self._try_addresses(peer)
            if dial.error:
                self._breakers.failed(peer, trio.current_time())
        finally:
            del self._dials[peer]
            dial.done.set()

    async def _try_addresses(self, peer: PeerId) -> str:
        """Try one address after the other; return what went wrong, or an empty string."""
        ban_s = self._scores.ban_s(peer, trio.current_time())
        if ban_s > 0:
            return f"{peer_name(peer)} broke the protocol and is refused for {ban_s:.0f} s more"
        notes: list[str] = []
        for address in direct_first(self._address_book.addresses(peer)):
            note = await self._try_address(peer, address)
            if self._links.of(peer) or self._links.relay_link(peer):
                self._address_book.worked(peer, address)
                return ""
            if why := self._links.why_parted(peer):
                return f"{peer_name(peer)} {why}"
            self._address_book.failed(peer, address)
            notes.append(f"{address} ({note})")
        if not notes:
            return f"no address is known for {peer_name(peer)}"
        return f"cannot reach {peer_name(peer)} at {', '.join(notes)}"

    def _patience_s(self, peer: PeerId, address: str) -> float:
        """Return the seconds for a dial: fewer where an address through a relay is the likelier one."""
        others = self._address_book.addresses(peer)
        if relay_in(address) is not None:
            return RELAYED_S
        return BEFORE_RELAY_S if any(map(relay_in, others)) else DIAL_S

    async def _dial_at(self, peer: PeerId, address: str) -> Untyped:
        if relay_in(address) is None:
            return await self._dial_direct(peer, address)
        if self.dial_relayed is None:
            raise Unreachable("no relay is used here")
        return await self.dial_relayed(peer, address)

    async def _dial_direct(self, peer: PeerId, address: str) -> Untyped:
        """Dial an address, a public one from the port at which we listen.

        So a router that we are behind lets others in where the peer sees us come from (``relay/punch.py``).
        """
        network, at, named = self._host.get_network(), Multiaddr(address), id_of(peer)
        source = listening_at(network, address) if network_at(address) else None
        if source is not None:
            began = trio.current_time()
            try:
                return await network.dial_addr(at, named, source)
            except LINK_ERRORS:
                # A connection from that port to there may have ended a moment ago.
                if trio.current_time() - began > SOURCE_S:
                    raise
        return await network.dial_addr(at, named)

    async def _try_address(self, peer: PeerId, address: str) -> str:
        patience_s = self._patience_s(peer, address)
        with trio.move_on_after(patience_s):
            try:
                conn = await self._dial_at(peer, address)
            except Unreachable as error:
                return str(error)
            except LINK_ERRORS as error:
                return _reason(error)
            link = self._links.link_of(conn)
            if link is None:
                return "hung up"
            with trio.move_on_after(GREET_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_wait_then_cancel, link.ended, nursery.cancel_scope)
                    await link.greeted.wait()
                    nursery.cancel_scope.cancel()
                return "" if link.is_live or link.is_helper else "hung up"
            return "no hello in time"
        return f"no answer within {patience_s:g} s"

    async def open_stream(self, peer: PeerId, protocols: Sequence[str]) -> INetStream:
        """Open a new stream to ``peer``, for the first of ``protocols`` that it speaks.

        Raises ``Unreachable``, at once while the peer rests after a failure.
        """
        rest_s = self._breakers.rest_s(peer, trio.current_time())
        if rest_s > 0:
            raise Unreachable(f"{peer_name(peer)} did not answer; next try in {rest_s:.1f} s")
        link = await self.connect(peer)
        with trio.move_on_after(OPEN_S):
            return await self._links.open_on(link, protocols)
        self._breakers.failed(peer, trio.current_time())
        raise Unreachable(f"{peer_name(peer)} opened no stream within {OPEN_S:g} s")

    # ---- requests

    async def call(
        self,
        peer: PeerId,
        protocol: str,
        request: bytes,
        *,
        timeout_s: float,
        reply_limit: int,
        idempotent: bool,
    ) -> bytes:
        """Send one request and return its reply; see ``Host.call``."""
        key = (peer, protocol)
        pool = self._pools.setdefault(key, _Pool())
        pool.num_users += 1
        try:
            with trio.move_on_after(timeout_s):
                async with pool.slots:
                    return await self._ask(pool, key, request, reply_limit, idempotent)
        finally:
            pool.num_users -= 1
            if not pool.num_users and not pool.idle and self._pools.get(key) is pool:
                del self._pools[key]
        raise Unreachable(f"{peer_name(peer)} did not answer {protocol} within {timeout_s:g} s")

    async def _ask(
        self,
        pool: _Pool,
        key: tuple[PeerId, str],
        request: bytes,
        reply_limit: int,
        idempotent: bool,
    ) -> bytes:
        stream = self._take_idle(pool)
        if stream is not None:
            try:
                return await self._exchange(pool, stream, request, reply_limit)
            except NoReply:
                if not idempotent:
                    raise
        return await self._exchange(pool, await self._open(key), request, reply_limit)

    async def _exchange(
        self, pool: _Pool, stream: FrameStream, request: bytes, reply_limit: int
    ) -> bytes:
        """Send one request on one stream, which is kept only if it is silent again afterwards."""
        answered = False
        try:
            if reply_limit > WIDE_REPLY_BYTES:
                await stream.widen(2 * reply_limit)
            reply = await stream.ask(request, reply_limit=reply_limit)
            answered = True
            return reply
        except Declined:
            answered = True
            raise
        finally:
            if answered and stream.is_usable:
                pool.idle.append(stream)
            else:
                self._nursery.start_soon(stream.reset)

    def _take_idle(self, pool: _Pool) -> FrameStream | None:
        while pool.idle:
            stream = pool.idle.pop()
            if stream.is_usable:
                return stream
            self._nursery.start_soon(stream.reset)
        return None

    async def _open(self, key: tuple[PeerId, str]) -> FrameStream:
        peer, protocol = key
        stream = await self.open_stream(peer, [protocol])
        return FrameStream(stream, count=partial(self._traffic.add, peer))

    def forget(self, peer: PeerId) -> None:
        """Release the streams of a peer that is gone."""
        for key in [key for key in self._pools if key[0] == peer]:
            pool = self._pools[key]
            while pool.idle:
                self._nursery.start_soon(pool.idle.pop().reset)
            if not pool.num_users:
                del self._pools[key]

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_INTERVAL_S)
            oldest = trio.current_time() - IDLE_S
            for key, pool in list(self._pools.items()):
                for stream in [s for s in pool.idle if s.used_at < oldest or not s.is_usable]:
                    pool.idle.remove(stream)
                    self._nursery.start_soon(stream.close)
                if not pool.num_users and not pool.idle:
                    del self._pools[key]


class Traffic:
    """Bytes sent to and received from each peer, in our own frames."""

    PEERS_MAX = 4096

    def __init__(self) -> None:
        self._bytes: dict[PeerId, tuple[int, int]] = {}

    def add(self, peer: PeerId, sent: int, received: int) -> None:
        """Count bytes; when the table is full, the peer counted first makes room."""
        old = self._bytes.get(peer, (0, 0))
        self._bytes[peer] = (old[0] + sent, old[1] + received)
        if len(self._bytes) > self.PEERS_MAX:
            del self._bytes[next(iter(self._bytes))]

    def of(self, peer: PeerId) -> tuple[int, int]:
        """Return the (sent, received) bytes of a peer."""
        return self._bytes.get(peer, (0, 0))


async def _wait_then_cancel(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _reason(error: BaseException) -> str:
    """Return a short cause from libp2p's chain of errors."""
    causes = " ".join(_chain(error))
    for sign, text in _SIGNS:
        if sign in causes:
            return text
    return "no connection"


_SIGNS = (
    ("Peer ID mismatch", "another peer answers there"),
    ("PeerIDMismatch", "another peer answers there"),
    ("refused", "connection refused"),
    ("unreachable", "no route"),
    ("DNS", "name not found"),
    ("every place", "every place for connections is taken here"),
    ("upgrade", "handshake failed"),
)
"""Signs in the errors of libp2p and trio, and the cause that each one means."""


def _chain(error: BaseException) -> Iterator[str]:
    """Yield the kind and text of an error and of every error that led to it."""
    yield f"{type(error).__name__} {error}"
    below = error.__cause__ or error.__context__
    inside = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for cause in (*inside, *([below] if below else ())):
        yield from _chain(cause)
