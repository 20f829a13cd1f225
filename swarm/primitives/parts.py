"""Do long work in parts, so that a caller may let others have their turns in between.

Core: a generator that yields nothing between its parts and returns the result.
"""

from collections.abc import Generator
from typing import TypeVar, cast

Result = TypeVar("Result")

Parts = Generator[None, None, Result]
"""Work in parts; what it returns is its result."""


def at_once(parts: Parts[Result]) -> Result:
    """Return the result of work in parts, done without a pause."""
    while True:
        try:
            next(parts)
        except StopIteration as done:
            return cast("Result", done.value)
