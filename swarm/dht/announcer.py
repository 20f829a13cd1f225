"""Exchange announcements with connected peers, and look up those of the others in the DHT.

Shell: one round every few seconds. A connected peer is asked directly over a kept stream (a millisecond). What
the others announce comes as news, if the owner of the directory brings it (``hear``); the table, where one read
costs a dozen questions, serves for those of whom nothing comes.
"""

import logging
import math
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from swarm.dht.directory import (
    TOPIC,
    Announcement,
    PeerTable,
    fold,
    heard,
    measured,
    parse_announcement,
)
from swarm.dht.records import (
    VALUE_BYTES_MAX,
    SignedRecord,
    check_record,
    parse_record,
    sign_record,
)
from swarm.errors import PeerFault, Unreachable
from swarm.host.addresses import believable, is_loopback
from swarm.host.service import Host
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey, peer_name
from swarm.types import PeerId

PROTOCOL = "/swarm/announce/1"

ASK_S = 5.0
CONCURRENCY = 6
ASKED_MAX = 64
"""Peers asked in one round, sampled anew each round where there are more."""
SPREAD_PART = 0.5
"""Part of a round over which its questions are spread, but for the first."""

FRESH_SHARE = 0.75
"""Part of a round for which an exchange serves both sides: of two peers one asks."""

TTL_S = 600
"""Seconds for which an announcement holds. It is repeated every few seconds; ten minutes cover a long absence
of the reader, not more."""

PUBLISH_INTERVAL_S = 60.0
LOOKUP_INTERVAL_S = 30.0
"""Seconds between two publications of our announcement in the DHT, and between two lookups of peers that do not
answer."""

NEWS_GAP_S = 20
"""Seconds between two announcements of one peer that are passed on as news; one a minute is published, and one
more if its addresses have changed."""
NEWS_HOLD_S = 150.0
"""Seconds for which a peer whose announcement came as news is not looked up: two of them may be lost."""
NEWS_PEERS_MAX = 4096
"""Peers of whom it is remembered when news came; the one heard of longest ago is forgotten first."""

Spread = Callable[[bytes], None]
"""Function that sends our announcement to all peers of the run; it is given none where all are connected."""

log = logging.getLogger("swarm.dht")


def spread_nothing(record: bytes) -> None:
    """Send no news."""


@dataclass(frozen=True)
class Lookups:
    """Operations of the DHT that the directory needs: the methods of ``Dht`` of the same names."""

    publish: Callable[[str, bytes, int], Awaitable[None]]
    read: Callable[[str, PeerId], Awaitable[SignedRecord | None]]
    provide: Callable[[bytes], Awaitable[None]]
    find_providers: Callable[[bytes, int], Awaitable[list[PeerId]]]


class Directory:
    """Task that keeps the peer map up to date."""

    def __init__(
        self,
        host: Host,
        secret: SecretKey,
        lookups: Lookups,
        *,
        current: Callable[[], Announcement],
        roster: Callable[[], Sequence[PeerId]],
        interval_s: float,
        spread: Spread = spread_nothing,
    ) -> None:
        self.peer_map = PeerTable()
        self._host = host
        self._secret = secret
        self._lookups = lookups
        self._current = current
        self._roster = roster
        self._interval_s = interval_s
        self._spread = spread
        self._news = OrderedDict[PeerId, tuple[int, float]]()
        """Number of the newest announcement that came as news, and when, by peer."""
        self._providers: list[PeerId] = []
        self._slots = trio.Semaphore(CONCURRENCY)
        self._record = b""
        self._heard: dict[PeerId, float] = {}
        """Peers that have sent their record, and when: who has just asked us has our answer, too."""
        self._moved = trio.Event()
        """Set when our addresses have changed, until that is published."""
        self._renew()
        host.serve(
            PROTOCOL, self._answer, request_limit=VALUE_BYTES_MAX, concurrency=16, per_peer=2
        )

    async def run(self) -> None:
        """Ask peers, publish and look up until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_published)
            nursery.start_soon(self._keep_looking_up)
            spread_s = 0.0
            while True:
                self._renew()
                async with trio.open_nursery() as round_nursery:
                    for peer in self._unheard(self._targets()):
                        round_nursery.start_soon(self._ask, peer, random.uniform(0.0, spread_s))
                await trio.sleep(self._interval_s * random.uniform(0.9, 1.1) - spread_s)
                # All at once would hold up everything else for as long as a hundred of them take.
                spread_s = SPREAD_PART * self._interval_s

    def _renew(self) -> None:
        """Sign what we announce now, and put this node on the map."""
        announcement, seq = self._current(), time.time_ns()
        own = self.peer_map.entries.get(self._host.peer)
        if own and own.announcement and own.announcement.addresses != announcement.addresses:
            self._moved.set()
        record = sign_record(
            self._secret, TOPIC, encode(announcement), seq=seq, expires_at=int(time.time()) + TTL_S
        )
        self._record = encode(record)
        self.peer_map = fold(self.peer_map, self._host.peer, announcement, seq, trio.current_time())
        self._measure(self._host.peer)

    def _targets(self) -> list[PeerId]:
        known = {*self._roster(), *self._providers, *self._host.connected()} - {self._host.peer}
        found = sorted(peer for peer in known if not self._host.owes(peer))
        return random.sample(found, ASKED_MAX) if len(found) > ASKED_MAX else found

    def _unheard(self, peers: Sequence[PeerId]) -> list[PeerId]:
        """Return those that have not exchanged records with us for most of a round."""
        self._heard = {peer: at for peer, at in self._heard.items() if self._is_fresh(at)}
        return [peer for peer in peers if peer not in self._heard]

    def _is_fresh(self, heard: float) -> bool:
        return heard > trio.current_time() - FRESH_SHARE * self._interval_s

    async def _ask(self, peer: PeerId, after_s: float) -> None:
        await trio.sleep(after_s)
        async with self._slots:
            if self._is_fresh(self._heard.get(peer, -math.inf)):
                return  # it asked us while its turn was awaited
            try:
                reply = await self._host.call(
                    peer,
                    PROTOCOL,
                    self._record,
                    timeout_s=ASK_S,
                    reply_limit=VALUE_BYTES_MAX,
                    idempotent=True,
                )
                self._take(peer, reply)
            except PeerFault as fault:
                self._host.blame(peer, fault)
            except Unreachable as error:
                log.debug("%s", error)
        self._measure(peer)

    async def _answer(self, peer: PeerId, request: bytes) -> bytes:
        self._take(peer, request)
        self._measure(peer)
        return self._record

    def _take(self, peer: PeerId, data: bytes) -> None:
        """Fold a record that ``peer`` sent about itself; raise ``PeerFault``."""
        record = check_record(data, topic=TOPIC, peer=peer, now_s=None)
        announcement = parse_announcement(record.payload)
        before = self.peer_map.entries.get(peer)
        known = before.announcement.addresses if before and before.announcement else ()
        if announcement.addresses != known:
            self._learn(peer, announcement)
        self.peer_map = heard(self.peer_map, peer, announcement, record.seq, trio.current_time())
        self._heard[peer] = trio.current_time()

    def hear(self, data: bytes, is_welcome: Callable[[PeerId], bool]) -> bool:
        """Take an announcement that others pass on; return True if it is one to pass on.

        It is not if its peer is not welcome, has announced itself a moment ago, or by a clock that differs from
        ours: no fault of who brings it. Raises ``PeerFault`` for what no honest peer passes on.
        """
        record, now = parse_record(data), trio.current_time()
        peer = PeerId(record.peer)
        newest, _ = self._news.get(peer, (0, 0.0))
        if peer == self._host.peer or record.seq < newest + NEWS_GAP_S * 1_000_000_000:
            return False
        if not 0 < record.expires_at - int(time.time()) <= 2 * TTL_S or not is_welcome(peer):
            return False
        check_record(data, topic=TOPIC, peer=peer, now_s=None)
        self._fold(peer, record)
        self._news[peer] = record.seq, now
        self._news.move_to_end(peer)
        if len(self._news) > NEWS_PEERS_MAX:
            self._news.popitem(last=False)
        return True

    def _is_heard(self, peer: PeerId) -> bool:
        """Return True if a peer is connected, or its announcements come as news."""
        _, came = self._news.get(peer, (0, -NEWS_HOLD_S))
        return self._host.is_connected(peer) or came + NEWS_HOLD_S > trio.current_time()

    def _fold(self, peer: PeerId, record: SignedRecord) -> None:
        announcement = parse_announcement(record.payload)
        self.peer_map = fold(self.peer_map, peer, announcement, record.seq, trio.current_time())

    def _measure(self, peer: PeerId) -> None:
        up_bytes, down_bytes = self._host.traffic(peer)
        self.peer_map = measured(
            self.peer_map,
            peer,
            rtt_ms=0 if peer == self._host.peer else self._host.rtt_ms(peer),
            up_bytes=up_bytes,
            down_bytes=down_bytes,
            is_connected=peer == self._host.peer or self._host.is_connected(peer),
            now=trio.current_time(),
        )

    # ---- the DHT

    async def _keep_published(self) -> None:
        """Put our announcement on the DHT, and this node under its run.

        The other peers of the run are fetched at the same time, to be asked in the next rounds.
        """
        while True:
            self._moved = moved = trio.Event()
            announcement = self._current()
            is_missed = not all(map(self._host.is_connected, self._targets()))
            self._spread(self._record if is_missed else b"")
            try:
                await self._lookups.publish(TOPIC, encode(announcement), TTL_S)
                if announcement.run16:
                    await self._lookups.provide(announcement.run16)
                    self._providers = await self._lookups.find_providers(
                        announcement.run16, ASKED_MAX
                    )
            except Unreachable as error:
                log.debug("not published: %s", error)
                await trio.sleep(self._interval_s)
                continue
            await trio.sleep(NEWS_GAP_S)
            with trio.move_on_after(PUBLISH_INTERVAL_S * random.uniform(0.9, 1.1) - NEWS_GAP_S):
                await moved.wait()

    async def _keep_looking_up(self) -> None:
        """Look up the announcements of peers of which none comes."""
        while True:
            await trio.sleep(self._interval_s * random.uniform(0.9, 1.1))
            lost = [peer for peer in self._targets() if not self._is_heard(peer)]
            async with trio.open_nursery() as nursery:
                for peer in lost:
                    nursery.start_soon(self._look_up, peer)
            if lost:
                await trio.sleep(LOOKUP_INTERVAL_S - self._interval_s)

    async def _look_up(self, peer: PeerId) -> None:
        try:
            record = await self._lookups.read(TOPIC, peer)
            if record is None:
                return
            self._fold(peer, record)
            announcement = parse_announcement(record.payload)
        except (Unreachable, PeerFault) as error:
            log.debug("no announcement of %s: %s", peer_name(peer), error)
            return
        self._learn(peer, announcement)

    def _learn(self, peer: PeerId, announcement: Announcement) -> None:
        """Remember the addresses that a peer announces."""
        # Its loopback addresses mean this machine only if we listen on loopback, too.
        here = "127.0.0.1" if any(map(is_loopback, self._host.addresses())) else ""
        self._host.learn(peer, believable(announcement.addresses, here))
