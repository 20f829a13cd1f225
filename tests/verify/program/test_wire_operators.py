"""No byte on a wire and no value stops a judge: an operator is defined for everything, element by element."""

import numpy as np
import pytest
import torch

from swarm.verify.program.wire import WIRES
from tests.verify.program.test_microbatch import bits
from tests.verify.program.test_wire import FORMS, check_elements, coded, drawn, values_of


@pytest.mark.rule("V39")
@pytest.mark.parametrize("name", FORMS)
def test_attack_bytes_that_no_encoder_writes_stop_no_judge(name: str) -> None:
    """Peaks that are negative or no numbers, levels that are too low: each element is what all elements are."""
    program, rng = coded(FORMS[name], 300), np.random.default_rng(5)
    length = FORMS[name].num_bytes(300)
    bad = torch.full((300,), float("nan"))
    bad[::3], bad[1::3] = float("inf"), -float("inf")
    bad[140:] = drawn(160, 3) * 1e38
    for data in (b"\xff" * length, b"\x80" * length, rng.bytes(length), rng.bytes(length)):
        values = values_of(program, bad, data)
        check_elements(program, values, 2000)
        read = values[program.outputs["read"]]
        assert set(bits(read)[read.isnan()].tolist()) <= {0x7FC00000}


@pytest.mark.rule("V38")
def test_a_half_is_rounded_as_torch_rounds() -> None:
    words = np.random.default_rng(7).integers(0, 1 << 32, 1 << 15, dtype=np.uint32)
    x = torch.from_numpy(words.view(np.float32).copy())
    x = x[x.isfinite()]
    program = coded(WIRES["bf16"], x.numel())
    sent = values_of(program, x, bytes(2 * x.numel()))[program.outputs["sent"]]
    assert torch.equal(sent, x.to(torch.bfloat16).view(torch.uint8))
