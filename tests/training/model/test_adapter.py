"""An adapter corrects the projections that it names, is trained alone, and can be merged into the weights."""

import pytest
import torch
from torch import Tensor

from swarm.config.spec import ADAPTER_TARGETS, NANO, AdapterSpec, ModelSpec
from swarm.errors import UsageError
from swarm.primitives.commitments import hash_of
from swarm.training.inference.sampling import KeyValueCache, advance
from swarm.training.model.optimizer import OptimizerState, optimizer_step
from swarm.training.model.profiles import table
from swarm.training.model.stages import (
    Stage,
    StagePlan,
    adapter_plan,
    init_flat,
    merged,
    plan_stages,
    plans_of,
    run_backward,
    run_forward,
    run_loss,
)
from tests.training.test_shard import SPEC

EXACT = "seq-f32/1"
MODEL = ModelSpec(
    vocab_size=256,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=48,
    seq_len=24,
    rope_theta=10_000,
    norm_eps_nano=10_000,
)
TARGETS = (ADAPTER_TARGETS, ("q", "v"), ("k", "gate"), ("up",), ("o", "down"))
TOKENS = torch.arange(48).view(2, 24) * 7 % 256
LABELS = TOKENS.roll(-1, 1)


def an_adapter(targets: tuple[str, ...] = ADAPTER_TARGETS, rank: int = 4) -> AdapterSpec:
    return AdapterSpec(rank=rank, lora_alpha_nano=8 * NANO, targets=targets)


def plans(targets: tuple[str, ...] = ADAPTER_TARGETS) -> tuple[StagePlan, StagePlan]:
    """The plan of all weights, and that of an adapter on them."""
    (base,) = plan_stages(MODEL, 1)
    return base, adapter_plan(base, an_adapter(targets))


def moved(params_P: Tensor) -> Tensor:
    """An adapter after some training."""
    return params_P + torch.linspace(-0.05, 0.05, params_P.numel()).flip(0)


@pytest.mark.rule("T40")
@pytest.mark.parametrize("numerics", [EXACT, "native", "native-bf16"])
@pytest.mark.parametrize("targets", TARGETS, ids="-".join)
def test_a_fresh_adapter_changes_no_bit(numerics: str, targets: tuple[str, ...]) -> None:
    (base, plan), ops = plans(targets), table(numerics)
    base_W, params_P = init_flat(base, 1), init_flat(plan, 1)
    fresh = Stage(plan, ops, base_W).forward(params_P, TOKENS)
    assert torch.equal(fresh, Stage(base, ops).forward(base_W, TOKENS))
    assert not torch.equal(fresh, Stage(plan, ops, base_W).forward(moved(params_P), TOKENS))


def test_a_starts_uniform_below_one_over_the_root_of_its_inputs_and_b_at_zero() -> None:
    _, plan = plans()
    named = plan.named(init_flat(plan, 1))
    assert len(named) == 2 * len(ADAPTER_TARGETS) * MODEL.num_layers
    for name, tensor in named.items():
        if name.endswith("lora_B.weight"):
            assert not tensor.any()
            continue
        bound = tensor.shape[1] ** -0.5
        assert tensor.shape[0] == 4
        assert 0.8 * bound < float(tensor.abs().max()) < bound


@pytest.mark.rule("T40")
@pytest.mark.parametrize("numerics", [EXACT, "native"])
@pytest.mark.parametrize("targets", TARGETS, ids="-".join)
def test_merged_weights_give_the_same_logits(numerics: str, targets: tuple[str, ...]) -> None:
    """To 1e-5 of logits around 2: the sums are the same, rounded in another order."""
    (base, plan), ops = plans(targets), table(numerics)
    base_W, params_P = init_flat(base, 1), moved(init_flat(plan, 1))
    before = base_W.clone()
    beside = Stage(plan, ops, base_W).forward(params_P, TOKENS)
    inside = Stage(base, ops).forward(merged(plan, params_P, base_W), TOKENS)
    assert torch.allclose(beside, inside, rtol=0.0, atol=1e-5)
    assert torch.equal(base_W, before)
    assert merged(base, base_W, None) is base_W


@pytest.mark.rule("T40")
@pytest.mark.parametrize("targets", TARGETS, ids="-".join)
def test_exact_gradients_are_those_of_the_definition(targets: tuple[str, ...]) -> None:
    """Against the same model with merged weights, differentiated by autograd through the merge."""
    base, plan = plans(targets)
    base_W, params_P = init_flat(base, 1), moved(init_flat(plan, 1))
    loss, _, grad_P = run_loss(Stage(plan, table(EXACT), base_W), params_P, TOKENS, LABELS)
    leaf_P = params_P.clone().requires_grad_()
    named, whole = plan.named(leaf_P), dict(base.named(base_W))
    for name, a_RD in named.items():
        module, _, kind = name.rpartition(".lora_")
        if kind == "A.weight":
            b_OR = named[f"{module}.lora_B.weight"]
            whole[f"{module}.weight"] = whole[f"{module}.weight"] + 2.0 * (b_OR @ a_RD)
    flat_W = torch.cat([whole[part.name].reshape(-1) for part in base.tensors])
    truth = Stage(base, table("native")).loss(flat_W, TOKENS, LABELS)
    (truth_P,) = torch.autograd.grad(truth, (leaf_P,))
    assert loss == pytest.approx(float(truth.detach()), abs=1e-5)
    assert torch.allclose(grad_P, truth_P, rtol=1e-3, atol=2e-6)


def test_two_stages_compute_what_one_does() -> None:
    ops, adapter = table(EXACT), an_adapter()
    base, whole = plans()
    base_W, params_P = init_flat(base, 1), moved(init_flat(whole, 1))
    cut = [adapter_plan(plan, adapter) for plan in plan_stages(MODEL, 2)]
    below = [plan.base.num_parameters for plan in cut if plan.base is not None]
    sizes = [plan.num_parameters for plan in cut]
    first, last = (
        Stage(plan, ops, weights)
        for plan, weights in zip(cut, torch.split(base_W, below), strict=True)
    )
    shards = torch.split(params_P, sizes)
    passed = run_forward(first, shards[0], TOKENS)
    loss, grad, last_P = run_loss(last, shards[1], passed.output, LABELS)
    assert grad is not None
    nothing, first_P = run_backward(passed, grad)
    assert nothing is None
    alone, _, grad_P = run_loss(Stage(whole, ops, base_W), params_P, TOKENS, LABELS)
    assert loss == alone
    assert torch.equal(torch.cat((first_P, last_P)), grad_P)


def test_text_is_written_with_the_adapter() -> None:
    ops = table(EXACT)
    base, plan = plans()
    base_W, params_P = init_flat(base, 1), moved(init_flat(plan, 1))
    stage = Stage(plan, ops, base_W)
    expected = stage.forward(params_P, TOKENS[:1])[0]
    cache = KeyValueCache(plan)
    for until, rows in ((5, TOKENS[0, :5]), (6, TOKENS[0, 5:6])):
        logits = advance(stage, params_P, cache, rows)
        assert torch.equal(logits, expected[until - 1])


def test_the_weights_below_are_asked_for_and_measured() -> None:
    base, plan = plans()
    params_P = init_flat(plan, 1)
    for weights in (None, torch.zeros(base.num_parameters - 1)):
        with pytest.raises(UsageError):
            Stage(plan, table("native"), weights).forward(params_P, TOKENS)
    with pytest.raises(UsageError):
        merged(plan, params_P, None)


@pytest.mark.rule("T40")
@pytest.mark.parametrize("numerics", [EXACT, "native"])
def test_training_an_adapter_lowers_the_loss_and_moves_nothing_else(numerics: str) -> None:
    """Some steps of AdamW on one text, of another base than the one that was drawn for it."""
    ops = table(numerics)
    base, plan = plans()
    base_W, params_P = init_flat(base, 3), init_flat(plan, 1)
    name, state = hash_of(base_W), OptimizerState.zeros(plan.num_parameters)
    losses = list[float]()
    for _ in range(12):
        loss, _, grad_P = run_loss(Stage(plan, ops, base_W), params_P, TOKENS, LABELS)
        optimizer_step(ops, params_P, grad_P, state, 1e-2, SPEC.optimizer, plan.decayed)
        losses.append(loss)
    assert losses[-1] < losses[0] - 0.5
    assert hash_of(base_W) == name


def test_an_adapters_fragments_cover_it() -> None:
    plan = plans_of(SPEC)[0]
    assert plan.base is None
    _, plan = plans(("q",))
    spans = plan.fragments(6)
    assert [span.start for span in spans[1:]] == [span.stop for span in spans[:-1]]
    assert spans[-1].stop == plan.num_parameters
