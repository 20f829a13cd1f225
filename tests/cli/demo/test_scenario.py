"""The demo kills one peer, brings it back, and ends when the run does or when time is up."""

from swarm.cli.demo.scenario import (
    DOWN_S,
    SETTLE_S,
    VICTIM,
    Move,
    Observation,
    Phase,
    Scenario,
    num_honest,
    roles_of,
)


def a_look(
    round_: int = 0, *, over: bool = False, final: bool = False, trains: bool = True
) -> Observation:
    return Observation(round=round_, rounds=10, is_over=over, is_final=final, victim_trains=trains)


def test_the_cast_is_what_was_promised() -> None:
    """Nine peers, one lies; four validators: the two without seats and two replicas, not the launcher."""
    cast = roles_of(num_honest(2, 4, lies=True), lies=True)
    assert len(cast) == 9
    assert [role.number for role in cast if role.lies] == [8]
    assert not cast[8].validates
    assert [role.number for role in cast if not role.solves] == [6, 7]
    assert [role.number for role in cast if role.validates] == [1, 2, 6, 7]
    assert cast[VICTIM].validates
    assert cast[VICTIM].solves
    assert not cast[VICTIM].is_launcher


def test_a_seat_is_left_for_the_liar() -> None:
    """Three replicas a stage where there is room; without a liar as many as there are seats, up to three."""
    assert num_honest(2, 4, lies=True) == num_honest(2, 4, lies=False) == 6
    assert num_honest(2, 3, lies=True) == 5
    assert num_honest(2, 3, lies=False) == 6
    assert num_honest(1, 8, lies=True) == 3
    assert len(roles_of(6, lies=False)) == 8


def test_the_liar_joins_once_after_a_fifth_of_the_rounds() -> None:
    """Whatever else happens; not before everybody trains."""
    script = Scenario(deadline=1000.0, kills=True, lies=True)
    assert script.next_moves(a_look(2, trains=False), 0.0) == []
    assert script.next_moves(a_look(2), 1.0) == []
    assert script.next_moves(a_look(2), 2.0) == [Move.LIE]
    assert script.next_moves(a_look(3), 3.0) == []
    late = Scenario(deadline=1000.0, kills=True, lies=True)
    late.next_moves(a_look(5), 0.0)
    assert late.next_moves(a_look(5), 1.0) == [Move.LIE, Move.KILL]


def test_the_plot() -> None:
    """Gather, train, kill at 40%, restart after a while, rejoin measured, finish."""
    script = Scenario(deadline=1000.0, kills=True, lies=False)
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
    assert script.act is Phase.DONE
    assert script.next_moves(a_look(10, over=True, final=True), 102.0) == []
    assert not script.ended_early


def test_time_is_up() -> None:
    """Whatever the act, the deadline ends it, and says that rounds are missing."""
    script = Scenario(deadline=50.0, kills=True, lies=False)
    assert script.next_moves(a_look(1), 50.0) == [Move.FINISH]
    assert script.ended_early


def test_a_last_checkpoint_that_never_comes_is_not_waited_for_forever() -> None:
    """The run is over: after a while the newest checkpoint there is must do."""
    script = Scenario(deadline=1000.0, kills=False, lies=False)
    assert script.next_moves(a_look(10, over=True), 100.0) == []
    assert script.next_moves(a_look(10, over=True), 100.0 + SETTLE_S) == [Move.FINISH]


def test_nobody_is_killed_when_that_is_not_wanted() -> None:
    """--no-kill."""
    script = Scenario(deadline=1000.0, kills=False, lies=False)
    assert all(script.next_moves(a_look(r), float(r)) == [] for r in range(10))
