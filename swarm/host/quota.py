"""Hold bytes of peers within a budget, and end who has to make room for others.

Shell: scopes around the tasks that hold what ``host/memory_quota.py`` counts.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager

import trio

from swarm.host.memory_quota import ByteBudget
from swarm.types import PeerId


class Quota:
    """Budget whose evicted messages and streams are cancelled."""

    def __init__(self, budget: ByteBudget) -> None:
        self.budget = budget
        self._moving: dict[int, trio.CancelScope] = {}

    def admit(self, peer: PeerId, num_bytes: int, *, is_moving: bool = True) -> int:
        """Hold bytes of a peer until they are released; return their number.

        Raises ``Unreachable`` where there is no room for them. Those that are not moving make no room.
        """
        number, evicted = self.budget.admit(peer, num_bytes, is_moving=is_moving)
        for other in evicted:
            if (scope := self._moving.get(other)) is not None:
                scope.cancel()
        return number

    @contextmanager
    def admitted(self, peer: PeerId, num_bytes: int) -> Generator[int]:
        """Hold bytes of a peer during a block; yield their number. Raises like ``admit``."""
        number = self.admit(peer, num_bytes)
        try:
            yield number
        finally:
            self.budget.release(number)

    @contextmanager
    def moving(self, number: int, timeout_s: float = math.inf) -> Generator[None]:
        """Run a block that ends when the bytes of this number make room for others, or after ``timeout_s``."""
        self.budget.moves(number)
        with trio.move_on_after(timeout_s) as self._moving[number]:
            try:
                yield
            finally:
                del self._moving[number]


class HeldMessage:
    """Bytes of the message that one stream is about: a question, and then its answer."""

    def __init__(self, peer: PeerId) -> None:
        """Hold nothing yet."""
        self._peer = peer
        self._quota: Quota | None = None
        self._number = -1

    def hold(self, quota: Quota, num_bytes: int, *, is_moving: bool) -> None:
        """Hold so many bytes instead of those before; raise ``Unreachable`` where there is no room for them."""
        self.release()
        self._number = quota.admit(self._peer, num_bytes, is_moving=is_moving)
        self._quota = quota

    @contextmanager
    def moving(self, timeout_s: float) -> Generator[None]:
        """Run a block that ends when these bytes make room for others, or after ``timeout_s``."""
        assert self._quota is not None, "something is held"
        with self._quota.moving(self._number, timeout_s):
            yield

    def arrived(self) -> None:
        """Note that the message is complete."""
        assert self._quota is not None, "something is held"
        self._quota.budget.arrived(self._number)

    def release(self) -> None:
        """Hold nothing any more."""
        if self._quota is not None:
            self._quota.budget.release(self._number)
            self._quota = None
