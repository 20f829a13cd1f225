"""The rate of a node is measured as well for steps of minutes as for steps of milliseconds."""

from swarm.node.context import SPAN_S, TokenRate


def looks(rate: TokenRate, tokens: list[int], each_s: float = 5.0, start: float = 0.0) -> list[int]:
    return [rate.measured(count, start + each_s * (i + 1)) for i, count in enumerate(tokens)]


def test_quick_steps_are_counted_between_two_measurements() -> None:
    assert looks(TokenRate(0.0), [5_000, 10_000, 20_000]) == [1_000, 1_000, 2_000]


def test_a_step_of_a_minute_has_one_rate_until_the_next() -> None:
    """65,536 tokens a minute, looked at every five seconds: never none, never a minute's in five seconds."""
    minute = [0] * 11 + [65_536] + [65_536] * 11 + [131_072] + [131_072] * 11
    seen = looks(TokenRate(0.0), minute)
    assert seen[:11] == [0] * 11
    assert set(seen[11:]) == {1_092}


def test_a_silence_longer_than_a_step_lets_the_rate_fall() -> None:
    seen = looks(TokenRate(0.0), [5_000, 10_000, *[10_000] * 6])
    assert seen[:4] == [1_000, 1_000, 1_000, 500]
    assert seen[4:] == [333, 250, 0, 0], "and is none at last"
    assert sorted(seen, reverse=True) == seen


def test_after_a_silence_the_rate_is_what_came_since() -> None:
    rate = TokenRate(0.0)
    looks(rate, [5_000, 5_000, 5_000, 5_000])
    assert rate.measured(10_000, 25.0) == 5_000 // 20


def test_what_a_shard_brings_with_it_is_no_pace_and_what_it_takes_along_none_either() -> None:
    rate = TokenRate(0.0)
    assert rate.measured(1_000_000, 5.0, seats=("a",)) == 0, "its tokens of an earlier start"
    assert rate.measured(1_005_000, 10.0, seats=("a",)) == 1_000
    assert rate.measured(5_000, 15.0, seats=("b",)) == 0
    assert rate.measured(7_000, 20.0, seats=("b",)) == 400


def test_measurements_closer_than_the_span_give_no_noise() -> None:
    rate = TokenRate(0.0)
    seen = looks(rate, [100 * i for i in range(1, 200)], each_s=0.1)
    assert max(seen) <= 1_000
    assert min(seen[int(SPAN_S * 10) + 1 :]) >= 980
