"""Run the cheating peer of the demo: it skips every second optimizer step, and commits as if it had taken it.

Shell: replaces one function of its own process, then runs the ordinary program. Start it as ``python -m
swarm.cli.demo.cheating_peer join ...``; the product has no switch for this.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from swarm.cli.main import main

if TYPE_CHECKING:
    from torch import Tensor

    from swarm.config.spec import OptimizerSpec
    from swarm.training.model.optimizer import AdamState
    from swarm.training.model.profiles import Ops
    from swarm.training.model.stages import Span

    Step = Callable[[Ops, Tensor, Tensor, AdamState, float, OptimizerSpec, Sequence[Span]], float]


def lazy(honest_step: "Step") -> "Step":
    """Return a step function that only counts every second step: half of the work, all of the pay."""

    def step(
        ops: "Ops",
        params_P: "Tensor",
        grad_P: "Tensor",
        state: "AdamState",
        rate: float,
        spec: "OptimizerSpec",
        decayed: "Sequence[Span]",
    ) -> float:
        if state.step % 2:
            state.step += 1
            return 0.0
        return honest_step(ops, params_P, grad_P, state, rate, spec, decayed)

    return step


def become_byzantine() -> None:
    """Make this process skip every second step from now on, in training and in its replays of others' work."""
    from swarm.training import shard
    from swarm.training.model.optimizer import adamw_step

    used = shard.__dict__
    assert used["adamw_step"] is adamw_step, "the liar replaces the step that is taken"
    used["adamw_step"] = lazy(adamw_step)


if __name__ == "__main__":
    become_byzantine()
    main()
