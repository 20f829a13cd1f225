"""Say whether a node's work moves, and what to do when it does not.

Core: a machine. What was seen and ``now`` in, a verdict out.

    WAITING --tokens and height rise--> PROGRESSING --either stands still 15 s--> STALLED
    any --the owner pauses--> PAUSED        any --the run is over--> ENDED

Health is progress, and nothing else: a node is well when the ledger's height and its own and the run's tokens
have risen lately, not when it says so.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

from swarm.node.join.isolation import Isolation

STANDSTILL_S = 15.0
"""Three announcements (5 s apart), three counts of this node's own tokens and fifteen blocks of a second:
whatever moves at all is seen to move in that time."""
BLOCKS_MISSED = 3
"""A network whose blocks are further apart than 5 s stands still after so many of them failed to come."""
NAMES_SHOWN = 3
"""Validators that a message names; the others are counted."""


class Verdict(StrEnum):
    """Verdict on a node's progress."""

    PROGRESSING = "progressing"
    WAITING = "waiting"
    """It has not begun, or waits for something that is named."""
    STALLED = "stalled"
    """It went on before and stands still now, or cannot go on."""
    PAUSED = "paused"
    ENDED = "ended"


class Motion:
    """Clock of one value: seconds since it last changed."""

    def __init__(self, now: float) -> None:
        self.has_moved = False
        """False until the value has changed for the first time."""
        self._value: Hashable = None
        self._is_new = True
        self._moved_at = now

    def see(self, value: Hashable, now: float) -> None:
        """Note the value; the first one is no change."""
        if self._is_new:
            self._is_new, self._value = False, value
        elif value != self._value:
            self._value, self._moved_at, self.has_moved = value, now, True

    def age_s(self, now: float) -> float:
        """Seconds since the value last changed; before that, since this began to watch."""
        return max(now - self._moved_at, 0.0)

    def is_still(self, now: float) -> bool:
        """Return True if nothing has changed for ``STANDSTILL_S``."""
        return self.age_s(now) >= STANDSTILL_S


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthInputs:
    """Figures of a node that its health is judged by."""

    height: int
    work: Hashable = 0
    """Anything that changes whenever some peer finishes a step."""
    own_work: Hashable = 0
    """Anything that changes whenever this node finishes a step."""
    phase: str = ""
    """Of the run, as the ledger calls it; empty before there is a run."""
    is_seated: bool = False
    waits_for: str = ""
    """The node's own account of what it waits for."""
    isolation: Isolation | None = None
    """Finding that this node is isolated from its network."""
    missing: tuple[str, ...] = ()
    """Names of validators that are not heard."""
    num_validators: int = 0
    is_silent: bool = False
    """True if this node is a validator and does not vote: it may have forgotten what it signed."""
    empty_stages: tuple[int, ...] = ()
    """Stages without any live peer."""


@dataclass(frozen=True, slots=True)
class Health:
    """The answer to "is it well?"."""

    verdict: Verdict
    cause: str = ""
    command: str = ""
    age_s: float = 0.0
    """Since the figure that decides last moved."""


class HealthWatch:
    """Remembers when height and tokens last rose."""

    def __init__(self, now: float) -> None:
        self.height, self.work, self.own = Motion(now), Motion(now), Motion(now)

    def judge(self, inputs: HealthInputs, now: float, block_interval_s: float = 0.0) -> Health:
        """Return the verdict at ``now``."""
        self.height.see(inputs.height, now)
        self.work.see(inputs.work, now)
        self.own.see(inputs.own_work, now)
        if inputs.phase in {"finished", "settled"}:
            return Health(Verdict.ENDED, "the run is over", "swarm export DIR", 0.0)
        if inputs.isolation is not None:
            return self._isolated(inputs, inputs.isolation, now)
        if self.is_ledger_still(now, block_interval_s):
            return self._still_ledger(inputs, now)
        if not inputs.phase:
            cause = f"waiting for {inputs.waits_for or 'the run to appear on the ledger'}"
            return Health(Verdict.WAITING, cause, "swarm peers ls", self.height.age_s(now))
        return (
            self._training(inputs, now)
            if inputs.phase == "training"
            else self._resting(inputs, now)
        )

    def is_ledger_still(self, now: float, block_interval_s: float = 0.0) -> bool:
        """Return whether no block became final for longer than the network's pace allows."""
        return self.height.age_s(now) >= max(STANDSTILL_S, BLOCKS_MISSED * block_interval_s)

    def _waiting(self, cause: str, command: str, now: float) -> Health:
        return Health(Verdict.WAITING, cause, command, self.height.age_s(now))

    def _isolated(self, inputs: HealthInputs, isolation: Isolation, now: float) -> Health:
        verdict = Verdict.STALLED if self.height.has_moved or inputs.phase else Verdict.WAITING
        cause = f"this node {isolation.cause}"
        return Health(verdict, cause, isolation.command, max(now - isolation.since, 0.0))

    def _still_ledger(self, inputs: HealthInputs, now: float) -> Health:
        age_s = self.height.age_s(now)
        cause = f"the ledger stands still at height {inputs.height}"
        command = "swarm peers ls"
        if inputs.missing:
            count = f"{len(inputs.missing)} of {inputs.num_validators}"
            cause += f": the votes of {count} validators are missing ({names(inputs.missing)})"
            command = "swarm join   (on their machines)"
        if inputs.is_silent:
            cause += "; this node may have forgotten votes, and is silent for this epoch"
            command = "swarm ledger recover   (stop the node first; it says when that is safe)"
        if inputs.waits_for:
            cause += f"; this node waits for {inputs.waits_for}"
        # A node that joins and was given no block yet has nothing that could stand still.
        verdict = Verdict.STALLED if self.height.has_moved or inputs.phase else Verdict.WAITING
        return Health(verdict, cause, command, age_s)

    def _resting(self, inputs: HealthInputs, now: float) -> Health:
        """Judge a run without steps to make: only the height of the ledger shows progress."""
        if inputs.phase == "paused":
            cause = "the owner paused the run"
            return Health(Verdict.PAUSED, cause, "swarm resume", self.height.age_s(now))
        if inputs.phase == "open":
            return self._waiting("the next round has not begun yet", "swarm map --watch", now)
        if not self.height.has_moved:
            return self._waiting("no new block has been seen yet", "swarm status", now)
        return Health(Verdict.PROGRESSING, age_s=self.height.age_s(now))

    def _training(self, inputs: HealthInputs, now: float) -> Health:
        age_s, own_s = self.work.age_s(now), self.own.age_s(now)
        if not self.work.has_moved or self.work.is_still(now):
            return self._no_tokens(inputs, age_s)
        if inputs.is_seated and not self.own.has_moved:
            cause = "this node prepares its seat; others train"
            if inputs.waits_for:
                cause = f"this node waits for {inputs.waits_for}; others train"
            return Health(Verdict.WAITING, cause, "swarm map --watch", own_s)
        if inputs.is_seated and self.own.is_still(now):
            cause = "this node has finished no step; others train"
            return Health(Verdict.STALLED, cause, "swarm peers ls", own_s)
        if inputs.waits_for and not inputs.is_seated:
            return Health(Verdict.WAITING, f"waiting for {inputs.waits_for}", "swarm status", age_s)
        return Health(Verdict.PROGRESSING, age_s=max(age_s, self.height.age_s(now)))

    def _no_tokens(self, inputs: HealthInputs, age_s: float) -> Health:
        """Judge a run in which no peer has finished a step lately, or since this node watches."""
        command = "swarm peers ls"
        cause = "no token was trained" if self.work.has_moved else "no step was finished yet"
        if inputs.empty_stages:
            which = ", ".join(map(str, inputs.empty_stages))
            cause += f": no peer is left in stage{'s' * (len(inputs.empty_stages) > 1)} {which}"
            command = "swarm ticket new"
        elif inputs.waits_for:
            cause += f": this node waits for {inputs.waits_for}"
        is_stalled = self.work.has_moved or bool(inputs.empty_stages)
        return Health(Verdict.STALLED if is_stalled else Verdict.WAITING, cause, command, age_s)


def names(found: tuple[str, ...]) -> str:
    """List the first names, and count the others: ``a, b, c and 2 more``."""
    shown = ", ".join(found[:NAMES_SHOWN])
    more = len(found) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
