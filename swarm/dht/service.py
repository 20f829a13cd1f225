"""Entry point of the DHT: records, providers and the peer map of one node.

Shell: bounds every operation and raises nothing but ``Unreachable``. Lookups are those of ``dht/table.py``.
libp2p's Kademlia answers beside it, under our own protocol id: who speaks it finds the same records. Faults of
0.8.1 that are mended here: it lives under a protocol id of the public IPFS network; more than 12 requests at
once are reset; slow peers cost 10 s each; it reads messages of 4 MiB, waits for the rest of one for
ever, keeps records of 1 MiB each and lists of providers without number, and looks through all that it keeps for
the oldest.

    message   announced --room--> moving --whole, checked--> with libp2p --next one, end--> gone
                 +-- too long, too slow, a field out of bounds, no room --> stream reset
"""

import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import libp2p.kad_dht.common as kad_common
import libp2p.kad_dht.peer_routing as kad_routing
import libp2p.kad_dht.provider_store as kad_providers
import libp2p.kad_dht.value_store as kad_values
import trio
from libp2p.custom_types import StreamHandlerFn, TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.kad_dht import kad_dht
from libp2p.kad_dht.common import format_time_rfc3339
from libp2p.kad_dht.pb.kademlia_pb2 import Record
from libp2p.kad_dht.value_store import ValueStore
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.records.validator import NamespacedValidator, Validator
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.tools.anyio_service import background_trio_service

from swarm.dht.announcer import Directory, Lookups, Spread, spread_nothing
from swarm.dht.directory import Announcement, PeerTable
from swarm.dht.messages import (
    ANSWER_BYTES_MAX,
    PREFIX_BYTES_MAX,
    QUESTION_BYTES_MAX,
    check_message,
    parse_prefix,
)
from swarm.dht.records import (
    NAMESPACE,
    TTL_MAX_S,
    SignedRecord,
    record_key,
    select,
    sign_record,
    validate,
)
from swarm.dht.table import Table
from swarm.errors import PeerFault, Unreachable
from swarm.host.addresses import ADDRESSES_MAX
from swarm.host.closing import Untyped, shielded
from swarm.host.memory_quota import ByteBudget
from swarm.host.peer_ids import id_of, peer_of
from swarm.host.quota import HeldMessage, Quota
from swarm.host.service import Host, PeerConnected
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey, digest
from swarm.types import PeerId

if TYPE_CHECKING:
    from trio_typing import TaskStatus

PROTOCOL = TProtocol("/swarm/kad/1")
QUERY_S = 3
"""Seconds for one request to one peer, a whole number."""

OPERATION_S = 15.0
"""Seconds for a whole lookup, publication or listing."""

OPERATIONS_MAX = 4
"""Operations of our own at once: each asks six peers side by side."""

INBOUND_MAX = 256
"""Requests answered at once; libp2p's own limit of 12 is exceeded by one publication in a small network."""

INBOUND_PER_PEER_MAX = 16
"""Requests of one peer: each of its operations asks us once, and a publication once more."""

IDLE_S = 10.0
"""Seconds for a message to begin; libp2p opens a stream for each question."""

MESSAGE_S = 5.0
"""Seconds for the rest of a message, and for an answer to be taken."""

READ_BYTES = 4 << 10
"""Bytes read at once beyond the message that is read."""

VALUES_MAX = 2048
"""Records stored for others, 4 KiB each."""

PROVIDED_MAX = 2048
"""Claims to be a provider that are kept."""

PROVIDED_PER_PEER_MAX = 16
"""Claims of one peer: it takes part in a run or two, and the newest count."""

_KAD_ERRORS = (BaseLibp2pError, ExceptionGroup, OSError, ValueError, LookupError, TypeError)
"""Errors that libp2p's DHT raises, some of them from its parsers, which meet junk from peers."""

log = logging.getLogger("swarm.dht")


class Dht:
    """This node's part of the distributed hash table. Run ``run`` in a nursery."""

    def __init__(self, host: Host, secret: SecretKey) -> None:
        assert host.peer == secret.peer, "the table speaks with the host's own key"
        _patch()
        self._host = host
        self._secret = secret
        self._directory: Directory | None = None
        self._slots = trio.Semaphore(OPERATIONS_MAX)
        table_host: Untyped = _TableHost(host)
        self._kad = kad_dht.KadDHT(
            table_host,
            kad_dht.DHTMode.SERVER,
            validator=NamespacedValidator({NAMESPACE: _Judge()}, strict_validation=True),
            validator_changed=True,
            strict_validation=True,
        )
        kad: Any = self._kad
        kad._inbound_limiter = trio.CapacityLimiter(INBOUND_MAX)
        kad.value_store = _Values(table_host, kad.local_peer_id)
        kad.provider_store = _Providers(table_host, kad.peer_routing)
        self._table = Table(host, _Held(kad.value_store))

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Take part in the DHT until cancelled."""
        async with background_trio_service(self._kad), trio.open_nursery() as nursery:
            await nursery.start(self._table.run)
            task_status.started()
            await self._follow_connections()

    async def _follow_connections(self) -> None:
        """Put every connected peer into the routing table, which is empty before that; remove the lost ones."""
        events = self._host.subscribe()
        for peer in self._host.connected():
            await self._kad.add_peer(id_of(peer), skip_server_mode_check=True)
        async for event in events:
            if isinstance(event, PeerConnected):
                await self._kad.add_peer(id_of(event.peer), skip_server_mode_check=True)
            else:
                self._kad.routing_table.remove_peer(id_of(event.peer))

    # ---- records

    async def publish(self, topic: str, payload: bytes, ttl_s: int) -> None:
        """Publish ``payload`` as our record on ``topic``, for ``ttl_s`` seconds; raise ``Unreachable``."""
        assert 0 < ttl_s <= TTL_MAX_S, "a record holds for a day at most"
        record = sign_record(
            self._secret,
            topic,
            payload,
            seq=time.time_ns(),
            expires_at=int(time.time()) + ttl_s,
        )
        async with self._operation("publish"):
            await self._table.publish(record_key(topic, self._host.peer), encode(record))

    async def read(self, topic: str, peer: PeerId) -> SignedRecord | None:
        """Return the newest record of ``peer`` on ``topic`` that others hold now, or None.

        Our own copy is used if it is newer or there is no other. Raises ``Unreachable``.
        """
        async with self._operation("read"):
            return await self._table.read(topic, peer)

    # ---- providers

    async def provide(self, key: bytes) -> None:
        """Publish that this node has, or takes part in, what ``key`` names; raise ``Unreachable``.

        It is listed for ten minutes.
        """
        async with self._operation("provide"):
            await self._table.provide(digest("dht-provider", key))

    async def find_providers(self, key: bytes, limit: int) -> list[PeerId]:
        """Return at most ``limit`` other peers that published ``key``: claims, to be checked by asking them.

        Their addresses are remembered. Raises ``Unreachable``.
        """
        async with self._operation("find_providers"):
            found = await self._table.find_providers(digest("dht-provider", key), limit)
        for peer, addresses in found.items():
            self._remember(peer, addresses)
        return list(found)

    async def find_peer_addresses(self, peer: PeerId) -> list[str]:
        """Return and remember the addresses under which others know ``peer``; raise ``Unreachable``."""
        async with self._operation("find_peer"):
            self._remember(peer, await self._table.find_peer(peer))
        return self._host.known_addresses(peer)

    def _remember(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Learn addresses from other peers, behind those we know ourselves."""
        self._host.learn(peer, [*self._host.known_addresses(peer), *addresses[:8]])

    @asynccontextmanager
    async def _operation(self, name: str) -> AsyncGenerator[None]:
        """Bound one use of the DHT in time and number, and turn its errors into ``Unreachable``."""
        if not self._host.connected():
            raise Unreachable("no peer is connected")
        try:
            with trio.fail_after(OPERATION_S):
                async with self._slots:
                    yield
        except trio.TooSlowError:
            raise Unreachable(f"the DHT did not {name} within {OPERATION_S:g} s") from None
        except _KAD_ERRORS as error:
            raise Unreachable(f"the DHT failed to {name}: {error}") from None

    # ---- the peer map

    async def directory_loop(
        self,
        current: Callable[[], Announcement],
        roster: Callable[[], Sequence[PeerId]],
        *,
        interval_s: float = 5.0,
        spread: Spread = spread_nothing,
    ) -> None:
        """Keep the peer map up to date: announce ourselves, ask other peers; runs until cancelled.

        Args:
            current: Function that returns our announcement now.
            roster: Function that returns peers to ask, beside those that are connected.
            interval_s: Seconds between two rounds.
            spread: Function that sends our announcement to all peers of the run as news, once a minute.
        """
        lookups = Lookups(self.publish, self.read, self.provide, self.find_providers)
        self._directory = Directory(
            self._host,
            self._secret,
            lookups,
            current=current,
            roster=roster,
            interval_s=interval_s,
            spread=spread,
        )
        await self._directory.run()

    def hear(self, data: bytes, is_welcome: Callable[[PeerId], bool]) -> bool:
        """Take an announcement that came as news; return True if it is one to pass on.

        Raises ``PeerFault`` for what no honest peer passes on.
        """
        return self._directory is not None and self._directory.hear(data, is_welcome)

    @property
    def peer_map(self) -> PeerTable:
        """Peers, folded from announcements and our own measurements."""
        return self._directory.peer_map if self._directory else PeerTable()


class _Held:
    """Records in libp2p's store, where those who ask in its protocol find them, too."""

    def __init__(self, store: ValueStore) -> None:
        self._store = store

    def get(self, key: str) -> bytes | None:
        record = self._store.get(key.encode("ascii"))
        return None if record is None else record.value

    def put(self, key: str, record: bytes) -> None:
        raw = key.encode("ascii")
        self._store.put_record(
            raw, Record(key=raw, value=record, timeReceived=format_time_rfc3339())
        )

    def items(self) -> list[tuple[str, bytes, float]]:
        stored_s = time.time() + kad_common.DEFAULT_TTL
        return [
            (key.decode("ascii"), record.value, stored_s - forgotten_s)
            for key, (record, forgotten_s) in self._store.store.items()
        ]


class _TableHost:
    """libp2p's host as the table uses it: each message on its streams is counted and checked first."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._libp2p: Untyped = host.libp2p_host
        self._inbound = Quota(
            ByteBudget(per_peer_bytes_max=INBOUND_PER_PEER_MAX, bytes_max=INBOUND_MAX)
        )

    def __getattr__(self, name: str) -> Untyped:
        return getattr(self._libp2p, name)

    async def new_stream(self, peer_id: ID, protocols: Sequence[TProtocol]) -> Untyped:
        """Open a stream, on which answers come."""
        stream = await self._libp2p.new_stream(peer_id, protocols)
        return (
            _TableStream(self._host, stream, ANSWER_BYTES_MAX) if PROTOCOL in protocols else stream
        )

    def set_stream_handler(self, protocol: TProtocol, handler: StreamHandlerFn) -> None:
        """Serve a protocol, on which questions come."""

        async def serve(stream: Untyped) -> None:
            checked: Untyped = _TableStream(self._host, stream, QUESTION_BYTES_MAX)
            with self._inbound.admitted(checked.peer, 1) as number:
                try:
                    with self._inbound.moving(number):
                        await handler(checked)
                finally:
                    checked.release()

        self._libp2p.set_stream_handler(protocol, serve)


class _TableStream:
    """One stream of the table: libp2p reads whole messages, which are within their bounds and counted."""

    def __init__(self, host: Host, stream: Untyped, bytes_max: int) -> None:
        self.peer = peer_of(stream.muxed_conn.peer_id)
        self._host = host
        self._stream = stream
        self._bytes_max = bytes_max
        self._arrived = bytearray()
        self._ready = b""
        """Rest of the message that libp2p reads now."""
        self._held = HeldMessage(self.peer)

    def __getattr__(self, name: str) -> Untyped:
        return getattr(self._stream, name)

    def release(self) -> None:
        """Count the last message no more."""
        self._held.release()

    async def read(self, n: int | None = None) -> bytes:
        """Return bytes of the next message, its length first; none once the stream has ended.

        Raises ``PeerFault``, which is blamed already, or ``Unreachable``.
        """
        if not self._ready:
            self.release()
            try:
                self._ready = await self._next()
            except PeerFault as fault:
                self._host.blame(self.peer, fault)
                raise
        taken, self._ready = self._ready[:n], self._ready[len(self._ready[:n]) :]
        return taken

    async def _next(self) -> bytes:
        prefix = await self._announced()
        if prefix is None:
            return b""
        size = sum(prefix)
        message = b""
        self._held.hold(self._host.small_quota, size, is_moving=True)
        with self._held.moving(MESSAGE_S):
            while len(self._arrived) < size and await self._fill(size - len(self._arrived)):
                pass
            message = bytes(self._arrived[:size])
        if len(message) < size:
            raise Unreachable("a message that ended, came too slowly, or made room for others")
        self._held.arrived()
        del self._arrived[:size]
        check_message(message[prefix[0] :])
        return message

    async def _announced(self) -> tuple[int, int] | None:
        """Return the bytes of the next length, and the length; None if the stream ends before."""
        with trio.move_on_after(IDLE_S):
            while True:
                prefix = parse_prefix(bytes(self._arrived[:PREFIX_BYTES_MAX]), self._bytes_max)
                if prefix is not None or not await self._fill(READ_BYTES):
                    return prefix
        raise Unreachable("no message of the table in time")

    async def _fill(self, most: int) -> bool:
        """Take what has arrived; return False if the stream has ended."""
        try:
            data: bytes = await self._stream.muxed_conn.take(self._stream.muxed_stream, most)
        except MuxedStreamEOF:
            return False
        self._arrived += data
        return True

    async def write(self, data: bytes) -> None:
        """Send bytes, counted until they are taken; raise ``Unreachable``."""
        if len(data) > ANSWER_BYTES_MAX:
            raise Unreachable(f"an answer of {len(data)} bytes, which no peer would read")
        quota, is_sent = self._host.small_quota, False
        with quota.admitted(self.peer, len(data)) as number, quota.moving(number, MESSAGE_S):
            await self._stream.write(data)
            is_sent = True
        if not is_sent:
            raise Unreachable("the peer stopped reading")

    async def close(self) -> None:
        """End our side; what the peer still sends is dropped, even if this task is cancelled."""
        self.release()
        with shielded(1):
            await self._stream.close()
            await self._stream.muxed_conn.forget(self._stream.muxed_stream)

    async def reset(self) -> None:
        """End the stream at once."""
        self.release()
        with shielded(1):
            await self._stream.reset()


class _Values(kad_values.ValueStore):
    """Store that finds the oldest record at once: a record that is put anew goes to the end."""

    def put(self, key: bytes, value: bytes, validity: float = 0.0) -> None:
        self.store.pop(key, None)
        super().put(key, value, validity)

    def put_record(self, key: bytes, record: Untyped) -> None:
        self.store.pop(key, None)
        super().put_record(key, record)

    def _evict_if_full(self) -> None:
        while len(self.store) >= VALUES_MAX:
            del self.store[next(iter(self.store))]


class _Providers(kad_providers.ProviderStore):
    """Store of providers with a limit, in all and for one peer; the oldest claims make room, never our own."""

    def __init__(self, host: Untyped, peer_routing: Untyped) -> None:
        super().__init__(host, peer_routing)
        self._order: dict[tuple[bytes, str], None] = {}
        """Claims of others as (key, peer), the oldest first."""

    def add_provider(self, key: bytes, provider: PeerInfo) -> None:
        super().add_provider(key, PeerInfo(provider.peer_id, provider.addrs[:ADDRESSES_MAX]))
        claim = key, str(provider.peer_id)
        if provider.peer_id == self.local_peer_id or claim[1] not in self.providers.get(key, {}):
            return
        self._order.pop(claim, None)
        self._order[claim] = None
        same = [other for other in self._order if other[1] == claim[1]]
        if len(same) > PROVIDED_PER_PEER_MAX:
            self._drop(same[0])
        elif len(self._order) > PROVIDED_MAX:
            self._drop(next(iter(self._order)))

    def _drop(self, claim: tuple[bytes, str]) -> None:
        del self._order[claim]
        key, peer = claim
        left = self.providers.get(key, {})
        left.pop(peer, None)
        if not left:
            self.providers.pop(key, None)


class _Judge(Validator):
    """Validator that gives our record rules the interface of libp2p."""

    def validate(self, key: str, value: bytes) -> None:
        validate(key, value, int(time.time()))

    def select(self, key: str, values: list[bytes]) -> int:  # noqa: ARG002
        return select(values)


def _patch() -> None:
    """Rebind libp2p's constants, for which it has no settings."""
    kad_common.PROTOCOL_ID = PROTOCOL
    for module in (kad_dht, kad_routing, kad_providers, kad_values):
        for name, value in (("PROTOCOL_ID", PROTOCOL), ("QUERY_TIMEOUT", QUERY_S)):
            if hasattr(module, name):
                setattr(module, name, value)
    setattr(kad_values, "MAX_VALUE_STORE_SIZE", VALUES_MAX)  # noqa: B010
