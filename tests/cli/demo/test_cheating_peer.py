"""The cheating peer counts every step and takes none."""

import torch

from swarm.cli.demo.cheating_peer import count_only
from swarm.config.spec import NANO, OptimizerSpec
from swarm.training.model.optimizer import OptimizerState
from swarm.training.model.profiles import table

OPTIMIZER = OptimizerSpec(
    beta1_nano=900_000_000,
    beta2_nano=950_000_000,
    eps_nano=10,
    weight_decay_nano=0,
    clip_norm_nano=NANO,
    learning_rates_nano=(2_000_000,),
    learning_rate_stride=1,
)


def test_a_step_is_counted_and_not_taken() -> None:
    """The number of steps does not show it; every segment that holds a step is false."""
    params = torch.ones(4)
    state = OptimizerState.zeros(4)
    for _ in range(3):
        count_only(table("native"), params, torch.ones(4), state, 0.1, OPTIMIZER, (), ())
    assert state.step == 3
    assert torch.equal(params, torch.ones(4))
    assert not state.m_P.any()
