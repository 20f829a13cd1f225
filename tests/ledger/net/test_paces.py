"""Questions of strangers cost a node a part of one core for each origin, however many keys ask."""

import pytest

from swarm.ledger.net.paces import ORIGINS_MAX, SHARE, WAITING_MAX, Paces


def work_for(paces: Paces, origins: int, cost_s: float, until_s: float) -> float:
    """Seconds of work done for origins that ask again at once, with as many questions as are taken."""
    now, done, asked = 0.0, 0.0, list[tuple[float, str]]()
    names = [f"origin {number}" for number in range(origins)]
    while now < until_s:
        for name in names:
            while (wait_s := paces.begin(name, now)) is not None:
                asked.append((now + wait_s, name))
        asked.sort()
        start, name = asked.pop(0)
        now = max(now, start)
        paces.end(name, cost_s)
        done += cost_s
    return done


@pytest.mark.rule("L120")
@pytest.mark.parametrize("cost_s", [0.0005, 0.03, 0.4])
def test_attack_questions_without_end_cost_a_quarter_of_a_core(cost_s: float) -> None:
    assert work_for(Paces(), 1, cost_s, 200.0) <= 200.0 / SHARE + 2 * WAITING_MAX * cost_s


@pytest.mark.rule("L120")
def test_another_origin_does_not_wait_for_the_one_that_asks_much() -> None:
    paces = Paces()
    while paces.begin("crowd", 0.0) is not None:
        pass
    assert paces.begin("other", 0.0) == 0.0


@pytest.mark.rule("L120")
def test_more_than_so_many_do_not_wait_and_who_gives_up_makes_room() -> None:
    paces = Paces()
    waits = [paces.begin("here", 5.0) for _ in range(WAITING_MAX)]
    assert waits[0] == 0.0
    assert waits == sorted(wait for wait in waits if wait is not None)
    assert paces.begin("here", 5.0) is None
    paces.end("here", None)
    assert paces.begin("here", 5.0) is not None


def test_a_dear_answer_delays_the_next_and_a_cheap_one_does_not() -> None:
    paces = Paces()
    assert paces.begin("here", 0.0) == 0.0
    paces.end("here", 1.0)
    assert paces.begin("here", 1.0) == pytest.approx(SHARE - 1.0, abs=0.01)
    paces.end("here", 0.0)
    assert paces.begin("there", 0.0) == 0.0
    paces.end("there", 0.0001)
    assert paces.begin("there", 0.002) == 0.0


def test_the_table_of_origins_stays_small() -> None:
    paces = Paces()
    assert paces.begin("waits", 0.0) == 0.0
    for number in range(3 * ORIGINS_MAX):
        paces.begin(str(number), float(number))
        paces.end(str(number), 0.001)
    assert len(paces._origins) <= ORIGINS_MAX + 1
    paces.end("waits", 0.001)
