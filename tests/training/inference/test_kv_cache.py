"""A stage computed position by position gives what the whole text at once gives; a cache is bounded."""

import pytest
import torch

from swarm.errors import OutOfTurn, UsageError
from swarm.primitives.codec import replace
from swarm.training.inference.sampling import KeyValueCache, advance, cache_bytes
from swarm.training.model.profiles import EXACT_NAME, NATIVE, table
from swarm.training.model.stages import Stage, init_flat, plan_stages
from tests.training.models import TINY

MODEL = replace(TINY, seq_len=100)
PLANS = plan_stages(MODEL, 2)
FLATS = [init_flat(plan, 5) for plan in PLANS]
STAGES = [Stage(plan, NATIVE) for plan in PLANS]
TEXT = torch.arange(80) * 37 % 256


def logits_of(stages: list[Stage], pieces: list[int]) -> torch.Tensor:
    """The logits after each piece of the text."""
    caches, found, at = [KeyValueCache(plan) for plan in PLANS], [], 0
    for piece in pieces:
        x = TEXT[at : at + piece]
        for stage, flat, cache in zip(stages, FLATS, caches, strict=True):
            x = advance(stage, flat, cache, x)
        found.append(x)
        at += piece
    return torch.stack(found)


@pytest.mark.rule("T31")
@pytest.mark.parametrize("pieces", [[1] * 80, [80], [13, 1, 1, 64, 1], [63, 1, 1, 15]])
def test_any_pieces_give_the_logits_of_the_whole(pieces: list[int]) -> None:
    (whole,) = plan_stages(MODEL, 1)
    expected = Stage(whole, NATIVE).forward(torch.cat(FLATS), TEXT[None])[0]
    ends = torch.tensor(pieces).cumsum(0) - 1
    assert torch.allclose(logits_of(STAGES, pieces), expected[ends], rtol=0.0, atol=1e-5)


@pytest.mark.rule("T31")
def test_the_exact_operators_give_the_same_bits_in_any_pieces() -> None:
    exact = [Stage(plan, table(EXACT_NAME)) for plan in PLANS]
    assert torch.equal(logits_of(exact, [1] * 20)[-1], logits_of(exact, [7, 12, 1])[-1])


def test_what_is_forgotten_can_be_said_again() -> None:
    cache = KeyValueCache(PLANS[0])
    first = advance(STAGES[0], FLATS[0], cache, TEXT[:10])
    cache.truncate(4)
    assert torch.allclose(advance(STAGES[0], FLATS[0], cache, TEXT[4:10]), first[4:], atol=1e-6)
    cache.truncate(99)
    assert cache.length == 10


def test_a_cache_grows_with_its_text_and_no_further_than_the_context() -> None:
    cache = KeyValueCache(PLANS[1])
    assert cache.num_bytes == 0
    advance(STAGES[1], FLATS[1], cache, torch.zeros(3, 16))
    assert 0 < cache.num_bytes <= cache_bytes(PLANS[1], 3)
    advance(STAGES[1], FLATS[1], cache, torch.zeros(97, 16))
    assert cache.num_bytes == cache_bytes(PLANS[1], 100) == 2 * 2 * 100 * 8 * 4
    with pytest.raises(UsageError, match="full"):
        advance(STAGES[1], FLATS[1], cache, torch.zeros(1, 16))
    assert cache.length == 100


@pytest.mark.parametrize(
    ("stage", "inputs"),
    [
        (0, torch.tensor([256])),
        (0, torch.tensor([-1])),
        (0, torch.tensor([], dtype=torch.int64)),
        (0, torch.zeros(2, 16)),
        (1, torch.zeros(2, 8)),
        (1, torch.zeros(0, 16)),
        (1, torch.tensor([1, 2])),
    ],
)
def test_inputs_of_another_stage_are_refused(stage: int, inputs: torch.Tensor) -> None:
    cache = KeyValueCache(PLANS[stage])
    with pytest.raises(OutOfTurn):
        advance(STAGES[stage], FLATS[stage], cache, inputs)
    assert cache.length == 0
