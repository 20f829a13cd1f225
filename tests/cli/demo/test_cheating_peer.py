"""The liar does every second step only, and counts all of them."""

from typing import Any, cast

from swarm.cli.demo.cheating_peer import lazy


class Steps:
    def __init__(self) -> None:
        self.step = 0
        self.done = list[int]()

    def honest(self, *_: Any) -> float:  # noqa: ANN401
        self.done.append(self.step)
        self.step += 1
        return 1.0


def test_every_second_step_is_skipped_and_counted() -> None:
    """Nobody sees it from the number of steps."""
    steps = Steps()
    liar = cast("Any", lazy(cast("Any", steps.honest)))
    for _ in range(6):
        liar(None, None, None, steps, 0.1, None, ())
    assert steps.step == 6
    assert steps.done == [0, 2, 4]
