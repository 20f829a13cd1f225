"""Replicas that compute at once get what each of them computes by itself."""

import pytest
import torch

from benchmarks.stacked import stacked_gradients
from benchmarks.variants import BATCH, SEQ_LEN, Variant, spec_of
from swarm.training.model.optimizer import OptimizerState, muon_matrices, optimizer_step
from swarm.training.model.profiles import NATIVE
from swarm.training.model.stages import Stage, init_flat, plan_stages, run_loss

REPLICAS = 3


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_stacked_steps_are_those_of_each_replica(optimizer: str) -> None:
    spec = spec_of(Variant("one", optimizer="muon" if optimizer == "muon" else "adamw"), 1, 20)
    (plan,) = plan_stages(spec.model, 1)
    matrices = muon_matrices(spec.optimizer, plan)
    rng = torch.Generator().manual_seed(5)
    ids_RBT = torch.randint(0, 256, (REPLICAS, BATCH, SEQ_LEN), generator=rng)
    labels_RBT = torch.randint(0, 256, (REPLICAS, BATCH, SEQ_LEN), generator=rng)
    ours = [init_flat(plan, seed) for seed in range(REPLICAS)]
    theirs = [params_P.clone() for params_P in ours]
    our_states = [OptimizerState.zeros(plan.num_parameters, matrices) for _ in ours]
    their_states = [OptimizerState.zeros(plan.num_parameters, matrices) for _ in ours]
    stage, decayed = Stage(plan, NATIVE), plan.decayed
    for _ in range(2):
        losses_R, grad_RP = stacked_gradients(plan, torch.stack(ours), ids_RBT, labels_RBT)
        for r in range(REPLICAS):
            loss, _, grad_P = run_loss(stage, theirs[r], ids_RBT[r], labels_RBT[r])
            assert float(losses_R[r]) == pytest.approx(loss, rel=1e-5)
            assert torch.allclose(grad_RP[r], grad_P, rtol=1e-3, atol=1e-6)
            for params_P, found_P, state in (
                (ours[r], grad_RP[r], our_states[r]),
                (theirs[r], grad_P, their_states[r]),
            ):
                rule = (0.01, spec.optimizer, decayed, matrices)
                optimizer_step(NATIVE, params_P, found_P, state, *rule)
    for r, params_P in enumerate(theirs):
        # AdamW divides by the size of a gradient: where that is rounding, a value may go either way.
        apart_P = (ours[r] - params_P).abs()
        assert float(apart_P.mean()) < 1e-5
        assert torch.allclose(our_states[r].v_A, their_states[r].v_A, rtol=1e-2, atol=1e-9)
        assert our_states[r].step == their_states[r].step == 2
