"""A machine has moved once its addresses are others in two looks, and not while it renews one."""

import pytest

from swarm.host.whereabouts import Move, Whereabouts


@pytest.mark.rule("H38")
def test_a_move_is_told_once_it_lasts() -> None:
    where = Whereabouts(["10.1.1.5", "fd00::5"])
    assert where.look(["10.1.1.5", "fd00::5"]) is None
    assert where.look(["192.168.1.7", "fd00::5"]) is None
    assert where.look(["192.168.1.7", "fd00::5"]) == Move(("10.1.1.5",), ("192.168.1.7",))
    assert where.look(["192.168.1.7", "fd00::5"]) is None


@pytest.mark.rule("H38")
def test_an_address_that_is_away_for_a_moment_is_none() -> None:
    where = Whereabouts(["10.1.1.5"])
    for _ in range(3):
        assert where.look([]) is None
        assert where.look(["10.1.1.5"]) is None
    assert where.look([]) is None
    assert where.look(["10.1.1.6"]) is None, "not the same twice yet"
    assert where.look(["10.1.1.6"]) == Move(("10.1.1.5",), ("10.1.1.6",))


def test_a_move_is_said_in_a_sentence() -> None:
    assert "10.1.1.5 gone; 10.1.1.6 new" in Move(("10.1.1.5",), ("10.1.1.6",)).text()
    many = Move((), tuple(f"10.1.1.{number}" for number in range(9))).text()
    assert "10.1.1.2 and others new" in many
    assert "10.1.1.3" not in many
