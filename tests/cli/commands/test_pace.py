"""How fast a text is written is what the clock says, token by token."""

from swarm.cli.commands.models import Throughput


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_counts_the_wait_for_the_first_token() -> None:
    clock = Clock()
    pace = Throughput(clock)
    passed = []
    for number, token in enumerate(pace.timed([7, 8, 9])):
        passed.append(token)
        clock.now += (
            50.0 if number == 2 else 0.5
        )  # the reader's time after the last is not the writer's
    assert passed == [7, 8, 9]
    assert pace.row() == {"tokens": 3, "seconds": 1.0, "first_token_s": 0.0, "tokens_per_s": 3.0}


def test_a_slow_first_token_is_told_apart() -> None:
    clock = Clock()
    pace = Throughput(clock)

    def slowly() -> list[int]:
        clock.now += 2.0
        return [1]

    assert list(pace.timed(token for _ in range(2) for token in slowly())) == [1, 1]
    assert pace.row() == {"tokens": 2, "seconds": 4.0, "first_token_s": 2.0, "tokens_per_s": 0.5}
    assert pace.text("on this machine") == (
        "2 tokens in 4.0 s, 0.5 tok/s on this machine (first after 2.00 s)"
    )


def test_no_token_has_no_rate() -> None:
    pace = Throughput(Clock())
    assert list(pace.timed([])) == []
    assert pace.row() == {"tokens": 0, "seconds": 0.0, "first_token_s": None, "tokens_per_s": None}
    assert pace.text("here") == "0 tokens here"
