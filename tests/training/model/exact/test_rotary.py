"""Rotary tables are the nearest float32 to the true sines and cosines."""

from math import pi

import pytest
import torch
from torch import Tensor

from swarm.config.spec import NANO, RopeSpec
from swarm.errors import UsageError
from swarm.training.model.exact.operators import rotary_tables, stretched
from swarm.training.model.profiles import NATIVE


@pytest.mark.parametrize(
    ("positions", "width", "theta"), [(50, 8, 10_000), (7, 2, 1), (64, 12, 500_000)]
)
def test_the_tables_match_float64(positions: int, width: int, theta: int) -> None:
    frequencies = float(theta) ** -(torch.arange(0, width, 2).double() / width)
    angles = torch.outer(torch.arange(positions).double(), frequencies)
    angles = torch.cat((angles, angles), 1)
    for table, truth in zip(
        rotary_tables(positions, width, theta), (angles.cos(), angles.sin()), strict=True
    ):
        assert float((table.double() - truth).abs().max()) <= 2.0**-25 + 1e-12


def test_position_0_does_not_turn() -> None:
    cos_TE, sin_TE = rotary_tables(3, 4, 10_000)
    assert cos_TE[0].tolist() == [1.0] * 4
    assert sin_TE[0].tolist() == [0.0] * 4


def test_a_width_without_pairs_is_refused() -> None:
    with pytest.raises(UsageError):
        rotary_tables(3, 5, 10_000)


LLAMA3 = RopeSpec(kind="llama3", factor_nano=32 * NANO)
LINEAR = RopeSpec(kind="linear", factor_nano=4 * NANO)
UNIT = 1 << 160


def as_transformers_does(frequencies: Tensor, rope: RopeSpec) -> Tensor:
    """``modeling_rope_utils`` of transformers, line by line, in float64."""
    factor = rope.factor_nano / NANO
    if rope.kind == "linear":
        return frequencies / factor
    low, high, old = rope.low_freq_nano / NANO, rope.high_freq_nano / NANO, rope.original_positions
    wavelen = 2 * pi / frequencies
    slow = torch.where(wavelen > old / low, frequencies / factor, frequencies)
    smooth = (old / wavelen - low) / (high - low)
    smoothed = (1 - smooth) * slow / factor + smooth * slow
    is_medium = ~(wavelen < old / high) * ~(wavelen > old / low)
    return torch.where(is_medium, smoothed, slow)


@pytest.mark.rule("T42")
@pytest.mark.parametrize("rope", [LLAMA3, LINEAR], ids=["llama3", "linear"])
def test_stretched_frequencies_are_those_of_transformers(rope: RopeSpec) -> None:
    """Of Llama 3.2: heads of 64, theta 500,000; the exact tables to float32's last bit."""
    plain = 500_000.0 ** -(torch.arange(0, 64, 2).double() / 64)
    truth = as_transformers_does(plain, rope)
    ours = torch.tensor(
        [stretched(int(value * UNIT), rope) / UNIT for value in plain.tolist()],
        dtype=torch.float64,
    )
    assert torch.allclose(ours, truth, rtol=1e-12, atol=0.0)
    angles = torch.outer(torch.arange(40).double(), truth)
    angles = torch.cat((angles, angles), 1)
    for tables, bound in ((rotary_tables, 2.0**-25 + 1e-12), (NATIVE.rope_tables, 5e-6)):
        found = tables(40, 64, 500_000, rope)
        for table, right in zip(found, (angles.cos(), angles.sin()), strict=True):
            assert float((table.double() - right).abs().max()) <= bound


@pytest.mark.rule("T42")
def test_stretched_frequencies_have_the_numbers_written_down_here() -> None:
    """Pairs 0, 13, 15, 17 and 31 of Llama 3.2 as transformers 5.23 computes them, float32."""
    wanted = {
        0: 1.0,
        13: 4.83942125e-03,
        15: 1.29054801e-03,
        17: 9.70828623e-05,
        31: 9.41830649e-08,
    }
    for pair, value in wanted.items():
        plain = int(500_000.0 ** -(pair / 32) * UNIT)
        assert stretched(plain, LLAMA3) / UNIT == pytest.approx(value, rel=1e-6)


@pytest.mark.rule("T42")
@pytest.mark.parametrize("rope", [LLAMA3, LINEAR], ids=["llama3", "linear"])
def test_they_are_transformers_own_where_it_is_installed(rope: RopeSpec) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    fields: dict[str, object] = {"rope_type": rope.kind, "factor": rope.factor_nano / NANO}
    if rope.kind == "llama3":
        fields |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
        fields["original_max_position_embeddings"] = 8192
    config = transformers.LlamaConfig(
        hidden_size=128,
        num_attention_heads=2,
        max_position_embeddings=131_072,
        rope_parameters={**fields, "rope_theta": 500_000.0},
    )
    theirs, scale = ROPE_INIT_FUNCTIONS[rope.kind](config)
    plain = 500_000.0 ** -(torch.arange(0, 64, 2).double() / 64)
    ours = torch.tensor([stretched(int(f * UNIT), rope) / UNIT for f in plain.tolist()])
    assert scale == 1.0
    assert torch.allclose(ours, theirs, rtol=2e-6, atol=0.0)
