"""Measure how fast a text is written, from the first question to the last token.

Core: a machine; the clock is an argument, and is read when a token comes.

The first token waits for the prompt, and in the swarm for peers that may read a checkpoint from their disk:
it is told apart, and the rate of the whole counts it in.
"""

from collections.abc import Callable, Iterable, Iterator


class Pace:
    """The tokens of one text and their time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` gives seconds; the time counts from now on."""
        self._clock = clock
        self._began = self._first = self._last = clock()
        self.tokens = 0

    def timed(self, tokens: Iterable[int]) -> Iterator[int]:
        """The same tokens, each counted as it comes."""
        for token in tokens:
            self._last = self._clock()
            if not self.tokens:
                self._first = self._last
            self.tokens += 1
            yield token

    @property
    def seconds(self) -> float:
        """From the first question to the last token so far."""
        return self._last - self._began

    @property
    def tokens_per_s(self) -> float | None:
        """Over all of it; None before a token came, or when no time passed."""
        return self.tokens / self.seconds if self.tokens and self.seconds > 0 else None

    def row(self) -> dict[str, object]:
        """What ``--json`` says of it: tokens, seconds, first_token_s, tokens_per_s."""
        rate = self.tokens_per_s
        return {
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "first_token_s": round(self._first - self._began, 3) if self.tokens else None,
            "tokens_per_s": None if rate is None else round(rate, 2),
        }

    def text(self, where: str) -> str:
        """``12 tokens in 1.4 s, 8.6 tok/s on this machine (first after 0.31 s)``; ``where`` is in words."""
        rate = self.tokens_per_s
        if rate is None:
            return f"{self.tokens} tokens {where}"
        first = f"first after {self._first - self._began:.2f} s"
        return f"{self.tokens} tokens in {self.seconds:.1f} s, {rate:.1f} tok/s {where} ({first})"
