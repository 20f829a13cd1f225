"""Named streams of random numbers from one seed.

Core: a stream is a function of (seed, purpose, context) and of what was drawn from it before.
"""

from collections.abc import Sequence
from typing import TypeVar

from swarm.primitives.crypto import expand, framed

T = TypeVar("T")
_BLOCK_BYTES = 1024


class RandomStream:
    """Stream of uniform draws: BLAKE3 in counter mode, without modulo bias."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._block = 0
        self._pool = b""

    def bytes_(self, count: int) -> bytes:
        """Return the next ``count`` bytes of the stream."""
        while len(self._pool) < count:
            block = self._seed + self._block.to_bytes(8, "big")
            self._pool += expand(block, "dice", _BLOCK_BYTES)
            self._block += 1
        out, self._pool = self._pool[:count], self._pool[count:]
        return out

    def below(self, bound: int) -> int:
        """Return a uniform integer in [0, bound)."""
        width = max((bound - 1).bit_length() + 7, 8) // 8
        ceiling = (1 << (8 * width)) // bound * bound
        while True:
            number = int.from_bytes(self.bytes_(width), "big")
            if number < ceiling:
                return number % bound

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return a uniform permutation (Fisher and Yates)."""
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out

    def choice(self, items: Sequence[T], weights: Sequence[int] | None = None) -> T:
        """Return one item, drawn uniformly or with integer weights (not all zero)."""
        if weights is None:
            return items[self.below(len(items))]
        ticket = self.below(sum(weights))
        for item, weight in zip(items, weights, strict=True):
            ticket -= weight
            if ticket < 0:
                return item
        raise AssertionError("weights are not all zero")


def stream(seed: bytes, purpose: str, *context: int | bytes) -> RandomStream:
    """Return the stream of one purpose: ``stream(beacon, "gossip.pairing", run_index, stage, round_index)``."""
    parts = tuple(
        part if isinstance(part, bytes) else part.to_bytes(8, "big", signed=True)
        for part in context
    )
    return RandomStream(framed(purpose, (seed, *parts)))
