"""The held-out loss is a mean over windows that everybody draws alike."""

from math import log
from typing import Any

import numpy as np
import pytest
import torch

from swarm.config.spec import ModelSpec
from swarm.errors import UsageError
from swarm.primitives.codec import replace
from swarm.training.data.samples import windows
from swarm.training.inference.evaluate import heldout_loss, heldout_starts, whole_model
from swarm.training.model.profiles import EXACT_NAME, NATIVE, table
from swarm.training.model.stages import init_flat
from tests.training.models import TINY

MODEL = replace(TINY, vocab_size=40, num_layers=2)
TOKENS = (np.arange(2000) * 7 % 40).astype(np.uint8)


def test_windows_are_spread_evenly_and_stay_inside() -> None:
    starts = heldout_starts(2000, 12, 5)
    assert starts == (0, 496, 993, 1490, 1987)
    assert heldout_starts(13, 12, 5) == (0,)
    assert len(heldout_starts(100, 12, 50)) == 8
    with pytest.raises(UsageError):
        heldout_starts(12, 12, 5)


def test_a_model_that_knows_nothing_loses_the_log_of_its_vocabulary() -> None:
    stage = whole_model(MODEL, NATIVE)
    named = stage.plan.named(init_flat(stage.plan, 1))
    named["lm_head.weight"] = torch.zeros(40, 16)
    loss = heldout_loss(stage, stage.plan.flat(named), TOKENS, num_windows=20)
    assert loss == pytest.approx(log(40), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_the_width_of_a_token_changes_nothing(dtype: Any) -> None:  # noqa: ANN401
    stage = whole_model(MODEL, NATIVE)
    flat = init_flat(stage.plan, 1)
    narrow = heldout_loss(stage, flat, TOKENS, num_windows=20)
    assert heldout_loss(stage, flat, TOKENS.astype(dtype), num_windows=20) == narrow


@pytest.mark.parametrize("numerics", ["native", EXACT_NAME])
def test_a_model_of_a_thousand_tokens_learns_them(numerics: str) -> None:
    """Both tables of operators, ids up to the last."""
    model = ModelSpec(
        vocab_size=1000,
        hidden_size=16,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        intermediate_size=24,
        seq_len=12,
        rope_theta=10_000,
        norm_eps_nano=10_000,
    )
    tokens = (np.arange(500) * 333 % 1000).astype(np.uint16)
    stage = whole_model(model, table(numerics))
    flat = init_flat(stage.plan, 1).requires_grad_()
    inputs_BT, labels_BT = windows(tokens, (0, 100, 487), 12)
    assert int(max(inputs_BT.max(), labels_BT.max())) > 990
    before = stage.loss(flat, inputs_BT, labels_BT)
    (grad,) = torch.autograd.grad(before, flat)
    step = flat.detach() - 0.5 * grad
    assert 6.0 < float(before.detach()) < 9.0
    with torch.no_grad():
        assert float(stage.loss(step, inputs_BT, labels_BT)) < float(before.detach())


def test_the_mean_is_over_windows_whatever_the_pass_size() -> None:
    stage = whole_model(MODEL, NATIVE)
    flat = init_flat(stage.plan, 1)
    starts = heldout_starts(len(TOKENS), 12, 20)
    one_by_one = [
        heldout_loss(stage, flat, TOKENS[start : start + 13], num_windows=1) for start in starts
    ]
    loss = heldout_loss(stage, flat, TOKENS, num_windows=20)
    assert loss == pytest.approx(sum(one_by_one) / 20, rel=1e-6)
