"""Ask the peers of the table and answer them: records, providers, closer peers.

Shell: one question on a kept stream for each peer that ``dht/lookup.py`` says to ask, and bounds on what is
held for others.
"""

import logging
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

import trio

from swarm.dht.lookup import CLOSEST, NAMED_MAX, Check, Lookup, closest, place_of
from swarm.dht.records import (
    RECORD_BYTES_MAX,
    SignedRecord,
    check_record,
    parse_key,
    parse_record,
    record_key,
    select,
    validate,
)
from swarm.errors import BadEncoding, BrokenPromise, PeerFault, Unreachable
from swarm.host.addresses import believable, is_loopback
from swarm.host.service import Host
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.crypto import PEER_BYTES, peer_name
from swarm.primitives.randomness import RandomStream, stream
from swarm.types import PeerId

if TYPE_CHECKING:
    from trio_typing import TaskStatus

PROTOCOL = "/swarm/table/1"

ASK_S = 3.0
"""Seconds for one question, a dial included: what a dead peer costs at most."""

LOOKUP_S = 11.0
"""Seconds of a lookup, after which what was found by then counts: storing has the rest of an operation."""

REQUEST_BYTES_MAX = RECORD_BYTES_MAX + 512
REPLY_BYTES_MAX = 64 << 10
"""Bytes of an answer: a record, twenty closer peers and 64 providers with their addresses are 30 KB."""

ADDRESSES_MAX = 3
"""Addresses of one peer in an answer: each one that leads nowhere costs a dial."""

ANSWERED_MAX, ANSWERED_PER_PEER_MAX = 64, 16
KEY_BYTES_MAX = 64
PROVIDERS_MAX = 64
"""Providers kept for one key, and keys (below); those renewed longest ago make room."""
PROVIDED_KEYS_MAX = 1024
PROVIDED_PER_PEER_MAX = 16
"""Keys under which one peer is listed: it takes part in a run or two, and the newest count."""
PROVIDER_S = 600.0
"""Seconds for which a provider is listed: it says so again once a minute."""

KEEP_S = 60.0
"""Seconds between two looks for records to be stored anew."""
REPUBLISH_S = 600.0
"""Seconds for which nobody has stored a record anew, after which one of its holders does; each holder adds up
to half of it by chance, so that one of twenty does."""
REPUBLISHED_MAX = 32
"""Records stored anew in one look."""
REFRESH_S = 600.0
"""Seconds between two lookups of this node's own place, which connect it to its neighbours."""

log = logging.getLogger("swarm.dht")


class Contact(Message, frozen=True):
    """Peer and addresses at which others reach it: hearsay."""

    peer: bytes
    addresses: tuple[str, ...]


class FindPeers(Message, frozen=True, tag=1):
    """Question for the peers closest to a place."""

    place: bytes


class FindRecord(Message, frozen=True, tag=2):
    """Question for a record, and for the peers closest to it."""

    key: str


class FindProviders(Message, frozen=True, tag=3):
    """Question for the providers of a key, and for the peers closest to it."""

    key: bytes


class StoreRecord(Message, frozen=True, tag=4):
    """Order to hold a record."""

    key: str
    record: bytes


class Provide(Message, frozen=True, tag=5):
    """Statement that the sender provides a key."""

    key: bytes


class Reply(Message, frozen=True):
    """Answer to all of them: what there is, and closer peers."""

    record: bytes
    providers: tuple[Contact, ...]
    closer: tuple[Contact, ...]


Search = FindPeers | FindRecord | FindProviders
Question = Search | StoreRecord | Provide


class Held(Protocol):
    """Records held for others."""

    def get(self, key: str) -> bytes | None:
        """Return the record under a key."""
        ...

    def put(self, key: str, record: bytes) -> None:
        """Hold a record that was checked."""
        ...

    def items(self) -> list[tuple[str, bytes, float]]:
        """Return all of them: key, record, seconds since it was stored last."""
        ...


class Providers:
    """Providers by key: claims that expire."""

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, OrderedDict[PeerId, float]] = OrderedDict()
        self._of: dict[PeerId, list[bytes]] = {}

    def add(self, key: bytes, peer: PeerId, now: float) -> None:
        """List a peer under a key for ``PROVIDER_S``."""
        listed = self._keys.setdefault(key, OrderedDict())
        self._keys.move_to_end(key)
        listed[peer] = now
        listed.move_to_end(peer)
        mine = self._of.setdefault(peer, [])
        if key in mine:
            mine.remove(key)
        mine.append(key)
        if len(mine) > PROVIDED_PER_PEER_MAX:
            self._drop(mine[0], peer)
        if len(listed) > PROVIDERS_MAX:
            self._drop(key, next(iter(listed)))
        if len(self._keys) > PROVIDED_KEYS_MAX:
            oldest = next(iter(self._keys))
            for other in list(self._keys[oldest]):
                self._drop(oldest, other)

    def _drop(self, key: bytes, peer: PeerId) -> None:
        listed, mine = self._keys[key], self._of[peer]
        del listed[peer]
        mine.remove(key)
        if not listed:
            del self._keys[key]
        if not mine:
            del self._of[peer]

    def of(self, key: bytes, now: float) -> list[PeerId]:
        """Return the providers of a key, the one that said so last first."""
        listed = self._keys.get(key, OrderedDict[PeerId, float]())
        return [peer for peer, said in reversed(listed.items()) if said + PROVIDER_S > now]


class Table:
    """This node's part of the table. Run ``run`` in a nursery."""

    def __init__(self, host: Host, held: Held, dice: RandomStream | None = None) -> None:
        """Answer from now on; ``dice`` draw the order of a lookup's paths, which nobody foresees by default."""
        self._host = host
        self._held = held
        self._providers = Providers()
        self._nursery: trio.Nursery | None = None
        self._dice = dice or stream(secrets.token_bytes(32), "dht.lookup")
        host.serve(
            PROTOCOL,
            self._answer,
            request_limit=REQUEST_BYTES_MAX,
            concurrency=ANSWERED_MAX,
            per_peer=ANSWERED_PER_PEER_MAX,
        )

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Ask on behalf of lookups, and keep what is held, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await self._keep()

    # ---- uses

    async def publish(self, key: str, record: bytes) -> None:
        """Store a record here and at the peers closest to its key; raise ``Unreachable`` if none takes it."""
        self._held.put(key, record)
        if not await self._store(key, record):
            raise Unreachable("no peer of the table took the record")

    async def read(self, topic: str, peer: PeerId) -> SignedRecord | None:
        """Return the newest record of ``peer`` on ``topic`` that others hold now, or ours if that is newer."""
        key = record_key(topic, peer)
        check = partial(check_record, topic=topic, peer=peer, now_s=int(time.time()))
        lookup = self._lookup(place_of(key.encode("ascii")), check)
        await self._search(lookup, FindRecord(key), {})
        newest = None if lookup.newest is None else lookup.newest[0]
        mine = self._held.get(key)
        if mine is not None:
            try:
                own = check(mine)
            except PeerFault:
                return newest
            newest = own if newest is None or own.seq > newest.seq else newest
        return newest

    async def provide(self, key: bytes) -> None:
        """Say at the peers closest to ``key`` that we provide it; raise ``Unreachable`` if none hears."""
        lookup = self._lookup(place_of(key))
        await self._search(lookup, FindPeers(_place_bytes(key)), {})
        self._providers.add(key, self._host.peer, trio.current_time())
        if not await self._tell(lookup.found, Provide(key)):
            raise Unreachable("no peer of the table took note")

    async def find_providers(self, key: bytes, limit: int) -> dict[PeerId, list[str]]:
        """Return at most ``limit`` other peers that provide ``key``, with addresses: claims.

        Those named in most answers come first: one liar cannot put its own before all others.
        """
        counts = Counter(self._providers.of(key, trio.current_time()))
        addresses: dict[PeerId, list[str]] = {}

        def take(reply: Reply) -> None:
            named = {contact.peer: contact for contact in reply.providers[:PROVIDERS_MAX]}
            for peer, contact in _parsed(named):
                counts[peer] += 1
                addresses.setdefault(peer, list(contact.addresses[:ADDRESSES_MAX]))

        lookup = self._lookup(place_of(key))
        await self._search(lookup, FindProviders(key), {}, take)
        counts.pop(self._host.peer, None)
        best = sorted(counts, key=lambda peer: (-counts[peer], peer))[:limit]
        return {peer: addresses.get(peer, []) for peer in best}

    async def find_peer(self, peer: PeerId) -> list[str]:
        """Return the addresses under which others know ``peer``: hearsay."""
        heard: dict[PeerId, list[str]] = {}
        lookup = self._lookup(place_of(peer))
        await self._search(lookup, FindPeers(_place_bytes(peer)), heard)
        return heard.get(peer, [])

    # ---- lookups

    def _lookup(self, place: int, check: Check | None = None) -> Lookup:
        return Lookup(place, self._host.connected(), self._host.peer, self._dice, check)

    async def _search(
        self,
        lookup: Lookup,
        question: Search,
        heard: dict[PeerId, list[str]],
        take: Callable[[Reply], None] | None = None,
    ) -> None:
        """Ask until the lookup is over; ``heard`` collects addresses, ``take`` is given the replies.

        Who has been asked and is not needed any more is not cut off: its stream serves again.
        """
        assert self._nursery is not None, "the table runs"
        request = encode(question)
        answered = trio.Event()

        async def ask(peer: PeerId) -> None:
            reply = await self._ask(lookup, peer, request, heard)
            if reply is not None and take is not None:
                take(reply)
            answered.set()

        with trio.move_on_after(LOOKUP_S):
            while True:
                answered = trio.Event()
                for peer in lookup.next(trio.current_time()):
                    self._nursery.start_soon(ask, peer)
                if lookup.is_over:
                    return
                with trio.move_on_at(lookup.deadline() or float("inf")):
                    await answered.wait()

    async def _ask(
        self, lookup: Lookup, peer: PeerId, request: bytes, heard: dict[PeerId, list[str]]
    ) -> Reply | None:
        """Ask one peer, and tell the lookup what came of it."""
        self._learn(peer, heard.get(peer, []))
        try:
            raw = await self._call(peer, request)
            reply = decode(Reply, raw, limit=REPLY_BYTES_MAX)
        except (Unreachable, PeerFault) as error:
            lookup.failed(peer, trio.current_time())
            self._note(peer, error)
            return None
        named = _parsed({contact.peer: contact for contact in reply.closer[:NAMED_MAX]})
        for other, contact in named:
            heard.setdefault(other, list(contact.addresses[:ADDRESSES_MAX]))
        try:
            names = [other for other, _ in named]
            lookup.answered(peer, names, reply.record, trio.current_time())
        except PeerFault as fault:
            self._note(peer, fault)
            return None
        return reply

    async def _call(self, peer: PeerId, request: bytes) -> bytes:
        return await self._host.call(
            peer,
            PROTOCOL,
            request,
            timeout_s=ASK_S,
            reply_limit=REPLY_BYTES_MAX,
            idempotent=True,
        )

    def _note(self, peer: PeerId, error: Unreachable | PeerFault) -> None:
        """Blame a peer for an answer that no honest peer gives; a record may expire on its way."""
        if isinstance(error, PeerFault) and not isinstance(error, BrokenPromise):
            self._host.blame(peer, error)
        else:
            log.debug("%s did not help a lookup: %s", peer_name(peer), error)

    def _learn(self, peer: PeerId, addresses: list[str]) -> None:
        """Learn where a peer is said to be, behind what is known here (D7)."""
        if addresses and not self._host.is_connected(peer):
            here = "127.0.0.1" if any(map(is_loopback, self._host.addresses())) else ""
            known = self._host.known_addresses(peer)
            self._host.learn(peer, [*known, *believable(tuple(addresses), here)])

    async def _store(self, key: str, record: bytes) -> int:
        """Store a record at the peers closest to its key; return how many took it."""
        name = key.encode("ascii")
        lookup = self._lookup(place_of(name))
        await self._search(lookup, FindPeers(_place_bytes(name)), {})
        return await self._tell(lookup.found, StoreRecord(key, record))

    async def _tell(self, peers: list[PeerId], order: StoreRecord | Provide) -> int:
        """Give an order to several peers at once; return how many carried it out."""
        request, done = encode(order), list[PeerId]()

        async def tell(peer: PeerId) -> None:
            try:
                await self._call(peer, request)
                done.append(peer)
            except (Unreachable, PeerFault) as error:
                log.debug("%s did not store: %s", peer_name(peer), error)

        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(tell, peer)
        return len(done)

    # ---- answers

    async def _answer(self, peer: PeerId, request: bytes) -> bytes:
        question = decode(cast("type[Question]", Question), request, limit=REQUEST_BYTES_MAX)
        now = trio.current_time()
        match question:
            case FindPeers(place):
                return self._reply(peer, int.from_bytes(place[:32], "big"))
            case FindRecord(key):
                parse_key(key)
                record = self._held.get(key) or b""
                return self._reply(peer, place_of(key.encode("ascii")), record=record)
            case FindProviders(key):
                listed = [other for other in self._providers.of(key, now) if other != peer]
                return self._reply(peer, place_of(key), providers=listed)
            case StoreRecord(key, record):
                self._hold(key, record)
            case Provide(key):
                if len(key) > KEY_BYTES_MAX:
                    raise BadEncoding(f"a key of {len(key)} bytes")
                self._providers.add(key, peer, now)
        return encode(Reply(b"", (), ()))

    def _hold(self, key: str, record: bytes) -> None:
        """Keep a record for others; raise ``Unreachable`` if it has expired or is older than ours."""
        try:
            validate(key, record, int(time.time()))
        except BrokenPromise as fault:  # it may have expired on its way
            raise Unreachable(str(fault)) from None
        mine = self._held.get(key)
        if mine is not None and select([mine, record]) == 0:
            raise Unreachable("a newer record is held here")
        self._held.put(key, record)

    def _reply(
        self,
        asker: PeerId,
        place: int,
        *,
        record: bytes = b"",
        providers: list[PeerId] | None = None,
    ) -> bytes:
        """Answer with peers that are connected now, and so alive a moment ago, as the closer ones."""
        known = closest(place, (p for p in self._host.connected() if p != asker), CLOSEST)
        return encode(
            Reply(
                record,
                tuple(map(self._contact, providers or ())),
                tuple(filter(lambda each: each.addresses, map(self._contact, known))),
            )
        )

    def _contact(self, peer: PeerId) -> Contact:
        own = peer == self._host.peer
        addresses = self._host.addresses() if own else self._host.known_addresses(peer)
        return Contact(peer, tuple(addresses[:ADDRESSES_MAX]))

    # ---- upkeep

    async def _keep(self) -> None:
        """Store anew what nobody has stored for long, and stay connected to this node's neighbours."""
        patience_s = REPUBLISH_S * (1 + self._dice.below(1000) / 2000)
        refreshed = float("-inf")
        while True:
            await trio.sleep(KEEP_S * (0.9 + self._dice.below(1000) / 5000))
            if not self._host.connected():
                continue
            if trio.current_time() - refreshed > REFRESH_S:
                refreshed = trio.current_time()
                await self.find_peer(self._host.peer)
            for key, record in self._overdue(patience_s):
                if await self._store(key, record):
                    self._held.put(key, record)

    def _overdue(self, patience_s: float) -> list[tuple[str, bytes]]:
        """Return records that hold for another minute and that nobody has stored for ``patience_s``."""
        until_s, found = int(time.time() + KEEP_S), list[tuple[str, bytes]]()
        for key, record, age_s in self._held.items():
            if age_s > patience_s and parse_record(record).expires_at > until_s:
                found.append((key, record))
        return found[:REPUBLISHED_MAX]


def _place_bytes(name: bytes) -> bytes:
    return place_of(name).to_bytes(32, "big")


def _parsed(named: dict[bytes, Contact]) -> list[tuple[PeerId, Contact]]:
    """Return the contacts whose keys can be keys at all."""
    return [(PeerId(peer), each) for peer, each in named.items() if len(peer) == PEER_BYTES]
