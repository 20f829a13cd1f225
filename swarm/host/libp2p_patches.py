"""Subclasses of libp2p's classes that close off every crash, hang and leak we found.

Shell: subclasses of libp2p 0.8.1. Each guard names what happens without it; tests/host/test_libp2p_patches.py
holds one regression test per guard.
"""

import itertools
import logging
from collections import OrderedDict
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import libp2p.network.swarm as libp2p_swarm
import trio
from libp2p.abc import IMuxedConn, INetConn, INetStream, IRawConnection, ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key
from libp2p.custom_types import TProtocol
from libp2p.exceptions import ParseError
from libp2p.host.basic_host import BasicHost
from libp2p.host.exceptions import StreamFailure
from libp2p.host.ping import ID as PING_PROTOCOL
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import ID as IDENTIFY_PROTOCOL
from libp2p.identity.identify.identify import identify_handler_for
from libp2p.io.abc import Reader
from libp2p.io.exceptions import MessageTooLarge
from libp2p.io.trio import TrioTCPStream
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection import swarm_connection
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.rcmgr import Direction
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from libp2p.utils.varint import read_varint_prefixed_bytes_limited
from multiaddr.multiaddr import Multiaddr

from swarm.errors import PeerFault, Unreachable
from swarm.host.addresses import ADDRESSES_MAX
from swarm.host.closing import (
    Untyped,
    cut,
    open_scope,
    own_host,
    relay_under,
    shielded,
    socket_under,
)
from swarm.host.memory_quota import UnreadBytes, stream_budget
from swarm.host.noise import quick
from swarm.host.paces import Work
from swarm.host.pacing import Pacing
from swarm.host.places import OUTBOUND_PART, PLACES_MAX, USE_BYTES, Place, ask_for_place
from swarm.host.quota import Quota
from swarm.host.uplink import Uplink
from swarm.host.yamux import GuardedYamux, guarded_streams, read_stream
from swarm.primitives.crypto import SecretKey
from swarm.types import PeerId

CONNECTIONS_MAX = PLACES_MAX
PLACES_SPARE = 16
"""Connections above that for which libp2p's own limit leaves room: those that are being replaced."""

CONNECTIONS_PER_PEER_MAX = 3
"""Two peers that dial each other at once hold two; a third may be a fresh one after a restart."""

HANDSHAKES_MAX = 128
HANDSHAKES_PER_ADDRESS_MAX = 32
"""Unfinished inbound handshakes, in all and from one address: beyond that the oldest is dropped. It is a silent
one, since an honest handshake takes well under a second."""

HELD_OFF_S, HELD_OFF_MAX = 5.0, 64
"""Seconds for which a connection that is refused before its handshake stays open, and how many do."""
HANDSHAKE_S = 8.0
"""Seconds to finish Noise and Yamux, tolerant of a machine that trains on every core."""

NEGOTIATE_S = 8
"""Seconds to agree on a protocol on a new stream; a whole number, as libp2p truncates it."""

LINE_BYTES_MAX = 1 << 10
"""Bytes of a line by which two peers agree on a protocol: our longest id is 40."""

EYEBALLS_DELAY_S = 0.02
"""Seconds of head start of libp2p's first dial before it tries the next; its own .25 s is paid by every
connect."""

log = logging.getLogger("swarm.libp2p")


class ConnectionLimits(Protocol):
    """Calls that the guarded classes make to the host around them."""

    pacing: Pacing

    def addresses(self) -> list[str]:
        """Return the addresses at which others can dial us."""
        ...

    async def dial(self, peer_id: ID) -> list[INetConn]:
        """Connect at known addresses, one at a time; raise ``Unreachable``."""
        ...

    async def open_stream(self, peer_id: ID, protocols: Sequence[str]) -> INetStream:
        """Open a stream under deadline and circuit breaker; raise ``Unreachable``."""
        ...

    async def admit(self, stream: INetStream, protocol: str) -> bool:
        """Return True if this peer may speak this protocol now."""
        ...

    def handler_failed(self, peer_id: ID, protocol: str, error: Exception) -> None:
        """Take note that a stream handler raised ``error``."""
        ...

    def faulted(self, peer_id: ID, fault: PeerFault) -> None:
        """Take note that a peer broke the rules of a connection, which is cut already."""
        ...


class GuardedUpgrader(TransportUpgrader):
    """Upgrader that keeps the socket under a connection, so that a frozen one can be cut without its peer."""

    uplink: Uplink

    async def upgrade_security(
        self, raw_conn: IRawConnection, is_initiator: bool, peer_id: ID | None = None
    ) -> ISecureConn:
        """Secure a connection and keep hold of its socket."""
        plain = await super().upgrade_security(raw_conn, is_initiator, peer_id)
        # What goes through a relay is paced by the connection to the relay.
        secured: Any = quick(plain, self.uplink if relay_under(raw_conn) is None else Uplink())
        secured.swarm_raw = raw_conn
        return secured  # type: ignore[no-any-return]

    async def upgrade_connection(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """Agree on Yamux."""
        return guarded_streams(await super().upgrade_connection(conn, peer_id))  # type: ignore[no-any-return]


class GuardedSwarm(libp2p_swarm.Swarm):
    """libp2p's swarm, accepting and dialling within limits.

    Unguarded: an inbound slot is held for the life of the node, so after 250 connections, ended or not, no peer
    gets in; as many keys of one machine keep everybody out, and this node from dialling; 600 silent sockets
    keep newcomers out for seconds; only the first address of a peer is tried; a peer that failed is refused for
    60 s; it dials every peer it has heard of, 128 at a time; a new connection is a search of all tasks.
    """

    limits: ConnectionLimits

    def __init__(self, *args: Untyped, **options: Untyped) -> None:
        super().__init__(*args, **options)
        self.unread = UnreadBytes[GuardedYamux]()
        self.kept: Collection[ID] = ()
        """Peers of our own choice, whose connections nobody pushes out."""
        self._arrivals = itertools.count()
        self._held_off = 0
        self._handshakes: dict[trio.CancelScope, str] = {}
        connector: Untyped = self.auto_connector
        connector.maybe_connect = connector.run_background_task = _do_nothing

    async def run(self) -> None:
        """Run with all tasks side by side, not as a tree that is searched for the parent of each new one."""
        manager: Any = self.get_manager()
        manager._find_parent_task = _no_parent
        await super().run()

    async def _handle_inbound_connection(self, read_write_closer: Untyped, maddr: Untyped) -> None:
        remote = read_write_closer.get_remote_address()
        address = remote[0] if remote else ""
        payer = self.limits.pacing.payer_at(address, own_host(read_write_closer.stream))
        self._make_room(address)
        muxed: Any = None
        with open_scope() as scope:
            self._handshakes[scope] = address
            try:
                muxed = await self._upgraded(read_write_closer, payer, maddr)
            finally:
                self._handshakes.pop(scope, None)
        # The listener closes the socket when this returns, and not before.
        if muxed is not None:
            await muxed.event_closed.wait()
        elif payer:
            await self._hold_off()

    async def _upgraded(self, closer: Untyped, payer: str, maddr: Untyped) -> Untyped:
        """Shake hands when it is the turn of a payer, at its cost; None if too many of it wait."""
        pacing = self.limits.pacing
        meter = pacing.meter(payer)
        try:
            await pacing.turn(payer, Work.HANDSHAKE)
            raw = RawConnection(closer, False)
            return await meter.run(self.upgrade_inbound_raw_conn(raw, maddr))
        except Unreachable:
            return None
        finally:
            if meter.used_s:
                pacing.learn(payer, Work.HANDSHAKE, meter.used_s)

    async def _hold_off(self) -> None:
        """Leave a refused connection open for a while, unread: who is refused at once dials again at once."""
        if self._held_off < HELD_OFF_MAX:
            self._held_off += 1
            try:
                await trio.sleep(HELD_OFF_S)
            finally:
                self._held_off -= 1

    def _make_room(self, address: str) -> None:
        """Drop the oldest unfinished handshake if a limit is reached."""
        near = [scope for scope, other in self._handshakes.items() if other == address]
        if len(near) >= HANDSHAKES_PER_ADDRESS_MAX:
            self._drop_handshake(near[0])
        elif len(self._handshakes) >= HANDSHAKES_MAX:
            self._drop_handshake(next(iter(self._handshakes)))

    def _drop_handshake(self, scope: trio.CancelScope) -> None:
        self._handshakes.pop(scope, None)
        scope.cancel()

    async def add_conn(self, muxed_conn: Untyped, direction: str = "unknown") -> Untyped:
        """Register a connection if it gets a place; its failure does not end the swarm."""
        await self._take_place(muxed_conn, is_inbound=direction == "inbound")
        if isinstance(muxed_conn, GuardedYamux):
            muxed_conn.count_in(
                self.unread, lambda other, fault: self.limits.faulted(other.peer_id, fault)
            )
            muxed_conn.pacing = self.limits.pacing
        start = muxed_conn.start

        async def start_guarded() -> None:
            try:
                await start()
            except Exception as error:  # a guard: one connection's failure would end all the others
                log.warning("connection to %s failed: %r", muxed_conn.peer_id, error)

        muxed_conn.start = start_guarded
        return await super().add_conn(muxed_conn, direction)

    async def _take_place(self, muxed_conn: Untyped, *, is_inbound: bool) -> None:
        """Give a new connection a place, that of another one if need be; raise ``SwarmException``."""
        taken: list[Any] = [
            conn
            for conn in self.get_connections()
            if not getattr(conn.muxed_conn, "swarm_is_pushed_out", False)
        ]
        taken.sort(key=lambda conn: conn.muxed_conn.swarm_arrival)
        is_tight = len(taken) >= CONNECTIONS_MAX - CONNECTIONS_MAX // OUTBOUND_PART
        place = partial(self._place, is_tight=is_tight)
        verdict = ask_for_place(
            place(muxed_conn, is_inbound=is_inbound),
            [
                place(conn.muxed_conn, is_inbound=conn.direction == Direction.INBOUND)
                for conn in taken
            ],
            CONNECTIONS_MAX,
        )
        muxed_conn.swarm_arrival = next(self._arrivals)
        muxed_conn.swarm_since = trio.current_time()
        if not verdict.is_admitted:
            await trio.aclose_forcefully(socket_under(muxed_conn.secured_conn))
            raise SwarmException("every place for connections is taken")
        if verdict.pushed_out is not None:
            pushed_out = taken[verdict.pushed_out]
            pushed_out.muxed_conn.swarm_is_pushed_out = True
            log.info("%s makes room for another network", pushed_out.muxed_conn.peer_id)
            await cut(pushed_out)

    def _place(self, muxed_conn: Untyped, *, is_inbound: bool, is_tight: bool) -> Place:
        """Describe the place of a connection; its standing is looked up only where places are tight."""
        remote = muxed_conn.get_remote_address()
        now = trio.current_time()
        return Place(
            remote[0] if remote else "",
            is_inbound,
            is_kept=muxed_conn.peer_id in self.kept,
            has_standing=is_tight and self.limits.pacing.has_standing(muxed_conn.peer_id),
            use=getattr(muxed_conn, "given_bytes", 0) // USE_BYTES,
            age_s=now - getattr(muxed_conn, "swarm_since", now),
        )

    async def dial_peer(self, peer_id: ID) -> list[INetConn]:
        """Dial through ``ConnectionLimits``: every address, one at a time, coalesced, with a deadline."""
        try:
            return await self.limits.dial(peer_id)
        except Unreachable as error:
            raise SwarmException(str(error)) from None


class GuardedPeerStore(PeerStore):
    """libp2p's store of what the DHT hears of peers, with few addresses of each.

    Unguarded: one peer has as many addresses as others tell; and whoever tells of a thousand peers pushes out
    our own key, without which nothing is published.
    """

    def add_addrs(self, peer_id: ID, addrs: Sequence[Multiaddr], ttl: int = 0) -> None:
        """Remember addresses of a peer, ``ADDRESSES_MAX`` in all, the newest ones."""
        super().add_addrs(peer_id, addrs, ttl)
        if (data := self.peer_data_map.get(peer_id)) is not None:
            del data.addrs[:-ADDRESSES_MAX]

    def _enforce_peer_limit(self) -> None:
        others = [peer for peer, data in self.peer_data_map.items() if data.privkey is None]
        for peer in others[: len(self.peer_data_map) - self.max_peers]:
            self.clear_peerdata(peer)


class GuardedHost(BasicHost):
    """libp2p's host, serving and opening streams so that no peer can end the process.

    Unguarded: an exception in any stream handler ends the process; a stream to a frozen peer hangs; a stream
    whose handler is done is kept until its peer ends it, and what it sent for a minute more.
    """

    limits: Untyped = None

    def __init__(self, network: GuardedSwarm) -> None:
        super().__init__(
            network=network,
            default_protocols=OrderedDict([(IDENTIFY_PROTOCOL, _refuse)]),
            negotiate_timeout=NEGOTIATE_S,
            disable_identify_address_discovery=True,
        )
        self.streams = Quota(stream_budget())
        """Inbound streams that are served."""
        # identify/push is left out: it lets any peer write into our peer store.
        self.set_stream_handler(IDENTIFY_PROTOCOL, identify_handler_for(self))
        self.set_stream_handler(PING_PROTOCOL, PingService(self).handle_ping)

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:
        """Do nothing: our hello replaces the outbound identify.

        It takes one round trip and lets no peer write into the peer store.
        """

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        peer_id, pacing = net_stream.muxed_conn.peer_id, self.limits.pacing
        try:
            with self.streams.admitted(PeerId(peer_id.to_bytes()), 1) as number:
                is_done = False
                with self.streams.moving(number):
                    await pacing.turn(pacing.payer(net_stream.muxed_conn), Work.QUESTION)
                    meter = pacing.meter_of(net_stream.muxed_conn)
                    net_stream.swarm_meter = meter  # type: ignore[attr-defined]
                    await meter.run(self._serve_stream(net_stream, peer_id))
                    is_done = True
                if not is_done:
                    await _reset(net_stream)
        except Unreachable:
            await _reset(net_stream)
        finally:
            await _forget(net_stream)

    async def _serve_stream(self, net_stream: INetStream, peer_id: ID) -> None:
        protocol = ""
        try:
            chosen, handler = await self.multiselect.negotiate(
                MultiselectCommunicator(net_stream), NEGOTIATE_S
            )
            protocol = str(chosen)
            if (
                chosen is None
                or handler is None
                or not await self.limits.admit(net_stream, protocol)
            ):
                await net_stream.reset()
                return
            net_stream.set_protocol(chosen)
            await handler(net_stream)
        except Exception as error:  # the guard: a handler's failure would end the process
            self.limits.handler_failed(peer_id, protocol, error)
            await _reset(net_stream)

    def get_addrs(self) -> list[Multiaddr]:
        """Return the addresses to tell others; never a wildcard, as libp2p would."""
        if self.limits is None:
            return []
        told = self.limits.addresses()[:ADDRESSES_MAX]
        return [Multiaddr(f"{text}/p2p/{self.get_id()}") for text in told]

    async def connect(self, peer_info: PeerInfo) -> None:
        """Connect at the addresses given and known; raise ``SwarmException``."""
        self.peerstore.add_addrs(peer_info.peer_id, peer_info.addrs, 3600)
        await self.get_network().dial_peer(peer_info.peer_id)

    async def new_stream(self, peer_id: ID, protocol_ids: Sequence[TProtocol]) -> INetStream:
        """Open a stream for libp2p's own services; raise ``StreamFailure`` within a deadline."""
        limits: ConnectionLimits = self.limits
        try:
            return await limits.open_stream(peer_id, [str(p) for p in protocol_ids])
        except Unreachable as error:
            raise StreamFailure(str(error)) from None


async def read_line(reader: Reader) -> bytes:
    """Read a line of the negotiation of protocols; raise ``ParseError`` if it is none, or a longer one.

    Unguarded: a line has any length, and what came of it is kept and not counted, before the handshake, too.
    """
    try:
        line = await read_varint_prefixed_bytes_limited(reader, LINE_BYTES_MAX)
    except MessageTooLarge as error:
        raise ParseError(str(error)) from None
    if not line.endswith(b"\n"):
        raise ParseError("not a line")
    return line[:-1]


async def _do_nothing(*_: object) -> None:
    pass


def _no_parent(_: object) -> None:
    pass


async def _refuse(stream: INetStream) -> None:
    await stream.reset()


async def _reset(stream: INetStream) -> None:
    with trio.move_on_after(1):
        await stream.reset()


async def _forget(stream: Untyped) -> None:
    """Drop a stream whose handler is done, even from a cancelled task."""
    stream.swarm_conn.remove_stream(stream)
    if isinstance(stream.muxed_conn, GuardedYamux):
        with shielded(1):
            await stream.muxed_conn.forget(stream.muxed_stream)


def _remote_address(stream: TrioTCPStream) -> tuple[str, int] | None:
    """Return host and port of the other end, IPv4 or IPv6, also once the socket has gone."""
    if stream._cached_remote_address is None:  # pyright: ignore[reportPrivateUsage]
        with suppress(AttributeError, OSError):
            host, port, *_ = stream.stream.socket.getpeername()
            stream._cached_remote_address = str(host), int(port)  # pyright: ignore[reportPrivateUsage]
    return stream._cached_remote_address  # pyright: ignore[reportPrivateUsage]


def build_host(secret: SecretKey, uplink: Uplink | None = None) -> GuardedHost:
    """Return a libp2p host over TCP, Noise and Yamux only, which sends at the pace of ``uplink``.

    Unguarded: the default also accepts plaintext, where a PeerID is only a claim; a peer on IPv6 has no remote
    address, so that all of them share the limit of one address, and none is believed where it listens.
    """
    multiselect_communicator.read_delim = read_line  # type: ignore[attr-defined]
    YamuxStream.read = read_stream  # type: ignore[assignment, method-assign]
    TrioTCPStream.get_remote_address = _remote_address  # type: ignore[assignment, method-assign]
    libp2p_swarm._HAPPY_EYEBALLS_DELAY = EYEBALLS_DELAY_S  # pyright: ignore[reportPrivateUsage]
    keys = create_new_key_pair(secret.seed)
    own_id = ID.from_pubkey(keys.public_key)
    peerstore = GuardedPeerStore()
    peerstore.add_key_pair(own_id, keys)
    noise = NoiseTransport(keys, noise_privkey=create_noise_key().private_key)
    upgrader = GuardedUpgrader(
        secure_transports_by_protocol={NOISE_PROTOCOL: noise},
        muxer_transports_by_protocol={TProtocol(YAMUX_PROTOCOL): Yamux},
        negotiate_timeout=NEGOTIATE_S,
    )
    upgrader.uplink = uplink or Uplink()
    network = GuardedSwarm(
        own_id,
        peerstore,
        upgrader,
        transports=[TCP()],
        retry_config=RetryConfig(max_retries=0),
        connection_config=ConnectionConfig(
            max_connections=CONNECTIONS_MAX + PLACES_SPARE,
            min_connections=0,
            low_watermark=0,  # no dialling on libp2p's own initiative
            high_watermark=CONNECTIONS_MAX + PLACES_SPARE,
            max_connections_per_peer=CONNECTIONS_PER_PEER_MAX,
            inbound_upgrade_timeout=HANDSHAKE_S,
            outbound_upgrade_timeout=HANDSHAKE_S,
            outbound_stream_protocol_negotiation_timeout=NEGOTIATE_S,
            inbound_stream_protocol_negotiation_timeout=NEGOTIATE_S,
            auto_connect_interval=3600,
        ),
    )
    return GuardedHost(network)


def route_logging() -> None:
    """Send libp2p's records to "swarm.libp2p": by itself it writes them to stderr, or nowhere.

    One of its modules writes to the root logger, which sets up a handler on stderr for the whole process.
    """
    swarm_connection.logging = logging.getLogger("libp2p.network.connection")  # type: ignore[assignment, attr-defined]
    theirs = logging.getLogger("libp2p")
    ours = logging.getLogger("swarm.libp2p")
    if not any(isinstance(handler, _Router) for handler in theirs.handlers):
        theirs.handlers[:] = [_Router()]
        theirs.propagate = False
        ours.addHandler(logging.NullHandler())
        logging.getLogger("swarm").addHandler(logging.NullHandler())


class _Router(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        ours = logging.getLogger("swarm.libp2p")
        if ours.isEnabledFor(record.levelno):
            ours.handle(record)
