"""Time the proposals, the votes and the end of a validator's views.

Core: times are numbers that come in; nothing here waits.

The block interval is one constant of the genesis, with or without transactions. A voter holds its notarize
vote until the interval has passed since its vote for the parent, and the timers of a view count from that
moment; so an idle network makes blocks no faster and no slower than a busy one. While no view is final, the
timers grow: fixed ones starve when the network is slower than they are.
"""

from dataclasses import dataclass, field

from swarm.types import View

LEADER_DELTAS = 2
"""Delays to wait for a leader: one that is silent for twice the longest delay is not coming."""
ADVANCE_DELTAS = 3
"""Delays after which an unfinished view is nullified: one after its leader is given up."""
IDLE_VIEWS = 6
"""Views without a statement of a leader after which it is probably gone: it gets ``IDLE_DELTAS`` instead."""
IDLE_DELTAS = 1 / 4
RETRY_DELTAS = 2
"""Delays between two repetitions of a stuck validator's statements."""
GRACE_VIEWS = 2
"""Views from a block to its finality if all is well: until then the timers do not grow."""
LEAD_FRACTION = 1 / 4
"""Part of the interval by which a leader builds before the votes are due, so that the block has arrived."""


@dataclass(frozen=True, slots=True)
class TimerParams:
    """Block interval and expected message delay of the network."""

    interval_s: float
    delta_s: float = 2.0
    """Seconds a message takes between two validators, at most, by assumption."""
    growth: float = 1.3
    growth_max: float = 8.0


@dataclass(slots=True)
class Timers:
    """Pending times of the current view, in seconds; None is over or not pending."""

    pace: TimerParams
    hold_until: float = 0.0
    propose_at: float | None = None
    vote_at: float | None = None
    leader_at: float | None = None
    advance_at: float | None = None
    delta_s: float = 0.0
    _noted: dict[View, float] = field(default_factory=dict[View, float])
    _heard: dict[int, View] = field(default_factory=dict[int, View])

    def hear(self, validator: int, view: View) -> None:
        """Note that a validator sent a statement while this one was in ``view``."""
        self._heard[validator] = view

    def note(self, view: View, now: float) -> None:
        """Note the time the block of ``view`` was voted for or known as notarized; the first counts."""
        self._noted.setdefault(view, now)

    def forget(self, final: View) -> None:
        """Forget the times of views before ``final``: their blocks cannot be parents any more."""
        self._noted = {view: at for view, at in self._noted.items() if view >= final}

    def enter(self, view: View, final: View, *, leader: int, me: int, now: float) -> None:
        """Set every timer for ``view``; ``final`` is the newest view known to be final."""
        newest_at = self.newest_at
        parent_at = now - self.pace.interval_s if newest_at is None else newest_at
        growth = self.pace.growth ** min(max(0, view - final - GRACE_VIEWS), 64)
        self.delta_s = self.pace.delta_s * min(growth, self.pace.growth_max)
        self.hold_until = max(now, parent_at + self.pace.interval_s)
        lead = self.pace.interval_s * LEAD_FRACTION
        self.propose_at = max(now, self.hold_until - lead) if leader == me else None
        self.vote_at = None
        is_idle = leader != me and view - self._heard.get(leader, 0) > IDLE_VIEWS
        patience = IDLE_DELTAS if is_idle else LEADER_DELTAS
        self.leader_at = self.hold_until + patience * self.delta_s
        self.advance_at = self.hold_until + ADVANCE_DELTAS * self.delta_s

    @property
    def newest_at(self) -> float | None:
        """The time that was noted for the newest view; None if there is none."""
        return self._noted[max(self._noted)] if self._noted else None

    @property
    def deadline(self) -> float | None:
        """The earliest pending time; None if there is none."""
        pending = (self.propose_at, self.vote_at, self.leader_at, self.advance_at)
        return min((at for at in pending if at is not None), default=None)
