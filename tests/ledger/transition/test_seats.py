"""Seats change at boundaries, by rule: joiners fill the thinnest stage, the owner yields, the silent go."""

import pytest

from swarm.ledger.state.records import Run, Waiter
from swarm.ledger.transition.seats import (
    NEVER,
    SILENT_ROUNDS_MAX,
    Standing,
    Standings,
    draw_posters,
    last_roster,
    next_roster,
    rounds_missed,
    seats_of,
    with_changed_seat,
)
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import InMemoryLedger, numbered_key, small_run_spec
from swarm.types import Height, PeerId, RoundIndex

OWNER = numbered_key(0).peer
PATIENCE = 60


def a_run(num_stages: int = 2, replicas_max: int = 3) -> Run:
    spec = small_run_spec(num_stages=num_stages, replicas_max=replicas_max, rounds=100)
    spec = replace(spec, model=replace(spec.model, num_layers=8))
    return InMemoryLedger().open_run(spec)


def peer(number: int) -> PeerId:
    return numbered_key(number).peer


def waiting(run: Run, *numbers: int, height: int = 0) -> Run:
    queue = tuple(Waiter(peer(n), Height(height), is_volunteer=False, ask=1) for n in numbers)
    return replace(run, waiting=(*run.waiting, *queue))


def with_stake(peer: PeerId) -> Standing:
    return Standing(has_stake=True, num_good=0)


def at(run: Run, round_: int, height: int = 0, standing: Standings = with_stake) -> Run:
    return next_roster(run, RoundIndex(round_), Height(height), PATIENCE, standing)


def committed(run: Run, round_: int, *but: int) -> Run:
    """Every seat committed the round, but those of some peers."""
    for roster in run.seats:
        for seat in roster:
            if seat.peer not in {peer(number) for number in but}:
                run = with_changed_seat(run, replace(seat, last_commit_round=round_))
    return run


def who(run: Run) -> list[list[int]]:
    numbers = {peer(number): number for number in range(12)}
    return [[numbers[seat.peer] for seat in roster] for roster in run.seats]


def test_a_lone_launch_sits_in_every_stage() -> None:
    run = a_run(num_stages=3)
    assert who(run) == [[0], [0], [0]]
    assert who(at(run, 0)) == [[0], [0], [0]]
    assert who(at(run, 50)) == [[0], [0], [0]], "the owner is never evicted"


@pytest.mark.rule("L16")
def test_joiners_fill_the_thinnest_stage_and_the_lowest_on_ties() -> None:
    assert who(at(waiting(a_run(), 1, 2, 3), 1)) == [[0, 1, 3], [0, 2]]


@pytest.mark.rule("L15")
def test_five_joiners_end_in_two_stages_of_three_with_the_owner_on_one_seat() -> None:
    run = at(waiting(a_run(), 1, 2, 3, 4, 5), 1)
    assert who(run) == [[0, 1, 3], [0, 2, 4]]
    assert [w.peer for w in run.waiting] == [peer(5)]
    run = at(committed(run, 1), 3)
    assert who(run) == [[1, 3, 5], [0, 2, 4]]
    assert run.waiting == ()
    assert who(at(committed(run, 3), 5)) == [[1, 3, 5], [0, 2, 4]], "it keeps its last seat"


@pytest.mark.rule("L15")
def test_the_owner_does_not_yield_to_a_joiner_that_never_committed() -> None:
    run = at(waiting(a_run(), 1), 1)
    assert who(at(committed(run, 1, 1), 2)) == [[0, 1], [0]]
    assert who(at(committed(run, 1), 2)) == [[1], [0]]


@pytest.mark.rule("L15")
def test_the_owner_yields_the_fullest_stage_first() -> None:
    run = at(waiting(a_run(num_stages=3, replicas_max=4), 1, 2, 3, 4), 1)
    assert who(run) == [[0, 1, 4], [0, 2], [0, 3]]
    assert who(at(committed(run, 1, 2), 3)) == [[1, 4], [0, 2], [3]]


@pytest.mark.rule("L16")
def test_a_full_stage_of_the_owner_takes_its_successor_and_the_owner_keeps_one_seat() -> None:
    run = at(waiting(a_run(replicas_max=1), 1, 2), 1)
    assert who(run) == [[0, 1], [0]]
    assert [waiter.peer for waiter in run.waiting] == [peer(2)]
    run = at(run, 2)
    assert who(run) == [[0, 1], [0]], "the joiner has not proved itself"
    run = at(committed(run, 2), 3)
    assert who(run) == [[1], [0]], "who waits stays waiting: the owner's last seat is its own"
    assert at(run, 4).seats == run.seats


@pytest.mark.rule("L16")
def test_the_owner_of_three_full_stages_spares_two() -> None:
    run = at(waiting(a_run(num_stages=3, replicas_max=1), 1, 2, 3), 1)
    assert who(run) == [[0, 1], [0, 2], [0]]
    assert who(at(committed(run, 2), 3)) == [[1], [2], [0]]


@pytest.mark.rule("L16")
def test_indices_are_never_used_again() -> None:
    run = at(waiting(a_run(), 1), 1)
    run = at(replace(run, leaving=(peer(1),)), 2)
    run = at(waiting(run, 1, 2), 3)
    assert [seat.index for seat in run.seats[0]] == [0, 2]
    assert run.next_seats == (3, 2)


@pytest.mark.rule("L14")
def test_who_leaves_is_gone_at_the_boundary_from_seat_and_queue() -> None:
    run = at(waiting(a_run(replicas_max=2), 1, 2, 3), 1)
    run = at(replace(run, leaving=(peer(1), peer(3))), 2)
    assert who(run) == [[0], [0, 2]]
    assert not run.waiting
    assert not run.leaving


@pytest.mark.rule("L14")
def test_a_silent_seat_is_taken_after_six_rounds_and_a_talking_one_is_not() -> None:
    run = at(waiting(a_run(), 1, 2), 1)
    for round_ in range(2, 30):
        run = at(committed(run, round_ - 2, 1), round_)
        present = bool(seats_of(run, peer(1)))
        assert present == (round_ < 2 + SILENT_ROUNDS_MAX), round_
    assert seats_of(run, peer(2))


def test_a_round_counts_as_missed_only_when_its_commit_could_be_there() -> None:
    seat = at(waiting(a_run(), 1), 5).seats[0][1]
    assert rounds_missed(seat, RoundIndex(5)) <= 0
    assert rounds_missed(seat, RoundIndex(6)) == 0
    assert rounds_missed(seat, RoundIndex(7)) == 1


@pytest.mark.rule("L14")
def test_the_owner_gets_an_emptied_stage_back() -> None:
    run = at(waiting(a_run(), 1), 1)
    run = at(committed(run, 1), 3)
    assert who(run) == [[1], [0]]
    run = at(replace(run, leaving=(peer(1),)), 4)
    assert who(run) == [[0], [0]]
    assert run.seats[0][0].index == 2


@pytest.mark.rule("L15a")
def test_an_over_full_stage_gives_its_newest_seat_to_the_thinnest_one_a_round() -> None:
    run = at(waiting(a_run(replicas_max=6), 1, 2, 3, 4, 5, 6), 1)
    run = at(committed(run, 1), 3)
    assert sorted(map(len, run.seats)) == [3, 4]
    thin = min(range(2), key=lambda stage: len(run.seats[stage]))
    gone = [seat.peer for seat in run.seats[thin]][:2]
    moved = max(run.seats[1 - thin], key=lambda s: (s.peer != OWNER, s.joined_round, s.index))
    run = at(replace(run, leaving=tuple(p for p in gone if p != OWNER)), 4)
    sizes = sorted(map(len, run.seats))
    assert sizes[1] - sizes[0] <= 2
    (seat,) = seats_of(run, moved.peer)
    assert (seat.stage, seat.joined_round) == (thin, 4)
    assert seat.index >= max(s.index for s in run.seats[thin])
    assert sum(s.joined_round == 4 for s in run.seats[thin]) == 1


@pytest.mark.rule("L15a")
def test_seats_stay_where_they_are_while_stages_differ_by_one() -> None:
    run = at(waiting(a_run(), 1, 2), 1)
    run = at(committed(run, 1), 3)
    again = at(committed(run, 3), 5)
    assert [[s.index for s in r] for r in run.seats] == [[s.index for s in r] for r in again.seats]


@pytest.mark.rule("L15a")
def test_the_owner_is_not_moved_and_a_lone_stage_has_nowhere_to_move_to() -> None:
    run = at(waiting(a_run(num_stages=1, replicas_max=4), 1, 2), 1)
    assert who(at(run, 2)) == [[0, 1, 2]]


@pytest.mark.rule("L19a")
def test_the_last_roster_is_of_those_who_trained_to_the_end() -> None:
    run = at(waiting(a_run(), 1, 2), 1)
    run = replace(committed(run, 4, 2), end_round=RoundIndex(6), leaving=(peer(1),))
    last = last_roster(run, RoundIndex(6))
    assert who(last) == [[0], [0]]
    assert who(last_roster(run, RoundIndex(7))) == [[0], [0]], (
        "one round without a step is no absence"
    )
    there = last_roster(committed(run, 3), RoundIndex(6))
    gone = last_roster(committed(committed(run, 2), 3, 2), RoundIndex(6))
    assert peer(2) in {seat.peer for roster in there.seats for seat in roster}
    assert peer(2) not in {seat.peer for roster in gone.seats for seat in roster}
    nobody = last_roster(committed(run, 1), RoundIndex(6))
    assert peer(2) in {seat.peer for roster in nobody.seats for seat in roster}


@pytest.mark.rule("L14")
def test_who_waited_too_long_must_ask_again() -> None:
    run = waiting(a_run(num_stages=1, replicas_max=1), 1, height=10)
    assert at(run, 1, height=10 + PATIENCE).waiting
    assert not at(run, 1, height=11 + PATIENCE).waiting


@pytest.mark.rule("L19")
@pytest.mark.parametrize("round_", [0, 1, 3])
def test_no_checkpoint_is_drawn_outside_its_rounds(round_: int) -> None:
    assert draw_posters(a_run(), RoundIndex(round_), digest("beacon")) == (NEVER, NEVER)


@pytest.mark.rule("L19")
def test_the_last_boundary_draws_a_checkpoint_whatever_the_period() -> None:
    run = replace(committed(at(waiting(a_run(), 1), 0), 4), end_round=RoundIndex(5))
    assert NEVER not in draw_posters(run, RoundIndex(5), digest("beacon"))


@pytest.mark.rule("L19")
def test_the_dice_draw_only_seats_that_sat_and_committed_lately() -> None:
    run = at(waiting(a_run(), 1, 2, 3), 1)
    run = committed(committed(run, 1), 3, 1, 2)
    drawn = {draw_posters(run, RoundIndex(4), digest("beacon", bytes([i]))) for i in range(64)}
    assert drawn == {(0, 0), (2, 0)}, "peers 1 and 2 last committed round 1"
    late = replace(run, seats=(run.seats[0][:0], run.seats[1]))
    assert draw_posters(late, RoundIndex(4), digest("beacon"))[0] == NEVER


@pytest.mark.rule("L19")
def test_the_first_checkpoint_may_come_from_seats_without_a_commit_yet() -> None:
    run = replace(a_run(), spec=replace(a_run().spec, checkpoint_rounds=1))
    assert draw_posters(run, RoundIndex(1), digest("beacon")) == (0, 0)
    newcomer = at(waiting(run, 1), 1)
    assert draw_posters(newcomer, RoundIndex(1), digest("beacon")) == (0, 0), (
        "it sat through nothing"
    )


@pytest.mark.rule("L19")
def test_the_draw_depends_on_the_beacon_and_repeats_with_it() -> None:
    run = committed(at(waiting(a_run(), 1, 2, 3, 4), 1), 2)
    draws = [draw_posters(run, RoundIndex(4), digest("beacon", bytes([i]))) for i in range(40)]
    assert draws == [
        draw_posters(run, RoundIndex(4), digest("beacon", bytes([i]))) for i in range(40)
    ]
    assert {stage for stage, _ in draws} == {0, 1, 2}


def volunteers(*numbers: int, good: int = 0) -> Standings:
    """Everybody has the stake of a solver, but these peers."""
    poor = {peer(number) for number in numbers}
    return lambda who: Standing(has_stake=who not in poor, num_good=good)


@pytest.mark.rule("L57")
def test_volunteers_hold_at_most_a_quarter_of_the_seats_of_a_stage() -> None:
    standing = volunteers(*range(1, 8))
    run = at(waiting(a_run(replicas_max=8), *range(1, 8)), 1, standing=standing)
    assert who(run) == [[0, 1, 3], [0, 2, 4]]
    assert [waiter.peer for waiter in run.waiting] == [peer(5), peer(6), peer(7)]
    small = at(waiting(a_run(replicas_max=2), 1, 2, 3), 1, standing=standing)
    assert who(small) == [[0, 1], [0, 2]], "one in every stage at least"


@pytest.mark.rule("L57")
def test_a_hundred_free_keys_do_not_keep_out_who_has_a_stake() -> None:
    """They came first, and fill the queue of volunteers."""
    run = a_run(num_stages=1, replicas_max=8)
    keys = [numbered_key(number).peer for number in range(100, 164)]
    queue = tuple(Waiter(key, Height(0), is_volunteer=True, ask=1) for key in keys)
    honest = Waiter(peer(1), Height(5), is_volunteer=False, ask=1)
    poor = set(keys)
    run = at(
        replace(run, waiting=(*queue, honest)),
        1,
        standing=lambda who: Standing(has_stake=who not in poor, num_good=0),
    )
    assert [seat.peer for seat in run.seats[0]][1] == peer(1), "at the first boundary"
    assert sum(seat.is_volunteer for seat in run.seats[0]) == 2


@pytest.mark.rule("L57")
def test_a_volunteer_is_on_trial_until_enough_of_its_work_has_stood() -> None:
    run = waiting(a_run(), 1)
    for good, is_on_trial in ((0, True), (7, True), (8, False)):
        run = at(run, 1, standing=volunteers(1, good=good))
        (seat,) = seats_of(run, peer(1))
        assert (seat.is_volunteer, seat.is_on_trial) == (True, is_on_trial)
    run = at(run, 2)
    (seat,) = seats_of(run, peer(1))
    assert not seat.is_volunteer, "it has put up its stake"


@pytest.mark.rule("L15", "L57")
def test_the_owner_yields_to_two_volunteers_and_to_none_on_trial() -> None:
    """One that is alone in a stage could go, and lose nothing, and the run would stand still for six rounds."""
    run = at(waiting(a_run(replicas_max=8), 1, 2, 3), 1, standing=volunteers(1, 2, 3))
    assert who(run) == [[0, 1, 3], [0, 2]]
    run = committed(run, 1)
    assert who(at(run, 3, standing=volunteers(1, 2, 3, good=7))) == [[0, 1, 3], [0, 2]]
    assert who(at(run, 3, standing=volunteers(1, 2, 3, good=8))) == [[1, 3], [0, 2]]
    alone = committed(at(waiting(a_run(), 1), 1, standing=volunteers(1)), 1)
    assert who(at(alone, 3, standing=volunteers(1, good=8))) == [[0, 1], [0]]
    assert who(at(alone, 3, standing=with_stake)) == [[1], [0]]


@pytest.mark.rule("L15")
def test_in_an_exact_run_the_owner_yields_to_verified_work_only() -> None:
    run = a_run()
    run = replace(run, spec=replace(run.spec, numerics="seq-f32/1"))
    run = committed(at(waiting(run, 1), 1), 1)
    assert who(at(run, 3)) == [[0, 1], [0]], "a commit is a claim"
    checked = with_changed_seat(run, replace(run.seats[0][1], last_verified_round=1))
    assert who(at(checked, 3)) == [[1], [0]]


@pytest.mark.rule("L57")
def test_who_lost_its_stake_sits_as_a_volunteer_and_goes_where_there_are_too_many() -> None:
    run = at(waiting(a_run(num_stages=1, replicas_max=8), 1, 2, 3), 1)
    assert who(at(run, 2, standing=volunteers(2, 3))) == [[0, 1, 2, 3]]
    assert who(at(run, 2, standing=volunteers(1, 2, 3))) == [[0, 1, 2]], "the newest goes"
    assert who(at(run, 2, standing=volunteers(0, 1, 2))) == [[0, 1, 2, 3]], "the owner is none"


@pytest.mark.rule("L57")
def test_a_volunteer_is_not_moved_where_others_are() -> None:
    run = at(waiting(a_run(replicas_max=4), 1, 2, 3, 4), 1)
    run = replace(run, seats=(run.seats[0], run.seats[1][-1:]))
    standing = volunteers(3, 4)
    assert who(run) == [[0, 1, 3], [4]]
    assert who(at(committed(run, 1), 2, standing=standing))[1] == [4]


@pytest.mark.rule("L19a", "L57")
def test_seats_on_trial_stay_out_of_the_final_averaging() -> None:
    run = at(waiting(a_run(), 1, 2, 3), 1, standing=volunteers(1))
    run = replace(committed(run, 4), end_round=RoundIndex(6))
    assert who(run) == [[0, 2, 1], [0, 3]], "who has a stake comes first"
    assert who(last_roster(run, RoundIndex(6))) == [[0, 2], [0, 3]]


@pytest.mark.rule("L19")
def test_checkpoints_come_from_seats_whose_work_was_verified_lately_if_there_are_any() -> None:
    run = committed(at(waiting(a_run(), 1, 2, 3, 4), 1, standing=with_stake), 10)
    boundary = RoundIndex(12)

    def drawn(run: Run) -> set[int]:
        beacons = [digest("beacon", bytes([i])) for i in range(40)]
        return {draw_posters(run, boundary, beacon)[0] for beacon in beacons}

    assert who(run)[0] == [0, 1, 3]
    late = with_changed_seat(run, replace(run.seats[0][2], is_on_trial=True))
    assert drawn(late) == {0, 1}, "nobody is verified, so anybody but who is on trial"
    honest_once = replace(run.seats[0][2], is_on_trial=True, last_verified_round=RoundIndex(11))
    assert drawn(with_changed_seat(run, honest_once)) == {0, 1}, "one good segment ends no trial"
    for verified, wanted in ((6, {1}), (5, {0, 1, 2})):
        proven = with_changed_seat(run, replace(run.seats[0][1], last_verified_round=verified))
        assert drawn(proven) == wanted
