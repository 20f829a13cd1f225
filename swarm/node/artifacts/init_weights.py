"""Name the weights that a run draws for its stages, once: drawing and hashing a billion of them takes minutes.

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
"""Per model, cut, stage and seed: the name of the weights."""
TOLD_PARAMETERS = 20_000_000
"""A stage of so many takes a second: worth a word."""

Say = Callable[[str], None]


async def drawn_root(
    spec: RunSpec, stage: int, store: Store, compute: ExecutorPort, say: Say
) -> Digest:
    """The root of the weights that ``stage`` starts from in a run that draws them.

    It is asked for at every start, and follows from the model, the cut and the seed: computed once in a home.
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
