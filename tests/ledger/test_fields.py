"""A field is within its bounds or named in the refusal."""

import pytest

from swarm.errors import BadEncoding
from swarm.ledger.check_statements import SHORT_MAX, STAGE_MAX, check_seat, within


def test_bounds_are_inclusive() -> None:
    within("x", 1, 1, 1)
    check_seat(1, 0, 0, 0)
    check_seat(SHORT_MAX, SHORT_MAX, STAGE_MAX, SHORT_MAX)


@pytest.mark.parametrize(
    "seat_id", [(0, 0, 0, 0), (1, -1, 0, 0), (1, 0, STAGE_MAX + 1, 0), (1, 0, 0, SHORT_MAX + 1)]
)
def test_a_seat_out_of_bounds_is_refused(seat_id: tuple[int, int, int, int]) -> None:
    with pytest.raises(BadEncoding, match="is not between"):
        check_seat(*seat_id)
