"""Generating with a memory gives what a full forward pass gives, and the same dice the same text."""

import pytest
import torch

from swarm.errors import UsageError
from swarm.primitives.codec import replace
from swarm.primitives.randomness import stream
from swarm.training.inference.evaluate import whole_model
from swarm.training.inference.sampling import Sampling, draw_token, generate
from swarm.training.model.profiles import NATIVE
from swarm.training.model.stages import init_flat
from tests.training.models import TINY

MODEL = replace(TINY, vocab_size=40)
STAGE = whole_model(MODEL, NATIVE)
FLAT = init_flat(STAGE.plan, 5)


def text(
    prompt: list[int],
    count: int,
    *,
    seed: bytes = b"s",
    temperature: float = 0.8,
    top_k: int = 40,
    top_p: float = 1.0,
) -> list[int]:
    rng, sampling = stream(seed, "test"), Sampling(temperature, top_k, top_p)
    return list(generate(STAGE, FLAT, prompt, count, rng, sampling))


def test_the_likeliest_tokens_are_those_of_a_full_forward_pass() -> None:
    tokens = [3, 1, 4]
    generated = text(tokens, 8, temperature=0.0)
    for token in generated:
        logits = STAGE.forward(FLAT, torch.tensor([tokens]))[0, -1]
        assert token == int(logits.argmax())
        tokens.append(token)


def test_the_same_dice_give_the_same_text_and_other_dice_another() -> None:
    assert text([1], 30) == text([1], 30)
    assert text([1], 30) != text([1], 30, seed=b"other")


def test_a_full_context_goes_on_with_its_newer_half() -> None:
    generated = text([1, 2, 3], 40, temperature=0.0)
    assert len(generated) == 40
    context = [1, 2, 3, *generated][:13][-6:]
    logits = STAGE.forward(FLAT, torch.tensor([context]))[0, -1]
    assert generated[10] == int(logits.argmax())


def test_top_one_is_the_likeliest_whatever_the_temperature() -> None:
    assert text([7], 10, top_k=1, temperature=5.0) == text([7], 10, temperature=0.0)


@pytest.mark.parametrize("prompt", [[], [40], [-1]])
def test_a_prompt_outside_the_vocabulary_is_refused(prompt: list[int]) -> None:
    with pytest.raises(UsageError):
        text(prompt, 1)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(-1.0, 40, 1.0), (float("nan"), 40, 1.0), (0.8, 0, 1.0), (0.8, 40, 0.0), (0.8, 40, 1.1)],
)
def test_impossible_settings_are_refused(temperature: float, top_k: int, top_p: float) -> None:
    with pytest.raises(UsageError):
        Sampling(temperature, top_k, top_p)


def test_a_small_nucleus_is_the_likeliest_and_a_large_one_leaves_the_tail_out() -> None:
    assert text([7], 10, top_p=1e-9) == text([7], 10, temperature=0.0)
    logits = torch.log(torch.tensor([0.05, 0.5, 0.3, 0.15]))
    rng = stream(b"s", "test")
    drawn = [draw_token(logits, rng, Sampling(1.0, 4, 0.79)) for _ in range(2000)]
    assert sorted(set(drawn)) == [1, 2]
    assert 0.58 < drawn.count(1) / len(drawn) < 0.67
    assert {draw_token(logits, rng, Sampling(1.0, 4, 0.81)) for _ in range(500)} == {1, 2, 3}
