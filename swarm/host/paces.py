"""Bound what strangers cost this node: a part of one core for each place that they come from, and for all.

Core: a machine; ``now`` and costs in processor seconds come in.

An account runs up a debt with each second of work, which fades at its share of a core: a sixteenth, or a part
of the third that all strangers have together where more than five places owe something. Who owes more than a
burst waits until the rest has faded. All together have an account of their own, too; the more it is overdrawn,
the smaller are the bursts, so that a crowd gains nothing by coming from new places all the time.

Work that waits has a *turn*: what it will cost is taken from what such work has cost, and owed from the start,
so that hundreds of questions that come at once are answered one after the other. When its turn has come, who
owes much passes a *door* that leaves most of the time to others: between two of them honest ones get through.

    begin --wait_s--> start --door--> work, spent as it goes --> end
"""

import math
from dataclasses import dataclass, field
from enum import Enum, IntEnum

ORIGIN_SHARE = 16
"""A second of work for one origin is followed by so many less one without. Work of the loop, of libp2p and
of the kernel that is not measured comes on top, nearly as much again."""
BURST_S = 0.25
"""Seconds of work that an origin may be ahead: a newcomer's first minute takes less."""
ALL_SHARE = 3
ALL_BURST_S = 0.5
"""The same of all origins together: who come at once from everywhere are more often newcomers than foes."""
SEATS_SHARE, ALL_SEATS_SHARE = 12, 6
"""The same of the seats on trial of one origin, and of all of them: they work for us, too, and are few."""
DOOR_SHARE = 4
"""The same of all work at the door, which nobody is ahead of."""
DOOR_FREE_PART = 0.25
"""Part of a burst up to which an origin does not pass the door."""
COUNT_S = 1.0
"""Seconds between counts of the origins that owe something."""
NEWCOMER_PART = 0.05
"""Part of the time by which the account of all is overdrawn that everybody waits, who owes nothing, too."""
WAITING_MAX = 32
"""Handshakes and questions of one origin that wait for their turn."""
WAIT_MAX_S = 20.0
"""Seconds that one of them waits at most; one that would wait longer is refused at once."""
ORIGINS_MAX = 4096
"""Origins that are remembered."""
_MEMORY = 0.8
"""Part of the cost expected that stays when another one is measured."""


class Standing(IntEnum):
    """Weight of a peer in the network, which not every key has."""

    STRANGER = 0
    NOVICE = 1
    """Has a seat and works, but too little of it stood: seats are few, keys are not."""
    MEMBER = 2
    """Votes, or has the stake of one who trains, or work that stood."""


class Work(Enum):
    """Kinds of work, by what they cost."""

    FRAME = 0
    QUESTION = 1
    HANDSHAKE = 2


_FIRST_S = {Work.FRAME: 0.0001, Work.QUESTION: 0.001, Work.HANDSHAKE: 0.01}
"""Seconds that work of a kind is expected to cost, before some was measured."""


@dataclass(slots=True)
class _Origin:
    faded_at: float = 0.0
    """Time at which all of the debt has faded."""
    waiting: int = 0
    typical_s: dict[Work, float] = field(default_factory=_FIRST_S.copy)


@dataclass(frozen=True, slots=True)
class Turn:
    """Place of work in the row of its origin."""

    work: Work
    wait_s: float
    expected_s: float
    """Processor seconds that are owed for it while it waits."""


class Paces:
    """Accounts of the origins."""

    def __init__(self, origin_share: int = ORIGIN_SHARE, all_share: int = ALL_SHARE) -> None:
        """Make accounts of which each, and all together, have one in so many seconds."""
        self._origin_share, self._all_share = origin_share, all_share
        self._origins: dict[str, _Origin] = {}
        self._all_faded_at = 0.0
        self._door_at = 0.0
        """Time at which the door is free."""
        self._share, self._counted_at = origin_share, -COUNT_S

    def spend(self, origin: str, cost_s: float, now: float) -> None:
        """Note work that was done for an origin."""
        self._owe(self._of(origin, now), cost_s, now)

    def wait_s(self, origin: str, now: float) -> float:
        """Return the seconds until more work may be done for an origin."""
        over_s = max(0.0, self._all_faded_at - ALL_BURST_S * self._all_share - now)
        burst_s = BURST_S * self._share * math.pow(0.5, over_s)
        own_s = self._of(origin, now).faded_at - burst_s - now
        return max(own_s, NEWCOMER_PART * over_s, 0.0)

    def is_free(self, origin: str, now: float) -> bool:
        """Return True if an origin owes so little that it neither waits nor passes the door."""
        return not self._is_at_door(self._of(origin, now), now) and not self.wait_s(origin, now)

    def begin(self, origin: str, work: Work, now: float) -> Turn | None:
        """Return the turn of work; None if too much of its origin waits. ``start`` it then.

        Frames always have one: each connection has one at a time.
        """
        one, wait_s = self._of(origin, now), self.wait_s(origin, now)
        if work is not Work.FRAME:
            if one.waiting >= WAITING_MAX or wait_s > WAIT_MAX_S:
                return None
            one.waiting += 1
        turn = Turn(work, wait_s, one.typical_s[work])
        self._owe(one, turn.expected_s, now)
        return turn

    def start(self, origin: str, turn: Turn, now: float) -> float:
        """Note that the turn of work has come, or that it was given up; return the seconds until the door is
        free. From now on what it costs is spent.
        """
        one = self._of(origin, now)
        one.waiting -= turn.work is not Work.FRAME
        self._owe(one, -turn.expected_s, now)
        if not self._is_at_door(one, now):
            return 0.0
        free_at = max(self._door_at, now)
        self._door_at = free_at + turn.expected_s * DOOR_SHARE
        return free_at - now

    def end(self, origin: str, work: Work, cost_s: float, now: float) -> None:
        """Note what work has cost, for the turns of what comes after it; it was spent already."""
        known = self._of(origin, now).typical_s
        known[work] = _MEMORY * known[work] + (1 - _MEMORY) * cost_s

    def _owe(self, one: _Origin, cost_s: float, now: float) -> None:
        """Add to the debts of an origin and of all, or take from them."""
        if now >= self._counted_at + COUNT_S:
            self._counted_at = now
            owing = sum(other.faded_at > now for other in self._origins.values())
            self._share = max(self._origin_share, self._all_share * owing)
        one.faded_at = max(one.faded_at, now) + cost_s * self._share
        self._all_faded_at = max(self._all_faded_at, now) + cost_s * self._all_share

    def _is_at_door(self, one: _Origin, now: float) -> bool:
        return one.faded_at - now > DOOR_FREE_PART * BURST_S * self._share

    def _of(self, origin: str, now: float) -> _Origin:
        one = self._origins.get(origin)
        if one is None:
            self._forget(now)
            one = self._origins.setdefault(origin, _Origin())
        return one

    def _forget(self, now: float) -> None:
        """Keep the table small: those that owe and wait for nothing are as if they had never asked."""
        if len(self._origins) < ORIGINS_MAX:
            return
        busy = {
            name: one for name, one in self._origins.items() if one.waiting or one.faded_at > now
        }
        # Where all owe something, those that owe the least are forgotten.
        least = sorted(busy, key=lambda name: busy[name].faded_at)[: -ORIGINS_MAX // 2]
        for name in least:
            if not busy[name].waiting:
                del busy[name]
        self._origins = busy
