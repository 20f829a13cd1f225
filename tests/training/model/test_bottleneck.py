"""A bottleneck sends few values of a token over a cut, and the model has the same bits cut or whole."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from swarm.config.spec import OptimizerSpec
from swarm.errors import BadConfig, UsageError
from swarm.primitives.codec import replace
from swarm.training.inference.sampling import KeyValueCache, advance
from swarm.training.model.bottleneck import are_ids, input_width, signal_width, split_ids, with_ids
from swarm.training.model.exact import reference
from swarm.training.model.exact.operators import exact_ops
from swarm.training.model.optimizer import muon_matrices
from swarm.training.model.profiles import table
from swarm.training.model.stages import (
    Forward,
    Stage,
    init_flat,
    plan_stages,
    run_backward,
    run_forward,
    run_loss,
)
from tests.training.models import TINY

PLAIN = replace(TINY, vocab_size=40, num_layers=6)
MODEL = replace(PLAIN, bottleneck_rank=5, bottleneck_stages=3)
TOKENS = (torch.arange(48) * 7 % 40).view(4, 12)
LABELS = (torch.arange(48) * 11 % 40).view(4, 12)
NAMES = ("down", "norm", "tokens", "up")
PROFILES = ["native", "seq-f32/1", "native-bf16"]


def one_micro_batch(num_stages: int, numerics: str) -> tuple[float, Tensor]:
    """Loss and gradient of all parameters, through so many stages."""
    stages = [Stage(plan, table(numerics)) for plan in plan_stages(MODEL, num_stages)]
    shards = [init_flat(stage.plan, 5) for stage in stages]
    x, forwards = TOKENS, list[Forward]()
    for stage, shard in zip(stages[:-1], shards[:-1], strict=True):
        forwards.append(run_forward(stage, shard, x))
        assert forwards[-1].output.shape == (4, 12, 5)
        assert forwards[-1].output.dtype == torch.float32
        x = with_ids(MODEL, forwards[-1].output, TOKENS)
    loss, grad, last = run_loss(stages[-1], shards[-1], x, LABELS)
    gradients = [last]
    for forward in reversed(forwards):
        assert grad is not None
        assert grad.shape == (4, 12, 5), "the ids have no gradient"
        grad, mine = run_backward(forward, grad)
        gradients.insert(0, mine)
    return loss, torch.cat(gradients)


@pytest.mark.rule("T5", "T5a")
@pytest.mark.parametrize("numerics", PROFILES)
def test_a_model_with_bottlenecks_is_the_same_cut_or_whole(numerics: str) -> None:
    (loss, gradient), (whole, all_of_it) = (
        one_micro_batch(3, numerics),
        one_micro_batch(1, numerics),
    )
    assert loss == whole
    assert torch.equal(gradient, all_of_it)
    assert bool((gradient != 0).any())


@pytest.mark.rule("T1a", "T5a")
def test_the_reference_implementation_gives_the_bits_of_the_kernels() -> None:
    """Of what crosses both cuts, its gradient, and the gradient of every parameter."""
    (plan,) = plan_stages(MODEL, 1)
    flat_P = init_flat(plan, 5)
    found = [
        run_loss(Stage(plan, ops), flat_P, TOKENS, LABELS)
        for ops in (table("seq-f32/1"), exact_ops(reference))
    ]
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][2], found[1][2])


@pytest.mark.rule("T5", "T5a")
def test_the_shards_end_to_end_are_the_whole_model() -> None:
    parts = [part for plan in plan_stages(MODEL, 3) for part in plan.tensors]
    (whole,) = plan_stages(MODEL, 1)
    assert tuple(parts) == whole.tensors
    shards = [init_flat(plan, 5) for plan in plan_stages(MODEL, 3)]
    assert torch.equal(torch.cat(shards), init_flat(whole, 5))
    added = [part.name for part in parts if part.name.startswith("bottleneck.")]
    assert added == [f"bottleneck.{c}.{n}.weight" for c in (0, 1) for n in NAMES]


@pytest.mark.rule("T4")
def test_without_a_bottleneck_nothing_changes() -> None:
    (before,), (after,) = plan_stages(PLAIN, 1), plan_stages(MODEL, 1)
    old = before.named(init_flat(before, 5))
    new = after.named(init_flat(after, 5))
    assert all(torch.equal(new[name], x) for name, x in old.items())
    assert (signal_width(PLAIN), input_width(PLAIN)) == (16, 16)
    assert (signal_width(MODEL), input_width(MODEL)) == (5, 6)
    x = torch.randn(2, 3, 16)
    assert with_ids(PLAIN, x, TOKENS[:2, :3]) is x


@pytest.mark.rule("T5a")
def test_what_comes_back_at_first_is_about_a_projection() -> None:
    (plan,) = plan_stages(MODEL, 1)
    named = plan.named(init_flat(plan, 5))
    for cut in (0, 1):
        down, up = (named[f"bottleneck.{cut}.{name}.weight"] for name in ("down", "up"))
        assert torch.equal(up, down.t())
    assert not torch.equal(named["bottleneck.0.down.weight"], named["bottleneck.1.down.weight"])


def test_muon_leaves_the_bottlenecks_to_adamw() -> None:
    (plan,) = plan_stages(MODEL, 1)
    optimizer = OptimizerSpec(
        beta1_nano=0,
        beta2_nano=0,
        eps_nano=1,
        weight_decay_nano=0,
        clip_norm_nano=0,
        learning_rates_nano=(1,),
        learning_rate_stride=1,
        name="muon",
    )
    layers = sum(p.name.startswith("model.layers.") and len(p.shape) == 2 for p in plan.tensors)
    assert len(muon_matrices(optimizer, plan)) == layers


@pytest.mark.rule("T5a")
@pytest.mark.parametrize("num_stages", [2, 4, 6])
def test_a_model_with_bottlenecks_is_cut_where_they_lie(num_stages: int) -> None:
    with pytest.raises(BadConfig, match="cannot be cut"):
        plan_stages(MODEL, num_stages)


@pytest.mark.rule("T5a")
@pytest.mark.parametrize("width", [4, 5, 7, 16, 17])
def test_rows_of_another_width_are_not_taken(width: int) -> None:
    stage = Stage(plan_stages(MODEL, 3)[1], table("native"))
    with pytest.raises(UsageError):
        stage.check(torch.zeros(4, 12, width))
    stage.check(torch.zeros(4, 12, 6))


def test_ids_go_with_their_rows_and_come_back_exactly() -> None:
    wide = replace(MODEL, vocab_size=1 << 18)
    ids = torch.tensor([0, 1, (1 << 18) - 1])
    z = torch.randn(3, 5)
    rows = with_ids(wide, z, ids)
    back, found = split_ids(wide, rows)
    assert torch.equal(back, z)
    assert torch.equal(found, ids)
    assert are_ids(wide, rows)


@pytest.mark.parametrize("value", [-1.0, 40.0, 0.5, float("nan"), float("inf"), -float("inf")])
def test_what_is_no_id_is_seen(value: float) -> None:
    rows = with_ids(MODEL, torch.zeros(3, 5), torch.tensor([0, 39, 7]))
    assert are_ids(MODEL, rows)
    rows[1, -1] = value
    assert not are_ids(MODEL, rows)
    assert are_ids(PLAIN, rows)


@pytest.mark.rule("T31")
@pytest.mark.parametrize("numerics", ["native", "seq-f32/1"])
def test_generation_through_stages_is_that_of_the_whole_model_and_exact_runs_have_its_bits(
    numerics: str,
) -> None:
    stages = [Stage(plan, table(numerics)) for plan in plan_stages(MODEL, 3)]
    (plan,) = plan_stages(MODEL, 1)
    whole = Stage(plan, table(numerics))
    shards = [init_flat(stage.plan, 5) for stage in stages]
    caches = [KeyValueCache(stage.plan) for stage in stages]
    one = KeyValueCache(plan)
    text = TOKENS[0]
    for start, stop in pairwise((0, 5, 6, 7, 12)):
        ids = text[start:stop]
        x = ids
        for stage, shard, cache in zip(stages, shards, caches, strict=True):
            rows = x if stage.plan.is_first else with_ids(MODEL, x, ids)
            x = advance(stage, shard, cache, rows)
        expected = advance(whole, torch.cat(shards), one, ids)
        if numerics == "native":
            torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(x, expected)
