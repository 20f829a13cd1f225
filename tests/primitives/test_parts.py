"""Work in parts gives what it gives at once, and its errors."""

import pytest

from swarm.primitives.parts import Parts, at_once


def count(to: int) -> Parts[int]:
    total = 0
    for number in range(to):
        yield
        if number == 3:
            raise ValueError(number)
        total += number
    return total


def test_the_result_of_the_last_part_is_that_of_the_whole() -> None:
    assert at_once(count(3)) == 3
    assert at_once(count(0)) == 0


def test_an_error_of_a_part_is_one_of_the_whole() -> None:
    with pytest.raises(ValueError, match="3"):
        at_once(count(5))
