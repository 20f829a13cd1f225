"""The demo kills one peer, brings it back, and ends when the run does or when time is up."""

from swarm.cli.demo_script import (
    DOWN_S,
    SETTLE_S,
    VICTIM,
    Act,
    Look,
    Move,
    Script,
    cast_of,
)


def a_look(
    round_: int = 0, *, over: bool = False, final: bool = False, trains: bool = True
) -> Look:
    return Look(round=round_, rounds=10, is_over=over, is_final=final, victim_trains=trains)


def test_the_cast_is_what_was_promised() -> None:
    """Eight peers; four validators: the two without seats and two replicas, not the launcher."""
    cast = cast_of(6)
    assert len(cast) == 8
    assert [role.number for role in cast if not role.solves] == [6, 7]
    assert [role.number for role in cast if role.validates] == [1, 2, 6, 7]
    assert cast[VICTIM].validates
    assert cast[VICTIM].solves
    assert not cast[VICTIM].is_launcher


def test_the_plot() -> None:
    """Gather, train, kill at 40%, restart after a while, rejoin measured, finish."""
    script = Script(deadline=1000.0, kills=True)
    assert script.next_moves(a_look(0, trains=False), 0.0) == []
    assert script.next_moves(a_look(9, trains=False), 0.5) == []
    assert script.next_moves(a_look(1), 1.0) == []
    assert script.next_moves(a_look(3), 2.0) == []
    assert script.next_moves(a_look(4), 10.0) == [Move.KILL]
    assert script.next_moves(a_look(4, trains=False), 11.0) == []
    assert script.next_moves(a_look(4, trains=False), 10.0 + DOWN_S) == [Move.RESTART]
    assert script.next_moves(a_look(5, trains=False), 20.0) == []
    assert script.rejoin_s is None
    script.next_moves(a_look(5), 27.0)
    script.next_moves(a_look(6), 40.0)
    assert script.rejoin_s == 27.0 - 15.0
    assert script.next_moves(a_look(10, over=True), 100.0) == []
    assert script.next_moves(a_look(10, over=True, final=True), 101.0) == [Move.FINISH]
    assert script.act is Act.DONE
    assert script.next_moves(a_look(10, over=True, final=True), 102.0) == []
    assert not script.ended_early


def test_time_is_up() -> None:
    """Whatever the act, the deadline ends it, and says that rounds are missing."""
    script = Script(deadline=50.0, kills=True)
    assert script.next_moves(a_look(1), 50.0) == [Move.FINISH]
    assert script.ended_early


def test_a_last_checkpoint_that_never_comes_is_not_waited_for_forever() -> None:
    """The run is over: after a while the newest checkpoint there is must do."""
    script = Script(deadline=1000.0, kills=False)
    assert script.next_moves(a_look(10, over=True), 100.0) == []
    assert script.next_moves(a_look(10, over=True), 100.0 + SETTLE_S) == [Move.FINISH]


def test_nobody_is_killed_when_that_is_not_wanted() -> None:
    """--no-kill."""
    script = Script(deadline=1000.0, kills=False)
    assert all(script.next_moves(a_look(r), float(r)) == [] for r in range(10))
