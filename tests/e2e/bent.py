"""A peer that takes no optimizer step, and states programs in which none is: all that it says fits together."""

from typing import TYPE_CHECKING

from swarm.cli.demo.cheating_peer import become_byzantine
from swarm.cli.main import main
from swarm.verify.program.computed import Step

if TYPE_CHECKING:
    from torch import Tensor

MOVED = ("params", "m", "v")


def unmoved(self: Step, part: int, number: int, value: "Tensor") -> "Tensor":
    """What stands in the place of a computed value: of an update, what went in for what comes out."""
    outputs = self.program(part).outputs
    if part == self.update:
        for name in MOVED:
            if number == outputs[name]:
                return self._given_update()[name]
    return value


if __name__ == "__main__":
    become_byzantine()
    Step.watched = unmoved  # type: ignore[method-assign]
    main()
