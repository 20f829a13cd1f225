"""Sums folded a few values at a time are those of one binary tree, of any length."""

import pytest
import torch

from swarm.training.model.exact import reference
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.verify.program.nodes import Builder
from swarm.verify.program.operators import flat_index, row_start


@pytest.mark.rule("V39")
@pytest.mark.parametrize("length", [1, 2, 3, 15, 16, 17, 31, 255, 256, 257, 1000, 4096, 5000])
def test_folds_add_up_as_a_tree_does(length: int) -> None:
    builder = Builder()
    row = builder.given("row", 2, length)
    program = builder.program(total=builder.row_totals(row))
    x = torch.randn(2, length, generator=torch.Generator().manual_seed(length))
    values = program.run(trusted_kernels().kernels, {"row": x})
    total = values[program.outputs["total"]]
    assert torch.equal(total.squeeze(1), reference.tree_sum(x))
    for number, node in enumerate(program.nodes[1:], start=1):
        index = (1, node.shape[1] - 1)
        assert torch.equal(program.element(number, index, values), values[number][index])


def test_places_are_counted_in_c_order() -> None:
    assert flat_index((2, 3, 4), (1, 2, 3)) == 23
    assert row_start((2, 3, 4), (1, 2, 3)) == 20
    assert flat_index((), ()) == 0
