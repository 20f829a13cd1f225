"""What strangers cost a node is a part of a core for each place that they come from, however many keys ask."""

from itertools import pairwise

import pytest

from swarm.host.paces import (
    ALL_SHARE,
    BURST_S,
    DOOR_SHARE,
    ORIGIN_SHARE,
    ORIGINS_MAX,
    WAIT_MAX_S,
    WAITING_MAX,
    Paces,
    Turn,
    Work,
)


def work_for(paces: Paces, origins: int, cost_s: float, until_s: float) -> float:
    """Seconds of work done for origins that ask again at once, with as many questions as are taken."""
    now, done, asked = 0.0, 0.0, list[tuple[float, str, Turn]]()
    names = [f"origin {number}" for number in range(origins)]
    while now < until_s:
        for name in names:
            while (turn := paces.begin(name, Work.QUESTION, now)) is not None:
                asked.append((now + turn.wait_s, name, turn))
        asked.sort(key=lambda one: one[0])
        if not asked:
            now += 0.01
            continue
        start, name, turn = asked.pop(0)
        now = max(now, start)
        paces.start(name, turn, now)
        paces.spend(name, cost_s, now)
        paces.end(name, Work.QUESTION, cost_s, now)
        done += cost_s
    return done


@pytest.mark.rule("H40")
@pytest.mark.parametrize("cost_s", [0.0005, 0.03, 0.4])
def test_attack_questions_without_end_cost_a_part_of_a_core(cost_s: float) -> None:
    most = 200.0 / ORIGIN_SHARE + BURST_S + 2 * WAITING_MAX * cost_s
    assert work_for(Paces(), 1, cost_s, 200.0) <= most


@pytest.mark.rule("H40")
def test_attack_a_crowd_of_many_networks_costs_a_third_of_a_core() -> None:
    origins, cost_s = 40, 0.01
    begun, later = (work_for(Paces(), origins, cost_s, until_s) for until_s in (200.0, 600.0))
    assert begun <= 200.0 / ALL_SHARE + 2 * origins * BURST_S + 10.0
    assert later - begun <= 1.1 * 400.0 / ALL_SHARE


@pytest.mark.rule("H40")
def test_attack_coming_from_a_new_network_each_time_gains_little() -> None:
    paces, now, done, cost_s = Paces(), 0.0, 0.0, 0.005
    for number in range(20_000):  # a hundred new networks a second, each as long as it may
        now += 0.01
        origin = f"network {number}"
        while not paces.wait_s(origin, now):
            paces.spend(origin, cost_s, now)
            done += cost_s
    assert done <= now / ALL_SHARE + 5.0


@pytest.mark.rule("H40")
def test_another_origin_does_not_wait_for_one_that_asks_much() -> None:
    paces = Paces()
    paces.spend("crowd", 2 * BURST_S, 0.0)
    assert paces.wait_s("crowd", 0.0) > 1.0
    assert paces.wait_s("other", 0.0) == 0.0
    turn = paces.begin("other", Work.QUESTION, 0.0)
    assert turn is not None
    assert turn.wait_s == 0.0


@pytest.mark.rule("H40")
def test_a_newcomer_beside_a_crowd_of_many_networks_has_its_burst() -> None:
    paces, origins = Paces(), 40
    names = [f"network {number}" for number in range(origins)]
    for tick in range(20_000):
        now = tick / 100
        for name in names:
            if not paces.wait_s(name, now):
                paces.spend(name, 0.005, now)
    spent_s, began = 0.0, now
    while spent_s < BURST_S / 2:
        now += max(paces.wait_s("newcomer", now), 0.005)
        paces.spend("newcomer", 0.005, now)
        spent_s += 0.005
    assert now - began < 1.0


@pytest.mark.rule("H40")
def test_more_than_so_many_do_not_wait_and_who_gives_up_makes_room() -> None:
    paces = Paces()
    turns = [paces.begin("here", Work.QUESTION, 5.0) for _ in range(WAITING_MAX)]
    waits = [turn.wait_s for turn in turns if turn is not None]
    assert len(waits) == WAITING_MAX
    assert waits[0] == 0.0
    assert waits == sorted(waits)
    assert paces.begin("here", Work.QUESTION, 5.0) is None
    assert turns[-1] is not None
    paces.start("here", turns[-1], 5.0)
    assert paces.begin("here", Work.QUESTION, 5.0) is not None


def test_nobody_waits_for_longer_than_a_question_may() -> None:
    paces = Paces()
    paces.spend("here", WAIT_MAX_S, 0.0)
    assert paces.begin("here", Work.QUESTION, 0.0) is None
    assert paces.wait_s("here", 0.0) > WAIT_MAX_S


def test_questions_that_come_at_once_have_their_turns_one_after_the_other() -> None:
    paces, cost_s = Paces(), 0.01
    for _ in range(50):
        paces.end("here", Work.QUESTION, cost_s, 0.0)
    paces.spend("here", BURST_S, 0.0)
    turns = [paces.begin("here", Work.QUESTION, 0.0) for _ in range(5)]
    starts = [turn.wait_s for turn in turns if turn is not None]
    gaps = [after - before for before, after in pairwise(starts)]
    assert gaps == pytest.approx([ORIGIN_SHARE * cost_s] * 4, rel=0.01)


def test_what_a_question_was_expected_to_cost_is_not_owed_twice() -> None:
    paces = Paces()
    turn = paces.begin("here", Work.QUESTION, 0.0)
    assert turn is not None
    paces.start("here", turn, 0.0)
    paces.spend("here", BURST_S, 0.0)
    assert paces.wait_s("here", 0.0) == pytest.approx(0.0)


def test_the_table_of_origins_stays_small() -> None:
    paces = Paces()
    assert paces.begin("waits", Work.QUESTION, 0.0) is not None
    for number in range(3 * ORIGINS_MAX):
        paces.spend(str(number), 1.0, 0.0)
    assert len(paces._origins) <= ORIGINS_MAX + 1
    assert "waits" in paces._origins


@pytest.mark.rule("H40")
def test_who_owes_much_leaves_most_of_the_time_to_others_and_who_owes_little_waits_not() -> None:
    paces, cost_s = Paces(), 0.01
    for _ in range(50):
        paces.end("crowd", Work.HANDSHAKE, cost_s, 0.0)
    paces.spend("crowd", BURST_S / 2, 0.0)
    gaps = list[float]()
    for _ in range(4):
        turn = paces.begin("crowd", Work.HANDSHAKE, 0.0)
        assert turn is not None
        gaps.append(paces.start("crowd", turn, 0.0))
    assert gaps == pytest.approx([number * DOOR_SHARE * cost_s for number in range(4)], rel=0.01)
    assert not paces.is_free("crowd", 0.0)
    assert paces.is_free("other", 0.0)
