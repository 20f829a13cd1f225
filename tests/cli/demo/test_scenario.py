"""The demo kills one peer, brings it back, and ends when the run does or when time is up."""

from swarm.cli.demo.scenario import (
    DOWN_S,
    SETTLE_S,
    VICTIM,
    Cheat,
    Move,
    Observation,
    Phase,
    Scenario,
    num_honest,
    roles_of,
)


def an_observation(
    round_: int = 0, *, over: bool = False, final: bool = False, trains: bool = True
) -> Observation:
    return Observation(round=round_, rounds=10, is_over=over, is_final=final, victim_trains=trains)


def test_the_roles_are_those_that_were_promised() -> None:
    """Ten peers, two cheat; four validators: the two without seats and two replicas, not the launcher."""
    roles = roles_of(num_honest(2, 4, cheats=True), cheats=True)
    assert len(roles) == 10
    assert [role.number for role in roles if role.cheats] == [8, 9]
    assert [role.cheat for role in roles[8:]] == list(Cheat)
    assert not roles[8].validates
    assert not roles[9].validates
    assert [role.number for role in roles if not role.solves] == [6, 7]
    assert [role.number for role in roles if role.validates] == [1, 2, 6, 7]
    assert roles[VICTIM].validates
    assert roles[VICTIM].solves
    assert not roles[VICTIM].is_launcher


def test_seats_are_left_for_the_cheating_peers() -> None:
    """Three replicas a stage where there is room; without cheating peers as many as there are seats, up to
    three.
    """
    assert num_honest(2, 4, cheats=True) == num_honest(2, 4, cheats=False) == 6
    assert num_honest(2, 3, cheats=True) == 4
    assert num_honest(2, 3, cheats=False) == 6
    assert num_honest(1, 8, cheats=True) == 3
    assert len(roles_of(6, cheats=False)) == 8


def test_the_cheating_peers_join_once_after_a_fifth_and_three_tenths_of_the_rounds() -> None:
    """Whatever else happens; not before every stage trains."""
    scenario = Scenario(deadline=1000.0, kills=True, cheats=True)
    assert scenario.next_moves(an_observation(2, trains=False), 0.0) == []
    assert scenario.next_moves(an_observation(2), 1.0) == []
    assert scenario.next_moves(an_observation(2), 2.0) == [Move.CHEAT]
    assert scenario.next_moves(an_observation(2), 2.5) == []
    assert scenario.next_moves(an_observation(3), 3.0) == [Move.DECEIVE]
    assert scenario.next_moves(an_observation(3), 3.5) == []
    late = Scenario(deadline=1000.0, kills=True, cheats=True)
    late.next_moves(an_observation(5), 0.0)
    assert late.next_moves(an_observation(5), 1.0) == [Move.CHEAT, Move.DECEIVE, Move.KILL]


def test_the_phases_follow_each_other() -> None:
    """Gather, train, kill at 40%, restart after a while, rejoin measured, finish."""
    scenario = Scenario(deadline=1000.0, kills=True, cheats=False)
    assert scenario.next_moves(an_observation(0, trains=False), 0.0) == []
    assert scenario.next_moves(an_observation(9, trains=False), 0.5) == []
    assert scenario.next_moves(an_observation(1), 1.0) == []
    assert scenario.next_moves(an_observation(3), 2.0) == []
    assert scenario.next_moves(an_observation(4), 10.0) == [Move.KILL]
    assert scenario.next_moves(an_observation(4, trains=False), 11.0) == []
    assert scenario.next_moves(an_observation(4, trains=False), 10.0 + DOWN_S) == [Move.RESTART]
    assert scenario.next_moves(an_observation(5, trains=False), 20.0) == []
    assert scenario.rejoin_s is None
    scenario.next_moves(an_observation(5), 27.0)
    scenario.next_moves(an_observation(6), 40.0)
    assert scenario.rejoin_s == 27.0 - 15.0
    assert scenario.next_moves(an_observation(10, over=True), 100.0) == []
    assert scenario.next_moves(an_observation(10, over=True, final=True), 101.0) == [Move.FINISH]
    assert scenario.phase is Phase.DONE
    assert scenario.next_moves(an_observation(10, over=True, final=True), 102.0) == []
    assert not scenario.ended_early


def test_time_is_up() -> None:
    """In every phase, the deadline ends it, and says that rounds are missing."""
    scenario = Scenario(deadline=50.0, kills=True, cheats=False)
    assert scenario.next_moves(an_observation(1), 50.0) == [Move.FINISH]
    assert scenario.ended_early


def test_a_last_checkpoint_that_never_comes_is_not_waited_for_forever() -> None:
    """The run is over: after a while the newest checkpoint there is must do."""
    scenario = Scenario(deadline=1000.0, kills=False, cheats=False)
    assert scenario.next_moves(an_observation(10, over=True), 100.0) == []
    assert scenario.next_moves(an_observation(10, over=True), 100.0 + SETTLE_S) == [Move.FINISH]


def test_no_peer_is_killed_when_that_is_not_wanted() -> None:
    """--no-kill."""
    scenario = Scenario(deadline=1000.0, kills=False, cheats=False)
    assert all(scenario.next_moves(an_observation(r), float(r)) == [] for r in range(10))
