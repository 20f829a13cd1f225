"""Describe the state that each stage of a run begins with, as the spec has it.

Core: pure functions.
"""

from collections.abc import Sequence

from swarm.config.spec import RunSpec, StageStart
from swarm.training.averaging.payload import residual_numel
from swarm.training.model.optimizer import num_second_moments
from swarm.training.model.stages import plans_of
from swarm.types import Digest


def starts_of(spec: RunSpec, weights: Sequence[Digest]) -> tuple[StageStart, ...]:
    """Return the start of every stage, whose initial weights have these hashes."""
    return tuple(
        StageStart(
            weights=root,
            num_parameters=plan.num_parameters,
            num_seconds=num_second_moments(spec.optimizer, plan),
            num_residuals=residual_numel(spec, plan.num_parameters),
        )
        for plan, root in zip(plans_of(spec), weights, strict=True)
    )
