"""Pass news on: judge it first, push it through a mesh, offer it to the others, and cut off who does harm.

Core: a machine, GossipSub v1.1 (arXiv 2007.02754) with other frames. Frames and verdicts in; notices to be
judged, and frames for each peer, out. ``tick`` is its heartbeat.

    notice   new --receive--> JUDGED by its topic --accept--> pushed to the mesh, kept, offered to others
               |                   +-- ignore --> dropped      +-- reject --> dropped, its bringers pay
               +-- seen --> dropped                            +-- skip --> dropped, and judged anew next time
    link     NONE --graft, by either--> MESH --cut, by either; bad score--> RESTING (60 s) --> NONE

A notice of more than 4 KiB is not pushed but offered at once: it crosses each link only where it is missing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from swarm.gossip.news.caches import Recent, Seen
from swarm.gossip.news.mesh import (
    MESH,
    MESH_MAX,
    MESH_MIN,
    OUTBOUND_MIN,
    Link,
    better_links,
    crowding,
    draw_links,
    draw_surplus,
    is_crowded,
)
from swarm.gossip.news.messages import (
    NOTICE_BYTES_MAX,
    REST_MAX_S,
    TOPICS_MAX,
    Cut,
    Frame,
    Notice,
    Offer,
    notice_name,
    split_names,
)
from swarm.gossip.news.outbox import Outbox
from swarm.gossip.news.scores import PeerScores
from swarm.primitives.randomness import RandomStream
from swarm.types import Digest, PeerId

TICK_S = 1.0
"""Seconds of a heartbeat."""
PUSHED_BYTES_MAX = 4 << 10
REST_S = 60
"""Seconds for which a link that was cut is not made again."""
OFFERED_MIN, OFFERED_SHARE = 6, 0.25
"""Peers outside of the mesh that are offered what is new at each heartbeat: so many, or that part of them."""
OFFER_SCORE, PUBLISH_SCORE, IGNORED_SCORE = -10.0, -20.0, -80.0
"""Scores below which a peer is offered nothing and asked nothing, is not sent what we publish, is not heard."""
OPPORTUNISTIC_TICKS = 60
MESHED_S = 10.0
"""Seconds in the mesh after which a link counts as having missed what came by an offer."""
ASK_S = 1.0
"""Seconds in which a peer must send what it offered, before the next one that has it is asked."""
ASKED_MAX, ASKED_OF_ONE_MAX = 4096, 512
"""Notices asked for and not here yet, of all peers and of one."""
OTHERS_MAX = 3
"""Further peers remembered that offered the same notice."""
NOTICES_PER_TICK, OFFERS_PER_TICK, WANTS_PER_TICK = 2048, 5000, 1024
BYTES_PER_TICK = 2 << 20
"""Notices that one peer may send, names that it may offer and ask for, and bytes that it is sent at its asking,
in one heartbeat; what is beyond is dropped, and is a fault of behaviour once."""


class Verdict(Enum):
    """Judgement of a topic about a notice."""

    ACCEPT = 1
    """Pass it on."""
    IGNORE = 2
    """Do not pass it on; its bringer is not to blame."""
    REJECT = 3
    """No honest peer passes it on."""
    SKIP = 4
    """Not looked at: it may come again."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Notice that is to be judged; ``Router.judged`` takes the verdict."""

    name: Digest
    notice: Notice


@dataclass(slots=True)
class _Peer:
    origin: str
    is_outbound: bool
    topics: tuple[str, ...] = ()
    outbox: Outbox = field(default_factory=Outbox)
    rests: dict[str, float] = field(default_factory=dict[str, float])
    """Time until which no link may be made, by topic; not kept for other topics than ours."""
    num_asked: int = 0
    spent: dict[str, int] = field(default_factory=dict[str, int])
    """Part of its allowance that it used in this heartbeat."""


@dataclass(slots=True)
class _Judging:
    notice: Notice
    bringers: list[PeerId]
    was_asked: bool


@dataclass(slots=True)
class _Ask:
    peer: PeerId
    due: float
    others: list[PeerId]


class Router:
    """News of one node. The caller sends what ``take`` returns, whenever ``ready`` names a peer."""

    def __init__(self, dice: RandomStream) -> None:
        self.scores = PeerScores()
        self._dice = dice
        self._peers: dict[PeerId, _Peer] = {}
        self._meshes: dict[str, dict[PeerId, float]] = {}
        """Since when each peer is in the mesh, by topic of ours."""
        self._seen, self._recent = Seen(), Recent()
        self._judging: dict[Digest, _Judging] = {}
        self._asked: dict[Digest, _Ask] = {}
        self._ready: dict[PeerId, None] = {}
        self._num_ticks = 0

    # ---- peers and topics

    def meet(self, peer: PeerId, origin: str, *, is_outbound: bool) -> None:
        """Begin to trade news with a peer that is connected."""
        if peer not in self._peers:
            self._peers[peer] = _Peer(origin, is_outbound)
            self.scores.meet(peer)
            self._ready[peer] = None

    def part(self, peer: PeerId) -> None:
        """End it: the peer is gone."""
        if self._peers.pop(peer, None) is None:
            return
        for mesh in self._meshes.values():
            mesh.pop(peer, None)
        self._ready.pop(peer, None)
        self.scores.part(peer)

    def knows(self, peer: PeerId) -> bool:
        """Return True if we trade news with a peer."""
        return peer in self._peers

    def peers(self) -> list[PeerId]:
        """Return the peers that we trade news with."""
        return list(self._peers)

    def join(self, topic: str) -> None:
        """Take a topic: its notices are judged and passed on here from now on."""
        if topic not in self._meshes:
            assert len(self._meshes) < TOPICS_MAX, "more topics than a node may take"
            self._meshes[topic] = {}
            self._tell_all()

    def leave(self, topic: str) -> None:
        """Give a topic up."""
        for peer in self._meshes.pop(topic, {}):
            self._peers[peer].outbox.cut(topic, REST_S)
        self._tell_all()

    def mesh(self, topic: str) -> list[PeerId]:
        """Return the peers that everything of a topic is pushed to."""
        return list(self._meshes.get(topic, {}))

    def _tell_all(self) -> None:
        for name, peer in self._peers.items():
            peer.outbox.is_to_be_told = True
            self._ready[name] = None

    # ---- what goes out

    def ready(self) -> list[PeerId]:
        """Return the peers for whom something waits since the last time."""
        found, self._ready = list(self._ready), {}
        return found

    def take(self, peer: PeerId, *, is_telling: bool = False) -> Frame | None:
        """Return the next frame for a peer; None if nothing waits.

        While a frame that tells our topics is under way (``is_telling``) no other does: they may overtake each
        other.
        """
        there = self._peers.get(peer)
        topics = None if is_telling else tuple(self._meshes)
        return None if there is None else there.outbox.take(topics)

    def failed(self, peer: PeerId, frame: Frame) -> None:
        """Note that a frame may not have arrived: say again what is not said with each heartbeat."""
        there = self._peers.get(peer)
        if there is None:
            return
        there.outbox.is_to_be_told |= frame.topics is not None
        lost = [(notice.topic, notice_name(notice.topic, notice.data)) for notice in frame.notices]
        lost += [(offer.topic, name) for offer in frame.offers for name in split_names(offer.names)]
        for topic, name in lost:
            if name in self._recent:
                there.outbox.offer(topic, name)
        for topic in frame.grafts:
            if peer in self._meshes.get(topic, {}):
                there.outbox.graft(topic)
        for cut in frame.cuts:
            there.outbox.cut(cut.topic, cut.rest_s)
        for name in split_names(frame.wanted):
            ask = self._asked.get(name)
            if ask is not None and ask.peer == peer:
                self._ask_next(name, ask, ask.due)

    def publish(self, topic: str, data: bytes, now: float) -> Digest:
        """Send a notice of our own, on a topic of ours, to all peers that take it; return its name."""
        assert topic in self._meshes, "news of our own is on a topic that we take"
        assert len(data) <= NOTICE_BYTES_MAX, "a notice that no peer would take"
        notice = Notice(topic, data)
        name = notice_name(topic, data)
        self._seen.add(name, now)
        self._recent.add(name, notice)
        for peer, there in self._peers.items():
            if topic in there.topics and self.scores.score(peer) >= PUBLISH_SCORE:
                self._push(peer, name, notice)
        return name

    def _push(self, peer: PeerId, name: Digest, notice: Notice) -> None:
        outbox = self._peers[peer].outbox
        if len(notice.data) <= PUSHED_BYTES_MAX:
            outbox.send(notice)
        else:
            outbox.offer(notice.topic, name)
        self._ready[peer] = None

    # ---- what comes in

    def receive(self, peer: PeerId, frame: Frame, now: float) -> list[Arrived]:
        """Take a frame of a peer that we have met; return what is to be judged."""
        there = self._peers.get(peer)
        if there is None or self.scores.score(peer) < IGNORED_SCORE:
            return []
        if frame.topics is not None:
            self._told(peer, there, frame.topics)
        for topic in frame.grafts:
            self._grafted(peer, topic, now)
        for cut in frame.cuts:
            self._cut_off(peer, cut, now)
        self._offered(peer, frame.offers, now)
        self._wanted(peer, split_names(frame.wanted))
        return self._arrived(peer, frame.notices, now)

    def judged(self, name: Digest, verdict: Verdict, now: float) -> None:
        """Take the verdict about a notice that ``receive`` returned."""
        found = self._judging.pop(name)
        topic = found.notice.topic
        here = [peer for peer in found.bringers if peer in self._peers]
        match verdict:
            case Verdict.ACCEPT:
                if found.bringers[0] in self._peers:
                    self.scores.of(found.bringers[0]).topic(topic).first += 1
                if found.was_asked and len(found.notice.data) <= PUSHED_BYTES_MAX:
                    self._note_missed(topic, found.bringers, now)
                self._recent.add(name, found.notice)
                for peer in self._meshes.get(topic, {}):
                    if peer not in found.bringers:
                        self._push(peer, name, found.notice)
            case Verdict.REJECT:
                self._seen.add(name, now, is_false=True)
                for peer in here:
                    self.scores.of(peer).topic(topic).false += 1
            case Verdict.SKIP:
                self._seen.forget(name)
            case Verdict.IGNORE:
                pass

    def _told(self, name: PeerId, peer: _Peer, topics: tuple[str, ...]) -> None:
        """Take the topics of a peer; one that it did not take before is news to it for some heartbeats."""
        before, peer.topics = peer.topics, topics
        for topic, mesh in self._meshes.items():
            if topic not in topics:
                mesh.pop(name, None)
            elif topic not in before:
                for one in self._recent.names(topic):
                    peer.outbox.offer(topic, one)
                    self._ready[name] = None

    def _arrived(self, peer: PeerId, notices: Sequence[Notice], now: float) -> list[Arrived]:
        fresh = list[Arrived]()
        for notice in notices[: self._spend(peer, "notices", len(notices), NOTICES_PER_TICK)]:
            if notice.topic not in self._meshes:
                continue
            name = notice_name(notice.topic, notice.data)
            ask = self._asked.pop(name, None)
            if ask is not None:
                self._give_back(ask.peer)
            if name in self._judging:
                self._judging[name].bringers.append(peer)
            elif name not in self._seen:
                self._seen.add(name, now)
                self._judging[name] = _Judging(notice, [peer], ask is not None)
                fresh.append(Arrived(name, notice))
            elif self._seen.is_false(name):
                self.scores.of(peer).topic(notice.topic).false += 1
        return fresh

    def _note_missed(self, topic: str, bringers: Sequence[PeerId], now: float) -> None:
        """Count a notice that was offered and asked for before any link of the mesh brought it."""
        for peer, since in self._meshes.get(topic, {}).items():
            if peer not in bringers and since + MESHED_S <= now:
                self.scores.of(peer).topic(topic).missed += 1

    def _offered(self, peer: PeerId, offers: Sequence[Offer], now: float) -> None:
        if self.scores.score(peer) < OFFER_SCORE:
            return
        there = self._peers[peer]
        names = [
            name
            for offer in offers
            if offer.topic in self._meshes
            for name in split_names(offer.names)
        ]
        for name in names[: self._spend(peer, "offers", len(names), OFFERS_PER_TICK)]:
            ask = self._asked.get(name)
            if name in self._seen or (ask is not None and ask.peer == peer):
                continue
            if ask is not None:
                if peer not in ask.others and len(ask.others) < OTHERS_MAX:
                    ask.others.append(peer)
            elif len(self._asked) < ASKED_MAX and there.num_asked < ASKED_OF_ONE_MAX:
                self._asked[name] = _Ask(peer, now + ASK_S, [])
                self._ask(peer, name)

    def _ask(self, peer: PeerId, name: Digest) -> None:
        self._peers[peer].num_asked += 1
        self._peers[peer].outbox.want(name)
        self._ready[peer] = None

    def _ask_next(self, name: Digest, ask: _Ask, now: float) -> None:
        """Ask the next peer that offered a notice, or nobody any more."""
        self._give_back(ask.peer)
        others = [peer for peer in ask.others if peer in self._peers]
        if not others:
            del self._asked[name]
            return
        self._asked[name] = _Ask(others[0], now + ASK_S, others[1:])
        self._ask(others[0], name)

    def _give_back(self, peer: PeerId) -> None:
        if peer in self._peers:
            self._peers[peer].num_asked -= 1

    def _wanted(self, peer: PeerId, names: Sequence[Digest]) -> None:
        if self.scores.score(peer) < OFFER_SCORE:
            return
        there = self._peers[peer]
        for name in names[: self._spend(peer, "wants", len(names), WANTS_PER_TICK)]:
            if there.spent.get("bytes", 0) > BYTES_PER_TICK:
                return
            notice = self._recent.serve(name, peer)
            if notice is not None:
                there.spent["bytes"] = there.spent.get("bytes", 0) + len(notice.data)
                there.outbox.send(notice)
                self._ready[peer] = None

    def _spend(self, peer: PeerId, what: str, count: int, most: int) -> int:
        """Return how many a peer may still have in this heartbeat; one that wants more is at fault once."""
        spent = self._peers[peer].spent
        before = spent.get(what, 0)
        spent[what] = before + count
        if before <= most < before + count:
            self.scores.of(peer).behaviour += 1
        return max(min(count, most - before), 0)

    # ---- links

    def _grafted(self, peer: PeerId, topic: str, now: float) -> None:
        mesh = self._meshes.get(topic)
        there = self._peers[peer]
        if mesh is None or peer in mesh:
            return
        if there.rests.get(topic, 0.0) > now:
            self.scores.of(peer).behaviour += 1
            self._cut(peer, topic, now)
            return
        links, others = self._links(mesh), self._candidates(topic, now)
        link = self._link(peer)
        others = [other for other in others if other != link]
        is_full = len(mesh) >= MESH_MAX and not there.is_outbound and not crowding(links, [link])
        if link.score < 0 or is_full or is_crowded(link, links, others):
            self._cut(peer, topic, now)
            return
        mesh[peer] = now

    def _cut_off(self, peer: PeerId, cut: Cut, now: float) -> None:
        if cut.topic in self._meshes:
            self._meshes[cut.topic].pop(peer, None)
            self._peers[peer].rests[cut.topic] = now + min(cut.rest_s, REST_MAX_S)

    def _graft(self, peer: PeerId, topic: str, now: float) -> None:
        self._meshes[topic][peer] = now
        self._peers[peer].outbox.graft(topic)
        self._ready[peer] = None

    def _cut(self, peer: PeerId, topic: str, now: float) -> None:
        self._meshes[topic].pop(peer, None)
        self._peers[peer].rests[topic] = now + REST_S
        self._peers[peer].outbox.cut(topic, REST_S)
        self._ready[peer] = None

    def _link(self, peer: PeerId) -> Link:
        there = self._peers[peer]
        return Link(peer, there.origin, there.is_outbound, self.scores.score(peer))

    def _links(self, peers: Iterable[PeerId]) -> list[Link]:
        return [self._link(peer) for peer in peers]

    def _candidates(self, topic: str, now: float) -> list[Link]:
        """Return the peers that could be in the mesh of a topic, and are not."""
        mesh = self._meshes[topic]
        links = [
            self._link(peer)
            for peer, there in self._peers.items()
            if topic in there.topics and peer not in mesh and there.rests.get(topic, 0.0) <= now
        ]
        return [link for link in links if link.score >= 0]

    # ---- the heartbeat

    def tick(self, now: float) -> None:
        """Mend the meshes, offer what is new, ask elsewhere for what did not come, and let counts fade."""
        self._num_ticks += 1
        self.scores.fade()
        self._seen.expire(now)
        for there in self._peers.values():
            there.spent.clear()
            there.rests = {topic: until for topic, until in there.rests.items() if until > now}
        self._ask_elsewhere(now)
        for topic in self._meshes:
            self._mend(topic, now)
            self._offer_new(topic)
        self._recent.shift()

    def _ask_elsewhere(self, now: float) -> None:
        """Ask others for what did not come in time; who kept no offer is at fault, once in a heartbeat."""
        late = dict[PeerId, None]()
        for name, ask in list(self._asked.items()):
            if ask.due <= now:
                late[ask.peer] = None
                self._ask_next(name, ask, now)
        for peer in late:
            if peer in self._peers:
                self.scores.of(peer).behaviour += 1

    def _mend(self, topic: str, now: float) -> None:
        mesh = self._meshes[topic]
        for peer in list(mesh):
            self.scores.of(peer).topic(topic).meshed_s += TICK_S
            if self.scores.score(peer) < 0:
                self._cut(peer, topic, now)
        others, links = self._candidates(topic, now), self._links(mesh)
        for link in draw_surplus(links, self._dice):
            self._cut(link.peer, topic, now)
        links = self._links(mesh)
        worst = crowding(links, others)
        if worst is not None:
            self._cut(worst.peer, topic, now)
            links.remove(worst)
        missing = MESH - len(links) if len(links) < MESH_MIN else int(worst is not None)
        new = draw_links(others, links, missing, self._dice)
        ours = sum(link.is_outbound for link in (*links, *new))
        outbound = [link for link in others if link.is_outbound and link not in new]
        new += draw_links(outbound, links, max(OUTBOUND_MIN - ours, 0), self._dice)
        if self._num_ticks % OPPORTUNISTIC_TICKS == 0:
            rest = [link for link in others if link not in new]
            new += better_links(links, rest, self._dice)
        for link in new:
            self._graft(link.peer, topic, now)

    def _offer_new(self, topic: str) -> None:
        """Offer what is new to some peers outside of the mesh, others each time."""
        names = self._recent.names(topic)
        if not names:
            return
        mesh = self._meshes[topic]
        takers = [
            peer
            for peer, there in self._peers.items()
            if topic in there.topics and peer not in mesh and self.scores.score(peer) >= OFFER_SCORE
        ]
        count = max(OFFERED_MIN, int(OFFERED_SHARE * len(takers)))
        for peer in self._dice.shuffled(takers)[:count]:
            for name in names:
                self._peers[peer].outbox.offer(topic, name)
            self._ready[peer] = None
