"""Greet, ping, watch and drop the connections of this host.

Shell: one task per connection, one watchdog for all.

    OPENED --hello--> GREETED --3 pings unanswered, restart, twin, fault, buffer--> CUT
       |                                                                              ^
       +---- 10 s without hello, another network -------------------------------------+

``ConnectionNotices`` reduces libp2p's notices of connections to two callbacks.
"""

import contextlib
import logging
import math
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.custom_types import TProtocol
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from multiaddr.multiaddr import Multiaddr

from swarm.errors import BadEncoding, SwarmError, Unreachable
from swarm.host import handshake as greeting
from swarm.host.addresses import AddressBook, believable
from swarm.host.backoff import CircuitBreakers, PeerScores
from swarm.host.closing import Untyped, cut, say_goodbye
from swarm.host.handshake import Hello, parse_hello, reason_to_part
from swarm.host.libp2p_patches import NEGOTIATE_S, GuardedHost
from swarm.host.links import Link, Links
from swarm.host.peer_ids import id_of, peer_of
from swarm.host.relay.messages import STOP
from swarm.host.streams import ANSWER, LINK_ERRORS, REFUSAL, Declined, FrameStream, refusal
from swarm.host.twins import (
    ASK_BYTES_MAX,
    NONCE_BYTES,
    TwinAsk,
    is_proved,
    older_of,
    parse_life,
)
from swarm.host.twins import PROTOCOL as TWIN_PROTOCOL
from swarm.primitives.codec import encode
from swarm.primitives.crypto import peer_name
from swarm.spill import give_back
from swarm.types import PeerId


class ConnectionNotices(INotifee):
    """Notifee that calls one function when a connection is up and one when it is down."""

    def __init__(
        self, up: Callable[[INetConn], object], down: Callable[[INetConn], object]
    ) -> None:
        self._up = up
        self._down = down

    async def connected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        """Report that a connection is up."""
        self._up(conn)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        """Report that a connection is down."""
        self._down(conn)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Do nothing."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Do nothing."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Do nothing."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Do nothing."""


PING_PROTOCOL = "/swarm/ping/1"
PING_BYTES = 8
PING_INTERVAL_S = 5.0
PING_TIMEOUT_S = 5.0
PING_FAILURES_MAX = 3
"""Pings in a row without an answer: a frozen peer is dropped after 15 to 30 s, while a live one on a starved
machine answers one ping in three."""

PING_ANYWAY_S = 30.0
"""Seconds without a ping of ours after which a peer that is heard all the time is sent one: it is what measures
the round trip."""

OWN_DELAY_MAX_S = 1.0
"""Seconds by which a timeout of a ping may be late. A later one shows that this machine was slow: the ping is
not counted."""

GREET_S = 10.0
"""Seconds after which a connection without a hello is closed."""

SPARE_STREAMS = 2
"""Streams of a link that carries pings only: ours and theirs."""

FAREWELL_S = 0.3
"""Seconds for our reason to arrive before a connection we part from is cut."""

WATCH_INTERVAL_S = 1.0
GIVE_BACK_BYTES = 16 << 20
"""Bytes by which what is held for others must have shrunk before freed memory is given back to the system:
that takes milliseconds."""
GIVE_BACK_PAUSE_S = 10.0
"""Seconds from one such time to the next: a run whose questions are large fills and drains all the time."""

TWIN_S = 5.0
"""Seconds for two processes with one key to show that both live; a process that has died answers nothing."""

HELPERS_MAX = 64
"""Relays that are no peers of our network, as many as are remembered."""
PARTED_MAX = 1024
"""Reasons kept for peers we parted from at the greeting."""

log = logging.getLogger("swarm.host")


class NotSpoken(Unreachable):
    """Peer that does not speak a protocol."""


class _OtherNetwork(Unreachable):
    """Peer that follows another genesis."""


class Connections:
    """All connections of this host."""

    def __init__(
        self,
        host: GuardedHost,
        nursery: trio.Nursery,
        *,
        introduce: Callable[[], Hello],
        address_book: AddressBook,
        breakers: CircuitBreakers,
        scores: PeerScores,
        changed: Callable[[PeerId, bool], None],
        held: Callable[[], int],
    ) -> None:
        """Register the hello handler and start the watchdog.

        ``changed(peer, is_connected)`` is called when a peer's first link is greeted, or its last one ends;
        ``held()`` returns the bytes held for others.
        """
        self._host = host
        self._nursery = nursery
        self._introduce = introduce
        self._address_book = address_book
        self._breakers = breakers
        self._scores = scores
        self._changed = changed
        self._held = held
        self._links = Links(peer_of(host.get_id()))
        self._up: set[PeerId] = set()
        self._parted: dict[PeerId, str] = {}
        self._probed: set[PeerId] = set()
        """Peers that are dialled to see whether they can be: that connection is no link."""
        self._helpers: set[PeerId] = set()
        self.on_relayed: Callable[[Link], object] = _ignored
        """Function that is called with a link through a relay, where there is no direct one."""
        self.on_direct: Callable[[PeerId], object] = _ignored
        """Function that is called when there is a direct link beside one through a relay."""
        host.set_stream_handler(TProtocol(greeting.PROTOCOL), self._serve_hello)
        host.get_network().register_notifee(ConnectionNotices(self.link_of, self._forget))
        nursery.start_soon(self._watch)

    # ---- lookups

    def of(self, peer: PeerId) -> list[Link]:
        """Return the greeted, open links to a peer, the best one last."""
        return self._links.of(peer)

    def relay_link(self, peer: PeerId) -> Link | None:
        """Return a direct link to a relay, of our network or not; None if there is none."""
        return self._links.to_relay(peer)

    def accept_helper(self, peer: PeerId) -> None:
        """Stay linked to a relay that we dial, also where it is no peer of our network."""
        if len(self._helpers) < HELPERS_MAX:
            self._helpers.add(peer)

    def peers(self) -> list[PeerId]:
        """Return the connected peers, in the order of their keys."""
        return self._links.peers()

    def why_parted(self, peer: PeerId) -> str:
        """Return why we did not stay connected to a peer, as the end of a sentence; empty if unknown."""
        return self._parted.get(peer, "")

    def link_of(self, conn: Untyped) -> Link | None:
        """Return the link of a connection, a new one if it has none yet.

        None if the connection has ended or its key is not Ed25519; the latter is cut.
        """
        link = self._links.at(conn)
        if link is None and not conn.is_closed:
            try:
                link = Link(conn, peer_of(conn.muxed_conn.peer_id))
            except BadEncoding:
                self._nursery.start_soon(cut, conn)
                return None
            if link.is_outbound and link.peer in self._probed:
                return None
            self._links.add(link)
            self._nursery.start_soon(self._tend, link)
        return link

    async def admit(self, stream: INetStream, protocol: str) -> bool:
        """Return True if a new inbound stream may be served: after the greeting, unless the peer is banned."""
        conn: Untyped = stream.swarm_conn  # type: ignore[attr-defined]
        link = self.link_of(conn)
        if link is None:
            return False
        if protocol == greeting.PROTOCOL:
            return True
        if protocol == IDENTIFY and not link.greeted.is_set():
            return False  # at once: a peer in Go says nothing else, the hello too, before it has an answer
        # The answer to our own hello may still be on its way when the other side opens its first stream.
        with trio.move_on_after(GREET_S):
            await link.greeted.wait()
        if link.is_helper and protocol != STOP:
            return False
        is_banned = self._scores.ban_s(link.peer, trio.current_time()) > 0
        return link.greeted.is_set() and not is_banned

    # ---- one connection

    async def _tend(self, link: Link) -> None:
        try:
            with link.scope:
                try:
                    await self._greet(link)
                except NotSpoken:
                    if link.peer not in self._helpers:
                        raise
                    link.is_helper = True
                    link.greeted.set()
                    await link.ended.wait()
                await self._keep_pinging(link)
        except (SwarmError, *LINK_ERRORS) as error:
            log.info("dropping %s: %s", peer_name(link.peer), error)
        await self.drop(link)

    async def _greet(self, link: Link) -> None:
        with trio.move_on_after(GREET_S):
            if link.is_outbound:
                stream = FrameStream(await self.open_on(link, [greeting.PROTOCOL]))
                try:
                    answer = await stream.ask(
                        encode(self._introduce()), reply_limit=greeting.HELLO_BYTES_MAX
                    )
                except Declined as refused:
                    self._part(link.peer, f"refused us: {refused}")
                    raise
                await stream.close()
                self._accept(link, answer)
            await link.greeted.wait()
        if not link.greeted.is_set():
            raise Unreachable("no hello in time")

    async def _serve_hello(self, net_stream: INetStream) -> None:
        """Answer the hello of a peer that dialled us."""
        conn: Untyped = net_stream.swarm_conn  # type: ignore[attr-defined]
        link = self.link_of(conn)
        if link is None:
            return
        stream = FrameStream(net_stream)
        request = await stream.receive(greeting.HELLO_BYTES_MAX)
        try:
            self._accept(link, request or b"")
        except SwarmError as error:
            log.info("parting from %s: %s", peer_name(link.peer), error)
            if isinstance(error, _OtherNetwork):
                await stream.send(encode(self._introduce()), status=ANSWER)  # it sees for itself
            else:
                await stream.send(refusal(str(error)), status=REFUSAL)
            await stream.close()
            await trio.sleep(FAREWELL_S)
            await self.drop(link)
            return
        await stream.send(encode(self._introduce()), status=ANSWER)
        await stream.close()

    def _accept(self, link: Link, data: bytes) -> None:
        """Judge a hello and mark the link as greeted; raise ``PeerFault`` or ``Unreachable`` if we part."""
        theirs = parse_hello(data)
        reason = reason_to_part(self._introduce(), theirs)
        self._part(link.peer, reason)
        if reason:
            raise _OtherNetwork(f"{peer_name(link.peer)} {reason}")
        if self._scores.ban_s(link.peer, trio.current_time()) > 0:
            raise Unreachable("too many faults, try again later")
        if link.greeted.is_set():
            return
        for older in self.of(link.peer):
            if older.session != theirs.session:
                older.is_replaced = True
                self._nursery.start_soon(self._replace, older, link)
        link.session = theirs.session
        link.clock_s = theirs.clock_s - trio.current_time()
        self._address_book.learn(link.peer, believable(theirs.addresses, link.remote_host))
        self._breakers.reset(link.peer)
        link.greeted.set()
        self._found_way(link)
        if link.peer not in self._up:
            self._up.add(link.peer)
            self._changed(link.peer, True)

    def _found_way(self, link: Link) -> None:
        """Tell that a peer is linked through a relay, or no longer through one alone."""
        ways = {one.relay is None for one in self.of(link.peer)}
        if link.relay is not None and True not in ways:
            self.on_relayed(link)
        elif link.relay is None and False in ways:
            log.info("a direct way to %s", peer_name(link.peer))
            self.on_direct(link.peer)

    async def _replace(self, older: Link, newer: Link) -> None:
        """Drop the link from before a restart, or, of two processes that live, that of the younger.

        Both are told of each other then: one key is for one machine.
        """
        ask: TwinAsk | None = None
        with trio.move_on_after(TWIN_S), contextlib.suppress(SwarmError, *LINK_ERRORS):
            await newer.greeted.wait()
            ask = await self._signs_of_life(older, newer)
        if ask is not None and older_of(ask).session == older.session:
            older.is_replaced = False
            log.warning("%s runs twice, on two machines", peer_name(older.peer))
            await self.drop(newer)
        else:
            await self.drop(older)

    async def _signs_of_life(self, older: Link, newer: Link) -> TwinAsk | None:
        """Return the signs of life of two processes with one key, once both have been told; None if not both
        gave one.
        """
        # The newer first: if both began at once, the one that was here first has run longer then.
        links = newer, older
        nonces = [await self._ask_twin(link, TwinAsk((), ()), NONCE_BYTES) for link in links]
        ask = TwinAsk(tuple(nonces), ())
        signs = [parse_life(await self._ask_twin(link, ask, ASK_BYTES_MAX)) for link in links]
        told = TwinAsk(ask.nonces, tuple(signs))
        if not is_proved(older.peer, self._introduce().chain, told):
            return None
        for link in links:
            with contextlib.suppress(SwarmError, *LINK_ERRORS):
                await self._ask_twin(link, told, 0)
        return told

    async def _ask_twin(self, link: Link, ask: TwinAsk, reply_limit: int) -> bytes:
        stream = FrameStream(await self.open_on(link, [TWIN_PROTOCOL]))
        answer = await stream.ask(encode(ask), reply_limit=reply_limit)
        await stream.close()
        return answer

    def _part(self, peer: PeerId, reason: str) -> None:
        """Remember the reason to part from a peer, or, if it is empty, that there is none any more."""
        self._parted.pop(peer, None)
        if reason:
            self._parted[peer] = reason
            if len(self._parted) > PARTED_MAX:
                del self._parted[next(iter(self._parted))]

    async def _keep_pinging(self, link: Link) -> None:
        stream: FrameStream | None = None
        pause_s, answered_at = 0.0, -math.inf
        while link.failures < PING_FAILURES_MAX:
            await trio.sleep(pause_s)
            pause_s = PING_INTERVAL_S * random.uniform(0.9, 1.1)
            began = trio.current_time()
            if min(link.heard_at + pause_s, answered_at + PING_ANYWAY_S) > began:
                link.failures = 0
                if self._is_spare(link):
                    return
                continue
            is_answered = False
            with trio.move_on_after(PING_TIMEOUT_S), contextlib.suppress(Unreachable):
                stream = stream or FrameStream(await self.open_on(link, [PING_PROTOCOL]))
                asked = trio.current_time()
                await stream.ask(random.randbytes(PING_BYTES), reply_limit=PING_BYTES)
                rtt_s = trio.current_time() - asked
                link.rtt_s = rtt_s if link.rtt_s is None else (link.rtt_s + rtt_s) / 2
                is_answered = True
            if is_answered:
                link.failures, answered_at = 0, trio.current_time()
                self._breakers.reset(link.peer)
                if self._is_spare(link):
                    return
                continue
            if stream is not None:
                self._nursery.start_soon(stream.reset)
                stream = None
            if trio.current_time() - began < PING_TIMEOUT_S + OWN_DELAY_MAX_S:
                link.failures += 1
        raise Unreachable(f"{PING_FAILURES_MAX} pings unanswered")

    def _is_spare(self, link: Link) -> bool:
        """Return True if we dialled this link, another is better, and nothing but pings runs on it."""
        return (
            link.is_outbound
            and self.of(link.peer)[-1:] != [link]
            and len(link.conn.get_streams()) <= SPARE_STREAMS
        )

    async def open_on(self, link: Link, protocols: Sequence[str]) -> INetStream:
        """Open a stream on one connection; raise ``Unreachable``.

        There is no deadline here: the caller sets one.
        """
        stream: Any = None
        try:
            stream = await link.conn.new_stream()
            chosen = await self._host.multiselect_client.select_one_of(
                [TProtocol(name) for name in protocols],
                MultiselectCommunicator(stream),
                NEGOTIATE_S,
            )
        except MultiselectClientError as error:
            self._nursery.start_soon(stream.reset)
            broken = any(
                sign in str(error) for sign in ("read failed", "write failed", "timed out")
            )
            name = peer_name(link.peer)
            if broken:
                raise Unreachable(f"{name} broke off on {protocols[0]}") from None
            raise NotSpoken(f"{name} does not speak {protocols[0]}") from None
        except LINK_ERRORS as error:
            if stream is not None:
                self._nursery.start_soon(stream.reset)
            raise Unreachable(f"{peer_name(link.peer)} hung up ({error})") from None
        except trio.Cancelled:
            if stream is not None:
                self._nursery.start_soon(stream.reset)
            raise
        stream.set_protocol(chosen)
        return stream  # type: ignore[no-any-return]

    async def probe(self, peer: PeerId, address: str) -> bool:
        """Dial a peer anew and hang up; return True if it was there, and proved its key."""
        self._probed.add(peer)
        try:
            network = self._host.get_network()
            conn = await network.dial_addr(Multiaddr(address), id_of(peer))
            await cut(conn)
        except LINK_ERRORS:
            return False
        finally:
            self._probed.discard(peer)
        return True

    # ---- closing

    async def drop(self, link: Link) -> None:
        """Cut one connection at once."""
        self._forget(link.conn)
        await cut(link.conn)

    async def drop_from(self, hosts: Collection[str]) -> None:
        """Cut the connections from addresses that this machine has no more."""
        for link in [link for link in self._links if link.local_host in hosts]:
            log.info("dropping %s: from %s", peer_name(link.peer), link.local_host)
            await self.drop(link)

    async def drop_peer(self, peer: PeerId) -> None:
        """Cut all connections of a peer."""
        for link in self._links.with_peer(peer):
            await self.drop(link)

    async def close(self) -> None:
        """Close every connection politely, all of them side by side."""
        async with trio.open_nursery() as nursery:
            for link in list(self._links):
                self._forget(link.conn)
                nursery.start_soon(say_goodbye, link.conn)

    def _forget(self, conn: Untyped) -> None:
        link = self._links.remove(conn)
        if link is None:
            return
        link.ended.set()
        link.scope.cancel()
        if link.peer in self._up and not self.of(link.peer):
            self._up.discard(link.peer)
            self._changed(link.peer, False)

    async def _watch(self) -> None:
        """Forget connections that ended without notice, and give memory back after a flood."""
        highest, next_at = 0, trio.current_time()
        while True:
            await trio.sleep(WATCH_INTERVAL_S)
            for link in list(self._links):
                if link.conn.is_closed:
                    self._forget(link.conn)
            held = self._held()
            highest = max(highest, held)
            if highest - held >= GIVE_BACK_BYTES and trio.current_time() >= next_at:
                highest, next_at = held, trio.current_time() + GIVE_BACK_PAUSE_S
                await trio.to_thread.run_sync(give_back)


def _ignored(_: object) -> None:
    """Do nothing."""
