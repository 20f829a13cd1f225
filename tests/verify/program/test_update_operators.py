"""A clip begins above the norm, a symmetric product has one half of its elements from the other."""

import pytest
import torch

from swarm.training.model.exact import reference
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.verify.program.nodes import Builder


@pytest.mark.parametrize(("clip", "is_scaled"), [(5.0, False), (4.99, True), (0.0, False)])
def test_a_gradient_of_the_norm_itself_is_not_clipped(clip: float, is_scaled: bool) -> None:
    builder = Builder()
    gradient = builder.given("gradient", 2)
    squares = builder.total(builder.same("squared", gradient))
    program = builder.program(out=builder.same("clipped", gradient, squares, clip=clip))
    x = torch.tensor([3.0, 4.0])
    values = program.run(trusted_kernels().kernels, {"gradient": x})
    out = values[program.outputs["out"]]
    assert torch.equal(out, x) != is_scaled
    for at in (0, 1):
        assert torch.equal(program.element(program.outputs["out"], (at,), values), out[at])


@pytest.mark.rule("V39")
def test_what_lies_above_the_diagonal_comes_from_below_it() -> None:
    builder = Builder()
    given = builder.given("x", 6, 20)
    node = builder.symmetric(given, given)
    program = builder.program(out=node)
    x = torch.randn(6, 20, generator=torch.Generator().manual_seed(2))
    values = program.run(trusted_kernels().kernels, {"x": x})
    out = values[node.number]
    assert torch.equal(out, out.t())
    assert torch.equal(out.tril(), reference.matmul(x, x.t()).tril())
    for index in ((0, 5), (5, 0), (3, 3)):
        assert torch.equal(program.element(node.number, index, values), out[index])
