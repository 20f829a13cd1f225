"""Collect what is to be sent to one peer, and cut it into frames.

Core: a machine. Each part is bounded; of notices and offers the oldest are dropped first, because what is
dropped is offered again with the next heartbeats.
"""

from collections import deque

from swarm.gossip.news.messages import (
    BODY_BYTES_MAX,
    IDS_MAX,
    NOTICES_MAX,
    TOPICS_MAX,
    Cut,
    Frame,
    Notice,
    Offer,
)
from swarm.types import Digest

QUEUE_MAX = 2048
QUEUE_BYTES_MAX = 2 << 20
"""Notices that wait for one peer."""
NAMES_MAX = 5000
"""Names that wait to be offered to a peer, and to be asked of it."""


class Outbox:
    """Notices, names and links that wait for one peer."""

    def __init__(self) -> None:
        self.is_to_be_told = True
        """True until the peer has been told our topics."""
        self._notices = deque[Notice]()
        self._num_bytes = 0
        self._offers: dict[Digest, str] = {}
        self._wanted: dict[Digest, None] = {}
        self._grafts: dict[str, None] = {}
        self._cuts: dict[str, int] = {}

    @property
    def _is_empty(self) -> bool:
        waiting = self._notices, self._offers, self._wanted, self._grafts, self._cuts
        return not any(map(bool, waiting))

    def send(self, notice: Notice) -> None:
        """Put a notice behind the others."""
        self._notices.append(notice)
        self._num_bytes += len(notice.data)
        while len(self._notices) > QUEUE_MAX or self._num_bytes > QUEUE_BYTES_MAX:
            self._num_bytes -= len(self._notices.popleft().data)

    def offer(self, topic: str, name: Digest) -> None:
        """Say that we have a notice."""
        self._offers[name] = topic
        if len(self._offers) > NAMES_MAX:
            del self._offers[next(iter(self._offers))]

    def want(self, name: Digest) -> None:
        """Ask for a notice."""
        if len(self._wanted) < NAMES_MAX:
            self._wanted[name] = None

    def graft(self, topic: str) -> None:
        """Say that the peer is in our mesh."""
        self._cuts.pop(topic, None)
        self._grafts[topic] = None

    def cut(self, topic: str, rest_s: int) -> None:
        """Say that it is not, or not any more."""
        self._grafts.pop(topic, None)
        self._cuts[topic] = rest_s

    def take(self, topics: tuple[str, ...] | None) -> Frame | None:
        """Return the next frame; None if there is nothing to say.

        ``topics`` are ours; None leaves them to a later frame, while an earlier one that tells them may come in
        after it.
        """
        told = topics if self.is_to_be_told else None
        if told is None and self._is_empty:
            return None
        self.is_to_be_told &= told is None
        grafts = tuple(self._grafts)[:TOPICS_MAX]
        cuts = tuple(Cut(topic, rest_s) for topic, rest_s in self._cuts.items())[:TOPICS_MAX]
        for topic in grafts:
            del self._grafts[topic]
        for cut in cuts:
            del self._cuts[cut.topic]
        wanted = list(self._wanted)[:IDS_MAX]
        for name in wanted:
            del self._wanted[name]
        return Frame(
            topics=told,
            notices=self._body(),
            offers=self._offered(),
            wanted=b"".join(wanted),
            grafts=grafts,
            cuts=cuts,
        )

    def _body(self) -> tuple[Notice, ...]:
        body, room = list[Notice](), BODY_BYTES_MAX
        while self._notices and len(body) < NOTICES_MAX and room > 0:
            body.append(self._notices.popleft())
            room -= len(body[-1].data)
        self._num_bytes -= sum(len(notice.data) for notice in body)
        return tuple(body)

    def _offered(self) -> tuple[Offer, ...]:
        by_topic: dict[str, list[Digest]] = {}
        for name, topic in list(self._offers.items())[:IDS_MAX]:
            if topic not in by_topic and len(by_topic) == TOPICS_MAX:
                continue
            by_topic.setdefault(topic, []).append(name)
            del self._offers[name]
        return tuple(Offer(topic, b"".join(names)) for topic, names in by_topic.items())
