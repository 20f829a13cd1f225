"""A shard is one flat vector, the cut changes nothing that is computed, and two runs give the same bits."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from swarm.errors import BadConfig, UsageError
from swarm.primitives.codec import replace as changed
from swarm.primitives.commitments import hash_of
from swarm.training.model.profiles import NATIVE
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

MODEL = changed(TINY, vocab_size=40)
TOKENS = (torch.arange(48) * 7 % 40).view(4, 12)
LABELS = (torch.arange(48) * 11 % 40).view(4, 12)


def pipeline(num_stages: int) -> tuple[list[Stage], list[Tensor]]:
    plans = plan_stages(MODEL, num_stages)
    return [Stage(plan, NATIVE) for plan in plans], [init_flat(plan, 5) for plan in plans]


def one_micro_batch(num_stages: int, *, keep_graph: bool = True) -> tuple[float, Tensor]:
    stages, shards = pipeline(num_stages)
    x, forwards = TOKENS, list[Forward]()
    for stage, shard in zip(stages[:-1], shards[:-1], strict=True):
        forwards.append(run_forward(stage, shard, x, keep_graph=keep_graph))
        x = forwards[-1].output
    loss, grad, last = run_loss(stages[-1], shards[-1], x, LABELS)
    gradients = [last]
    for forward in reversed(forwards):
        assert grad is not None
        grad, mine = run_backward(forward, grad)
        gradients.insert(0, mine)
    assert grad is None
    return loss, torch.cat(gradients)


def test_a_backward_pass_loads_no_computer_algebra() -> None:
    program = (
        "import sys; from tests.training.model.test_stages import one_micro_batch; one_micro_batch(2);"
        "print('sympy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.rule("T5")
@pytest.mark.parametrize("num_stages", [2, 3])
def test_a_cut_model_computes_what_the_whole_one_does(num_stages: int) -> None:
    whole_loss, whole = one_micro_batch(1)
    loss, gradient = one_micro_batch(num_stages)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    torch.testing.assert_close(gradient, whole, rtol=1e-4, atol=1e-7)


@pytest.mark.rule("T2")
def test_the_same_micro_batch_twice_gives_the_same_bits() -> None:
    (loss, first), (again, second) = one_micro_batch(2), one_micro_batch(2)
    assert loss == again
    assert hash_of(first) == hash_of(second)


def test_computing_the_forward_pass_again_gives_the_same_bits() -> None:
    _, kept = one_micro_batch(3)
    _, recomputed = one_micro_batch(3, keep_graph=False)
    assert torch.equal(kept, recomputed)


def test_gradients_point_uphill() -> None:
    (stage,), (shard,) = pipeline(1)
    loss, _, gradient = run_loss(stage, shard, TOKENS, LABELS)
    lower, _, _ = run_loss(stage, shard - 0.01 * gradient / gradient.norm(), TOKENS, LABELS)
    assert lower == pytest.approx(loss - 0.01 * float(gradient.norm()), abs=1e-3)
    assert lower < loss


@pytest.mark.rule("T5")
def test_shards_end_to_end_are_the_whole_model() -> None:
    _, shards = pipeline(3)
    _, (whole,) = pipeline(1)
    assert torch.equal(torch.cat(shards), whole)


def test_names_to_flat_and_back_is_exact() -> None:
    for plan in plan_stages(MODEL, 2):
        flat = init_flat(plan, 3)
        named = plan.named(flat)
        assert list(named) == [part.name for part in plan.tensors]
        assert torch.equal(plan.flat(named), flat)
        named.pop(plan.tensors[0].name)
        with pytest.raises(UsageError):
            plan.flat(named)


@pytest.mark.rule("T4")
def test_initial_values_follow_from_the_seed_alone() -> None:
    plans = plan_stages(MODEL, 2)
    again = init_flat(plan_stages(MODEL, 2)[0], 5)
    assert torch.equal(init_flat(plans[0], 5), again)
    assert not torch.equal(init_flat(plans[0], 6), again)
    # A golden hash: a change here changes what every run starts from.
    assert hash_of(init_flat(plans[0], 5)).hex()[:16] == GOLDEN_INIT
    query = plans[0].named(init_flat(plans[0], 5))["model.layers.0.self_attn.q_proj.weight"]
    assert float(query.std()) == pytest.approx(16**-0.5, rel=0.1)
    assert abs(float(query.mean())) < 0.05


@pytest.mark.rule("T7")
@pytest.mark.parametrize("count", [1, 3, 4, 8])
def test_fragments_cover_the_vector_once_at_block_boundaries(count: int) -> None:
    (plan,) = plan_stages(MODEL, 1)
    spans = plan.fragments(count)
    assert spans[0].start == 0
    assert spans[-1].stop == plan.num_parameters
    assert all(left.stop == right.start for left, right in pairwise(spans))
    assert all(span.start % 128 == 0 for span in spans)


def test_weight_decay_spares_the_norms() -> None:
    (plan,) = plan_stages(MODEL, 1)
    marks = torch.zeros(plan.num_parameters)
    for span in plan.decayed:
        marks[span.slice] += 1
    named = plan.named(marks)
    assert all(bool((x == (x.dim() > 1)).all()) for x in named.values())


@pytest.mark.parametrize("num_stages", [0, 4])
def test_more_stages_than_layers_are_refused(num_stages: int) -> None:
    with pytest.raises(BadConfig):
        plan_stages(MODEL, num_stages)


def test_inputs_and_gradients_of_a_wrong_shape_are_refused() -> None:
    stages, shards = pipeline(2)
    with pytest.raises(UsageError):
        run_forward(stages[1], shards[1], TOKENS)
    with pytest.raises(UsageError):
        run_forward(stages[0], shards[0], torch.zeros(1, 13, dtype=torch.int64))
    with pytest.raises(UsageError):
        run_forward(stages[0], shards[0][:-1], TOKENS)
    passed = run_forward(stages[0], shards[0], TOKENS)
    with pytest.raises(UsageError):
        run_backward(passed, torch.zeros(1, 12, 16))
    with pytest.raises(UsageError):
        run_loss(replace(stages[0]), shards[0], TOKENS, LABELS)


GOLDEN_INIT = "828c2153ebdffd2b"
