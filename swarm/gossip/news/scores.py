"""Score the peers that news comes from, by what they did: GossipSub v1.1 with the signs as in its text.

Core: a machine that is told what happened; counts fade with each heartbeat.

    per topic   + seconds in the mesh, capped             P1
                + notices that it was the first to bring  P2
                - notices that its mesh link failed to bring, and that had to be asked for, squared  P3
                - false notices, squared                  P4
    in all      - grafts during a rest, offers that it did not keep, floods, squared                 P7

P3 counts only what came late, by an offer: a peer that is farther from the source than we are brings nothing,
and misses nothing either. P6, many peers of one address, is a rule of the mesh (``mesh.py``) and no score:
honest neighbours of an attacker, or of each other in one lab, would pay for it.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from swarm.types import PeerId

MESH_WEIGHT, MESH_S_MAX = 0.01, 200.0
FIRST_WEIGHT, FIRST_MAX = 0.5, 20.0
MISSED_WEIGHT, MISSED_FREE = 1.0, 5.0
FALSE_WEIGHT = 10.0
BEHAVIOUR_WEIGHT, BEHAVIOUR_FREE = 10.0, 6.0
"""Weights and free counts. The sum of what is good is at most 12 in one topic: two false notices outweigh it,
and so do two faults beyond the free ones."""
FIRST_KEPT, MISSED_KEPT, FALSE_KEPT, BEHAVIOUR_KEPT = 0.99, 0.99, 0.998, 0.99
"""Parts of the counts that are left after a heartbeat: half after one minute; of false notices after six."""
ALL_KEPT_MIN = 0.05
"""A count below that is none."""
RETAINED_MAX = 1024
"""Peers without a connection whose bad scores are kept."""


@dataclass(slots=True)
class TopicCounts:
    """Counts of one peer in one topic."""

    meshed_s: float = 0.0
    first: float = 0.0
    missed: float = 0.0
    false: float = 0.0

    def fade(self) -> None:
        """Let a heartbeat pass."""
        self.first = _faded(self.first, FIRST_KEPT)
        self.missed = _faded(self.missed, MISSED_KEPT)
        self.false = _faded(self.false, FALSE_KEPT)

    @property
    def score(self) -> float:
        """Score of this topic."""
        good = MESH_WEIGHT * min(self.meshed_s, MESH_S_MAX)
        good += FIRST_WEIGHT * min(self.first, FIRST_MAX)
        missed = max(self.missed - MISSED_FREE, 0.0)
        return good - MISSED_WEIGHT * missed**2 - FALSE_WEIGHT * self.false**2


@dataclass(slots=True)
class PeerCounts:
    """Counts of one peer."""

    topics: dict[str, TopicCounts] = field(default_factory=dict[str, TopicCounts])
    behaviour: float = 0.0

    def topic(self, name: str) -> TopicCounts:
        """Return the counts of one topic, which must be one of ours."""
        return self.topics.setdefault(name, TopicCounts())

    def fade(self) -> None:
        """Let a heartbeat pass."""
        self.behaviour = _faded(self.behaviour, BEHAVIOUR_KEPT)
        for counts in self.topics.values():
            counts.fade()

    @property
    def score(self) -> float:
        """Sum of all topics, and of what concerns none."""
        behaviour = max(self.behaviour - BEHAVIOUR_FREE, 0.0)
        topics = sum(counts.score for counts in self.topics.values())
        return topics - BEHAVIOUR_WEIGHT * behaviour**2


class PeerScores:
    """Scores of connected peers, and bad ones of some that left: who comes back has what it had."""

    def __init__(self) -> None:
        self._here: dict[PeerId, PeerCounts] = {}
        self._left: OrderedDict[PeerId, PeerCounts] = OrderedDict()

    def meet(self, peer: PeerId) -> None:
        """Begin to count for a peer."""
        if peer not in self._here:
            self._here[peer] = self._left.pop(peer, PeerCounts())

    def part(self, peer: PeerId) -> None:
        """Forget a peer that left, unless its score is bad."""
        counts = self._here.pop(peer, None)
        if counts is None or counts.score >= 0:
            return
        for topic in counts.topics.values():
            topic.meshed_s, topic.first = 0.0, 0.0
        self._left[peer] = counts
        if len(self._left) > RETAINED_MAX:
            self._left.popitem(last=False)

    def of(self, peer: PeerId) -> PeerCounts:
        """Return the counts of a peer that is here."""
        return self._here[peer]

    def score(self, peer: PeerId) -> float:
        """Return the score of a peer that is here."""
        return self._here[peer].score

    def fade(self) -> None:
        """Let a heartbeat pass."""
        for counts in self._here.values():
            counts.fade()
        for peer, counts in list(self._left.items()):
            counts.fade()
            if counts.score >= 0:
                del self._left[peer]


def _faded(count: float, kept: float) -> float:
    left = count * kept
    return left if left >= ALL_KEPT_MIN else 0.0
