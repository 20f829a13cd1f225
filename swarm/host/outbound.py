"""Choose the peers that a node stays connected to by its own choice, and when to dial each of them.

Core: a machine. The known peers and ``now`` in; the links to keep and the peers to dial out.

    KNOWN --chosen--> DIALLED --reached--> KEPT --lost, or a better one is here--> KNOWN
                         +----failed--> RESTING (1 s, 2 s ... 30 s, 600 s, or 10 s when isolated) --> KNOWN

Who dials us chooses us; a crowd of free keys could be all that a node hears. So a number of links is ours: to
peers that we dialled, at addresses in different networks, those first that a crowd cannot be at once: peers
that were connected long ago, and validators, who have a stake.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from swarm.host.backoff import backoff_s
from swarm.primitives.randomness import RandomStream
from swarm.types import PeerId

T = TypeVar("T")

LINKS = 8
"""Links that are kept by choice: of so many one leads to an honest peer, even where three in four are not."""
ANCHOR_LINKS = 3
VALIDATOR_LINKS = 3
"""Of these links, those that are left to anchor peers and to validators as long as there are any to reach."""
PER_NETWORK_MAX = 2
"""Of these links, those into one network: to fill them takes addresses in four."""

RETRY_FIRST_S = 1.0
RETRY_MOST_S = 30.0
RETRY_HEARD_S = 600.0
"""Seconds of the longest rest of a peer that was only heard of, or that cannot be dialled and is connected."""
RETRY_ISOLATED_S = 10.0
"""Seconds of the longest rest while this node is isolated: with 20% of jitter and two addresses of 5 s that
answer nothing, a peer that is back is met within 30 s."""

DIALS_ISOLATED = 16
"""Dials at once while this node is isolated; half of them go to the best, half to any."""
TRIES_MAX = 1024
"""Peers of which failures are remembered; the one that failed longest ago makes room."""


class Rank(IntEnum):
    """Grounds to choose a peer, the best first."""

    ANCHOR = 0
    """Connected for long in an earlier time, and remembered for it."""
    VALIDATOR = 1
    """Has a stake on the ledger to lose."""
    NAMED = 2
    """Named by the ticket or by the owner of this node, or remembered."""
    MEMBER = 3
    """Has a seat in the run."""
    HEARD = 4
    """Anybody else: keys cost nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One peer that could be chosen."""

    peer: PeerId
    rank: Rank
    network: str = ""
    """Network of its connection, else of its address; "" where that is not a public one."""
    is_connected: bool = False
    is_dialled: bool = False
    """True if we dialled a connection to it: its address is one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The peers of our own choice now."""

    keep: tuple[PeerId, ...]
    """Connected, at an address that we dialled."""
    dial: tuple[PeerId, ...]
    """To be dialled now; each is to be reported with ``reached`` or ``failed``."""


@dataclass(frozen=True, slots=True)
class _Failure:
    attempt: int
    at: float
    jitter: float
    reason: str


class Outbound:
    """The links of our own choice, and the rests of those that could not be reached."""

    def __init__(self, dice: RandomStream) -> None:
        self._dice = dice
        self._kept: tuple[PeerId, ...] = ()
        self._proved = set[PeerId]()
        """Connected peers that we have dialled: of two connections the peer may close ours."""
        self._dialling = set[PeerId]()
        self._failures: dict[PeerId, _Failure] = {}

    @property
    def proved(self) -> frozenset[PeerId]:
        """The connected peers that we have reached at an address of theirs."""
        return frozenset(self._proved)

    @property
    def last_failure(self) -> str:
        """Reason of the newest failure of a peer that was not reached since; empty if there is none."""
        return next(reversed(self._failures.values())).reason if self._failures else ""

    def plan(self, known: Iterable[Known], now: float, *, is_isolated: bool) -> Plan:
        """Return which links to keep and whom to dial; ``is_isolated`` hurries, and lifts the limits."""
        found = spread(list(known), self._dice)
        connected = {one.peer for one in found if one.is_connected}
        self._proved &= connected
        self._proved |= {one.peer for one in found if one.is_dialled}
        here = [one for one in found if one.peer in self._proved]
        self._kept = tuple(one.peer for one in chosen(here, self._kept))
        due = [
            one
            for one in found
            if one.peer not in self._proved and self._is_due(one, now, is_isolated=is_isolated)
        ]
        if is_isolated:
            dial = self._hurried([one for one in due if not one.is_connected])
        else:
            held = {*self._kept, *self._dialling}
            under_way = [one for one in found if one.peer in held]
            wanted = chosen([*under_way, *due], held)
            dial = [one.peer for one in wanted if one.peer not in held]
        self._dialling.update(dial)
        return Plan(self._kept, tuple(dial))

    def reached(self, peer: PeerId) -> None:
        """Note that a dial has led to the peer."""
        self._dialling.discard(peer)
        self._failures.pop(peer, None)
        self._proved.add(peer)

    def failed(self, peer: PeerId, reason: str, now: float) -> None:
        """Note that a dial has failed; the peer rests, longer each time."""
        self._dialling.discard(peer)
        old = self._failures.pop(peer, None)
        jitter = self._dice.below(1 << 16) / (1 << 16)
        self._failures[peer] = _Failure(old.attempt + 1 if old else 0, now, jitter, reason)
        if len(self._failures) > TRIES_MAX:
            del self._failures[next(iter(self._failures))]

    def _is_due(self, one: Known, now: float, *, is_isolated: bool) -> bool:
        if one.peer in self._dialling:
            return False
        failure = self._failures.get(one.peer)
        if failure is None:
            return True
        most_s = RETRY_MOST_S
        if is_isolated:
            most_s = RETRY_ISOLATED_S
        elif one.is_connected or one.rank is Rank.HEARD:
            most_s = RETRY_HEARD_S
        rest_s = backoff_s(
            failure.attempt, first_s=RETRY_FIRST_S, most_s=most_s, jitter=failure.jitter
        )
        return now >= failure.at + rest_s

    def _hurried(self, due: Sequence[Known]) -> list[PeerId]:
        """Return whom to dial while nobody is to be had: the best, and some of all others."""
        free = DIALS_ISOLATED - len(self._dialling)
        ranked = [one.peer for one in sorted(due, key=lambda one: one.rank)]
        half = DIALS_ISOLATED // 2
        return [*ranked[:half], *self._dice.shuffled(ranked[half:])][: max(free, 0)]


def chosen(found: Sequence[Known], held: Iterable[PeerId]) -> list[Known]:
    """Return at most ``LINKS`` of the peers, at most ``PER_NETWORK_MAX`` of one network.

    Anchor peers and validators come first, each up to their links; then whoever is of the best rank. Of one
    rank those come first that are ``held``, so that a link is not given up for another, then in the order of
    ``found``.
    """
    kept = frozenset(held)
    order = sorted(found, key=lambda one: (one.rank, one.peer not in kept))
    taken, networks = list[Known](), Counter[str]()

    def take(candidates: Iterable[Known], most: int) -> None:
        for one in candidates:
            if most <= 0 or len(taken) >= LINKS:
                return
            if one not in taken and (not one.network or networks[one.network] < PER_NETWORK_MAX):
                taken.append(one)
                networks[one.network] += 1
                most -= 1

    take([one for one in order if one.rank is Rank.ANCHOR], ANCHOR_LINKS)
    take([one for one in order if one.rank is Rank.VALIDATOR], VALIDATOR_LINKS)
    take(order, LINKS)
    return taken


def spread(found: Sequence[Known], dice: RandomStream) -> list[Known]:
    """Return the peers in a drawn order in which each network has its turn: many keys of one do not help it."""
    groups: dict[str, list[Known]] = {}
    for one in sorted(found, key=lambda one: one.peer):
        groups.setdefault(one.network, []).append(one)
    turns = [dice.shuffled(groups[network]) for network in dice.shuffled(sorted(groups))]
    return in_turns(turns)


def in_turns(groups: Sequence[Sequence[T]]) -> list[T]:
    """Return the first of each group, then the second of each, and so on."""
    longest = max(map(len, groups), default=0)
    return [group[number] for number in range(longest) for group in groups if number < len(group)]
