"""A peer that cheats: the ordinary program, in a process whose optimizer skips every second step.

What it replays of others is as false as what it trains: it accuses the honest, and they must not suffer.
"""

from collections.abc import Sequence

from torch import Tensor

from swarm.cli.main import main
from swarm.config.spec import OptimizerSpec
from swarm.training import shard
from swarm.training.model.optimizer import AdamState, adamw_step
from swarm.training.model.profiles import Ops
from swarm.training.model.stages import Span


def lazy_step(
    ops: Ops,
    params_P: Tensor,
    grad_P: Tensor,
    state: AdamState,
    rate: float,
    spec: OptimizerSpec,
    decayed: Sequence[Span],
) -> float:
    """Every second step only counts itself."""
    if state.step % 2:
        state.step += 1
        return 0.0
    return adamw_step(ops, params_P, grad_P, state, rate, spec, decayed)


if __name__ == "__main__":
    vars(shard)["adamw_step"] = lazy_step
    main()
