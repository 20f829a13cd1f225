"""Compute the roots of a run's seeded initial weights once: for a billion weights that takes minutes.

Shell: computes in a worker, remembers in the store.
"""

from collections.abc import Callable

from swarm.config.spec import RunSpec
from swarm.executor import ExecutorPort
from swarm.primitives.codec import encode
from swarm.primitives.commitments import hash_of
from swarm.primitives.crypto import fast_digest
from swarm.store import Store
from swarm.training.model.stages import StagePlan, init_flat, plan_stages
from swarm.types import Digest

TABLE = "drawn"
"""Table of weight roots, by model, number of stages, stage and seed."""
TOLD_PARAMETERS = 20_000_000
"""Parameters of a stage from which the work is reported, because it takes a second."""

Say = Callable[[str], None]


async def drawn_root(
    spec: RunSpec, stage: int, store: Store, compute: ExecutorPort, say: Say
) -> Digest:
    """Return the root of the seeded initial weights of ``stage``.

    It is needed at every start, and follows from the model, the cut and the seed: a home computes it once.
    """
    plan = plan_stages(spec.model, spec.num_stages)[stage]
    key = fast_digest("drawn-weights", encode((spec.model, spec.num_stages, stage, spec.seed)))
    held = store.get(TABLE, key)
    if held is not None:
        return Digest(held)
    if plan.num_parameters >= TOLD_PARAMETERS:
        say(
            f"drawing the initial weights of stage {stage} of {spec.num_stages}:"
            f" {plan.num_parameters / 1e6:,.0f}M parameters"
        )
    root = await compute.run(_root, plan, spec.seed)
    await store.write_soon([(TABLE, key, root)])
    return root


def _root(plan: StagePlan, seed: int) -> Digest:
    return hash_of(init_flat(plan, seed))
