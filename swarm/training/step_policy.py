"""Decide when a seat takes its next optimizer step.

Core: a machine; the time comes in as ``now``.

A seat computes every micro-batch of one step with one weight version. It admits up to ``quota`` micro-batches
into the open version; later ones wait outside until the step is taken.

    OPEN --quota settled, or the deadline with an answer--> DUE --stepped()--> OPEN (next version)
      |
      +--steps == steps_max--> FULL until begin_round()

Source: docs/spec/protocol.md section 3 (one weight version per step; quota or deadline).
"""

from dataclasses import dataclass

from swarm.errors import OutOfTurn, UsageError


@dataclass(frozen=True, slots=True)
class StepSlot:
    """Permission to compute one micro-batch with weight version ``version``."""

    version: int


class StepPolicy:
    """Counter of the admissions and answers of the open weight version."""

    def __init__(self, *, step_s: float) -> None:
        self.version = 0
        self.steps = 0
        self.quota = 1
        self._step_s = step_s
        self._steps_max = 0
        self._admitted = 0
        self._answered = 0
        self._opened_at: float | None = None
        self._closed = True
        self._seen = set[tuple[int, int, int]]()

    def begin_round(self, quota: int, steps_max: int) -> None:
        """Open a segment of at most ``steps_max`` steps; ``quota`` micro-batches are expected in each."""
        if quota < 1:
            raise UsageError("a quota is at least 1")
        self.quota, self.steps, self._closed = quota, 0, False
        self._steps_max = steps_max
        self._seen = set[tuple[int, int, int]]()
        self._next_version()

    def close_round(self) -> None:
        """Admit nothing more; micro-batches in flight now belong to an old version."""
        self._closed = True
        self._next_version()

    @property
    def is_full(self) -> bool:
        """True if this segment takes no more steps."""
        return self._closed or self.steps >= self._steps_max

    @property
    def answered(self) -> int:
        """Micro-batches whose gradients the open step holds."""
        return self._answered

    @property
    def deadline(self) -> float | None:
        """Time at which the open step is taken with the gradients it has; None before the first admission."""
        return None if self._opened_at is None else self._opened_at + self._step_s

    def admit(self, now: float) -> StepSlot | None:
        """Admit one micro-batch, or return None while the open version is full."""
        if self.is_full or self._admitted >= self.quota:
            return None
        if self._opened_at is None:
            self._opened_at = now
        self._admitted += 1
        return StepSlot(self.version)

    def see(self, key: tuple[int, int, int]) -> None:
        """Note (origin, step, micro-batch), since each may have one leaf only.

        Raises ``OutOfTurn`` if this segment had it before.
        """
        if key in self._seen:
            raise OutOfTurn("a micro-batch that was sent before")
        self._seen.add(key)

    def is_current(self, ticket: StepSlot) -> bool:
        """Return True if a gradient under this ticket still belongs to the open step."""
        return ticket.version == self.version

    def settle(self, ticket: StepSlot, *, answered: bool) -> None:
        """Finish one admitted micro-batch; a failed one frees its slot for another."""
        if not self.is_current(ticket):
            return
        if answered:
            self._answered += 1
        else:
            self._admitted -= 1

    def is_due(self, now: float) -> bool:
        """Return True if the step should be taken now."""
        if self.is_full or not self._answered:
            return False
        if self._answered >= self.quota:
            return True
        return self.deadline is not None and now >= self.deadline

    def expire(self, now: float) -> bool:
        """Reopen a step whose deadline passed without one answer; return True if it did."""
        if self._answered or self.deadline is None or now < self.deadline:
            return False
        self._next_version()
        return True

    def stepped(self) -> None:
        """Open the next weight version after a step was taken."""
        self.steps += 1
        self._next_version()

    def _next_version(self) -> None:
        self.version += 1
        self._admitted = self._answered = 0
        self._opened_at = None
