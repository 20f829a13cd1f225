"""Run the news of many peers in virtual time: links that lose frames and take time, and attackers by hand.

Core: one heap of events; the same seed gives the same run.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from swarm.gossip.news.messages import Frame, encode_frame, parse_frame
from swarm.gossip.news.router import TICK_S, Router, Verdict
from swarm.primitives.crypto import SecretKey
from swarm.primitives.randomness import RandomStream, stream
from swarm.types import Digest, PeerId

TOPIC = "transactions"
DELAY_MS_MIN, DELAY_MS_MAX = 20, 150
"""One way, drawn for each link: a continent to half the globe."""
TIMEOUT_S, OVERTAKE_S = 5.0, 0.5
"""Seconds after which a sender learns that a frame was lost, and after which the next one follows anyway."""
PER_MILLE = 1000


def judge_by_prefix(data: bytes) -> Verdict:
    """Reject what begins with "false", ignore what begins with "old", accept the rest."""
    if data.startswith(b"false"):
        return Verdict.REJECT
    return Verdict.IGNORE if data.startswith(b"old") else Verdict.ACCEPT


@dataclass(slots=True)
class NewsPeer:
    """One peer of the simulation."""

    peer: PeerId
    router: Router
    origin: str
    is_honest: bool = True
    links: dict[PeerId, float] = field(default_factory=dict[PeerId, float])
    """Seconds to each peer that it is connected to."""
    judge: Callable[[bytes], Verdict] = judge_by_prefix
    heard: dict[Digest, float] = field(default_factory=dict[Digest, float])
    """Time at which it accepted each notice."""
    num_judged: int = 0
    num_bytes: int = 0
    """Bytes sent."""


class NewsNetwork:
    """Peers, links and what is under way between them."""

    def __init__(self, seed: int, *, lost_per_mille: int = 0) -> None:
        self.now = 0.0
        self.peers: dict[PeerId, NewsPeer] = {}
        self.published: dict[Digest, float] = {}
        self._dice = stream(seed.to_bytes(8, "big"), "testing.news")
        self._lost_per_mille = lost_per_mille
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._num_events = 0
        self._under_way: dict[tuple[PeerId, PeerId], int] = {}
        """Number of the last frame from one peer to another that is not answered yet."""

    def add(self, number: int, origin: str = "", *, is_honest: bool = True) -> NewsPeer:
        """Add a peer that takes the topic; one that is not honest does nothing by itself."""
        key = SecretKey.from_seed(number.to_bytes(32, "big")).peer
        peer = NewsPeer(key, Router(self.dice_of(number)), origin or f"origin {number}", is_honest)
        peer.router.join(TOPIC)
        self.peers[key] = peer
        if is_honest:
            self._at(self._dice.below(1000) / 1000 * TICK_S, lambda: self._tick(peer))
        return peer

    def dice_of(self, number: int) -> RandomStream:
        """Return the dice of one peer."""
        return stream(self._dice.bytes_(32), "testing.news.peer", number)

    def connect(self, dialler: NewsPeer, other: NewsPeer) -> None:
        """Connect two peers."""
        span = DELAY_MS_MAX - DELAY_MS_MIN
        delay_s = (DELAY_MS_MIN + self._dice.below(span)) / 1000
        for one, two, is_outbound in ((dialler, other, True), (other, dialler, False)):
            if two.peer not in one.links:
                one.links[two.peer] = delay_s
                one.router.meet(two.peer, two.origin, is_outbound=is_outbound)
                self._flush(one)

    def publish(self, peer: NewsPeer, data: bytes) -> Digest:
        """Let a peer publish."""
        name = peer.router.publish(TOPIC, data, self.now)
        self.published[name] = peer.heard[name] = self.now
        self._flush(peer)
        return name

    def send(self, sender: NewsPeer, receiver: NewsPeer, frame: Frame) -> None:
        """Put a frame under way; it may be lost."""
        data = encode_frame(frame)
        sender.num_bytes += len(data)
        if self._dice.below(PER_MILLE) < self._lost_per_mille:
            self._at(TIMEOUT_S, lambda: self._failed(sender, receiver, frame))
            return
        delay_s = sender.links[receiver.peer]
        self._at(delay_s, lambda: self._receive(sender, receiver, data))

    def run(self, for_s: float) -> None:
        """Let time pass."""
        until = self.now + for_s
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = until

    def delays_s(self) -> list[float]:
        """Return how long each notice took to each honest peer but its sender; infinite if it has not come."""
        return [
            peer.heard[name] - at if name in peer.heard else float("inf")
            for name, at in self.published.items()
            for peer in self.peers.values()
            if peer.is_honest and peer.heard.get(name) != at
        ]

    def _at(self, after_s: float, event: Callable[[], None]) -> None:
        self._num_events += 1
        heapq.heappush(self._events, (self.now + after_s, self._num_events, event))

    def _tick(self, peer: NewsPeer) -> None:
        peer.router.tick(self.now)
        self._flush(peer)
        self._at(TICK_S, lambda: self._tick(peer))

    def _failed(self, sender: NewsPeer, receiver: NewsPeer, frame: Frame) -> None:
        sender.router.failed(receiver.peer, frame)
        self._flush(sender)

    def _receive(self, sender: NewsPeer, receiver: NewsPeer, data: bytes) -> None:
        if not receiver.is_honest:
            return
        for arrived in receiver.router.receive(sender.peer, parse_frame(data), self.now):
            receiver.num_judged += 1
            verdict = receiver.judge(arrived.notice.data)
            receiver.router.judged(arrived.name, verdict, self.now)
            if verdict is Verdict.ACCEPT:
                receiver.heard[arrived.name] = self.now
        self._flush(receiver)

    def _flush(self, peer: NewsPeer) -> None:
        ready = peer.router.ready()
        for name in ready if peer.is_honest else []:
            self._start(peer, self.peers[name])

    def _start(self, sender: NewsPeer, receiver: NewsPeer) -> None:
        """Send what waits, unless a frame is under way: as ``gossip/news/service.py``."""
        link = sender.peer, receiver.peer
        frame = None if link in self._under_way else sender.router.take(receiver.peer)
        if frame is None:
            return
        self.send(sender, receiver, frame)
        number = self._under_way[link] = self._num_events
        self._at(min(2 * sender.links[receiver.peer], OVERTAKE_S), lambda: self._end(link, number))

    def _end(self, link: tuple[PeerId, PeerId], number: int) -> None:
        """Let the next frame follow: one was answered, or takes too long."""
        if self._under_way.get(link) == number:
            del self._under_way[link]
            self._start(self.peers[link[0]], self.peers[link[1]])


def connected_at_random(network: NewsNetwork, count: int, dialled: int) -> list[NewsPeer]:
    """Add peers, each of which dials some that were there before it, or as many as there were."""
    dice = network.dice_of(count)
    peers = list[NewsPeer]()
    for number in range(count):
        peer = network.add(number + 1)
        for other in dice.shuffled(peers)[:dialled]:
            network.connect(peer, other)
        peers.append(peer)
    return peers
