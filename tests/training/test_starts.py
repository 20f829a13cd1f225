"""A seat that begins anew has the state whose root the ledger computes, in every kind of run."""

import pytest
import torch

from swarm.config.spec import RunSpec
from swarm.ledger.transition.starts import made_parts
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.training.averaging.adoption import OfferedState, adopt
from swarm.training.model.optimizer import OptimizerState, num_second_moments
from swarm.training.model.stages import init_flat, plans_of
from swarm.training.record.restore import adopted_shard
from swarm.training.shard import Shard
from swarm.types import StageIndex
from tests.training.pipeline import with_seeded_starts
from tests.training.test_shard import MUON_SPEC, SPEC

FEEDBACK = replace(SPEC, outer=replace(SPEC.outer, codec="int4"))
TRADES = replace(SPEC, outer=replace(SPEC.outer, trades_per_round=2))
SPECS = {"AdamW": SPEC, "Muon": MUON_SPEC, "a residual": FEEDBACK, "several trades": TRADES}


@pytest.mark.rule("T4a", "L100")
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_seat_that_begins_from_weights_has_the_state_that_the_ledger_makes(spec: RunSpec) -> None:
    spec = with_seeded_starts(spec)
    for stage, plan in enumerate(plans_of(spec)):
        start, fragments = spec.starts[stage], spec.outer.fragments
        seeded_P = init_flat(plan, spec.seed)
        assert start.weights == hash_of(seeded_P)
        for weights_P in (seeded_P, torch.rand(plan.num_parameters)):
            shard = Shard(spec, StageIndex(stage), weights_P)
            assert shard.components() == made_parts(start, fragments, hash_of(weights_P), (), b"")


@pytest.mark.rule("T4a", "L100")
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_seat_that_goes_on_from_an_end_has_the_state_that_the_ledger_makes(spec: RunSpec) -> None:
    spec, stage = with_seeded_starts(spec), StageIndex(0)
    plan, start = plans_of(spec)[stage], spec.starts[stage]
    phi_P, v_A = (
        torch.rand(plan.num_parameters),
        torch.rand(num_second_moments(spec.optimizer, plan)),
    )
    held = Shard(spec, stage, phi_P)
    held.optimizer = OptimizerState(torch.rand(plan.num_parameters), v_A, 7)
    parts = held.components()
    adopted = adopt(OfferedState(phi_P, v_A, 7, parts), phi_P.numel(), v_A.numel())
    anchor_P = init_flat(plan, spec.seed)
    shard = adopted_shard(spec, stage, adopted, (anchor_P, start.weights), lambda: 0.0)
    made = made_parts(start, spec.outer.fragments, b"", parts, start.weights)
    assert shard.components() == made
