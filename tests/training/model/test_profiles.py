"""The native operators compute what their names say, both ways, and write into nobody's arguments."""

import pytest
import torch
from torch import Tensor

from swarm.errors import BadConfig
from swarm.training.model.profiles import NATIVE, AdamWScalars, table


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def reference_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    copies = query.shape[2] // key.shape[2]
    q, k, v = (x.transpose(1, 2).double() for x in (query, key, value))
    k, v = k.repeat_interleave(copies, 1), v.repeat_interleave(copies, 1)
    scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
    rows, columns = scores.shape[-2:]
    scores = scores + torch.full((rows, columns), float("-inf")).triu(columns - rows + 1)
    mixed: Tensor = (scores.softmax(-1) @ v).transpose(1, 2)
    return mixed


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("earlier", [0, 3])
def test_attention_and_its_gradients_match_float64(kv_heads: int, earlier: int) -> None:
    query = noise(2, 7, 4, 6, seed=1).requires_grad_()
    key = noise(2, 7 + earlier, kv_heads, 6, seed=2).requires_grad_()
    value = noise(2, 7 + earlier, kv_heads, 6, seed=3).requires_grad_()
    grad = noise(2, 7, 4, 6, seed=4)
    ours = NATIVE.attention(query, key, value)
    expected = reference_attention(query, key, value)
    torch.testing.assert_close(ours, expected.float(), rtol=1e-5, atol=1e-6)
    mine = torch.autograd.grad(ours, (query, key, value), grad)
    theirs = torch.autograd.grad(expected, (query, key, value), grad.double())
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-6)


def test_rms_norm_and_its_gradients_match_float64() -> None:
    x, weight = noise(5, 8).requires_grad_(), noise(8, seed=1).requires_grad_()
    grad = noise(5, 8, seed=2)
    wide = x.double()
    expected = wide / (wide.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    ours = NATIVE.rms_norm(x, weight, 1e-5)
    torch.testing.assert_close(ours, expected.float(), rtol=1e-5, atol=1e-6)
    mine = torch.autograd.grad(ours, (x, weight), grad)
    theirs = torch.autograd.grad(expected, (x, weight), grad.double())
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-6)


def test_rope_rotates_halves_and_its_gradient_rotates_back() -> None:
    cos_TE, sin_TE = NATIVE.rope_tables(5, 6, 10_000)
    x = noise(2, 5, 3, 6).requires_grad_()
    swapped = torch.cat((-x[..., 3:], x[..., :3]), -1)
    expected = x * cos_TE[:, None] + swapped * sin_TE[:, None]
    ours = NATIVE.rope(x, cos_TE, sin_TE)
    torch.testing.assert_close(ours, expected)
    (turned_back,) = torch.autograd.grad(ours, x, ours.detach())
    torch.testing.assert_close(turned_back, x.detach(), rtol=1e-5, atol=1e-6)


def test_adamw_matches_torch() -> None:
    start, m, v = noise(50), torch.zeros(50), torch.zeros(50)
    theirs = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), weight_decay=0.0)
    ours = start.clone()
    for step in range(1, 6):
        grad = noise(50, seed=step)
        theirs.grad = grad.clone()
        optimizer.step()
        scalars = AdamWScalars(0.01, 0.9, 0.95, 1e-8, 1 / (1 - 0.9**step), 1 / (1 - 0.95**step))
        NATIVE.adamw(ours, m, v, grad, scalars)
        torch.testing.assert_close(grad, noise(50, seed=step), rtol=0, atol=0)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.rule("T1")
def test_no_operator_writes_into_its_arguments() -> None:
    cos_TE, sin_TE = NATIVE.rope_tables(4, 6, 10_000)
    q = noise(1, 4, 2, 6)
    rows, weight = noise(4, 6, seed=5), noise(6, seed=6)
    labels = torch.tensor([0, 1, 2, 3])
    arguments = (q, cos_TE, sin_TE, rows, weight)
    before = [x.clone() for x in arguments]
    NATIVE.attention(q, q, q)
    NATIVE.rope(q, cos_TE, sin_TE)
    NATIVE.rms_norm(rows, weight, 1e-5)
    NATIVE.swiglu(rows, rows)
    NATIVE.add(rows, rows)
    NATIVE.linear(rows, rows)
    NATIVE.embedding(rows, labels)
    NATIVE.cross_entropy(rows, labels)
    NATIVE.norm(rows.view(-1))
    assert all(torch.equal(x, y) for x, y in zip(arguments, before, strict=True))


@pytest.mark.rule("T1")
def test_an_unknown_profile_is_refused_by_name() -> None:
    assert table("native").name == NATIVE.name
    with pytest.raises(BadConfig, match="seq-f64/9"):
        table("seq-f64/9")


def test_gradients_are_summed_alike_by_every_table() -> None:
    tables = [NATIVE, *map(table, ("native", "native-bf16", "seq-f32/1"))]
    sums = [torch.zeros(1000, dtype=torch.int64) for _ in tables]
    for seed in range(3):
        grad = noise(1000, seed=seed) * 10.0 ** (2 - 3 * seed)
        assert all(ops.add_units(total, grad) for ops, total in zip(tables, sums, strict=True))
    means = [ops.mean_units(total, 3) for ops, total in zip(tables, sums, strict=True)]
    assert all(torch.equal(total, sums[0]) for total in sums)
    assert all(torch.equal(mean, means[0]) for mean in means)
