"""A compiled stage computes what the stage does, through whatever torch.compile made of it."""

import pytest
import torch

from swarm.errors import UsageError
from swarm.primitives.codec import replace
from swarm.training.devices.engine import CompiledStage
from swarm.training.model.profiles import table_on
from swarm.training.model.stages import Stage, init_flat, plan_stages, run_loss
from tests.training.models import TINY

MODEL = replace(TINY, vocab_size=40, num_layers=2)
PLAN = plan_stages(MODEL, 1)[0]
STAGE = Stage(PLAN, table_on("native", "cpu"))
TOKENS = (torch.arange(48) * 7 % 40).view(4, 12)


def test_it_calls_what_was_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def compiled(pass_: object, *, dynamic: bool) -> object:
        assert not dynamic
        seen.append(getattr(pass_, "__name__", ""))
        return pass_

    monkeypatch.setattr(torch, "compile", compiled)
    stage, params_P = CompiledStage.of(STAGE), init_flat(PLAN, 1)
    assert seen == ["forward", "loss"]
    loss, _, grad_P = run_loss(stage, params_P, TOKENS, TOKENS)
    expected, _, theirs_P = run_loss(STAGE, params_P, TOKENS, TOKENS)
    assert loss == expected
    assert torch.equal(grad_P, theirs_P)
    assert torch.equal(stage.forward(params_P, TOKENS), STAGE.forward(params_P, TOKENS))


def test_it_refuses_what_the_stage_refuses() -> None:
    with pytest.raises(UsageError):
        run_loss(CompiledStage.of(STAGE), init_flat(PLAN, 1), TOKENS[0], TOKENS)
