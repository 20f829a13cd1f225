"""Run the cheating peer of the demo: it takes no optimizer step, and commits as if it had taken each.

Shell: replaces one function of its own process, then runs the ordinary program. Start it as ``python -m
swarm.cli.demo.cheating_peer join ...``; the product has no switch for this. Every segment with a step is false,
so the demo can count them as false.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from swarm.cli.main import main

if TYPE_CHECKING:
    from torch import Tensor

    from swarm.config.spec import OptimizerSpec
    from swarm.training.model.optimizer import OptimizerState
    from swarm.training.model.profiles import Ops
    from swarm.training.model.stages import Matrix, Span


def count_only(
    _ops: "Ops",
    _params_P: "Tensor",
    _grad_P: "Tensor",
    state: "OptimizerState",
    _rate: float,
    _spec: "OptimizerSpec",
    _decayed: "Sequence[Span]",
    _matrices: "Sequence[Matrix]",
) -> float:
    """Count a step in ``state`` and leave parameters and moments as they are; return 0."""
    state.step += 1
    return 0.0


def become_byzantine() -> None:
    """Make this process take no step from now on, in training and in its replays of others' work."""
    from swarm.training import shard
    from swarm.training.model.optimizer import optimizer_step

    used = shard.__dict__
    assert used["optimizer_step"] is optimizer_step, (
        "the cheating function replaces the step that is taken"
    )
    used["optimizer_step"] = count_only


if __name__ == "__main__":
    become_byzantine()
    main()
