"""A seat holds its weights, its moments and, while there are gradients, their sum: nothing else of its size."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.seat import Sizes, TrainedSeat
from swarm import placement, spill
from swarm.config.spec import ADAPTER_TARGETS, NANO, AdapterSpec
from swarm.errors import PeerFault
from swarm.primitives.codec import replace
from swarm.training.averaging import outer_step
from swarm.training.averaging.outer_step import (
    PRESETS,
    FragmentSnapshot,
    Merge,
    OuterState,
    apply_merge,
    merge_in_place,
)
from swarm.training.devices.engine import local_engine
from swarm.training.model import optimizer
from swarm.training.model.bottleneck import with_ids
from swarm.training.model.operators import Ops
from swarm.training.model.optimizer import GradientSum, OptimizerState, muon_matrices
from swarm.training.model.profiles import table
from swarm.training.model.stages import (
    Stage,
    adapter_plan,
    init_flat,
    plan_stages,
    run_backward,
    run_forward,
    run_loss,
    stage_of,
)
from swarm.types import Digest
from tests.training.pipeline import a_spec

SIZES = Sizes(hidden_size=32, num_layers=2, vocab_size=256)
TOKENS = np.frombuffer(bytes(range(256)) * 64, dtype=np.uint8)
CASES = [
    ("native", "adamw", "int8"),
    ("native", "muon", "int4"),
    ("native", "muon", "int4-mean"),
    ("seq-f32/1", "adamw", "int4"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(placement, "SPILLED_BYTES_MIN", 1 << 10)
    monkeypatch.setattr(placement, "LARGE_BYTES_MIN", 1 << 10)
    yield tmp_path
    spill.use_folder(None)


def a_seat(home: Path, case: tuple[str, str, str]) -> TrainedSeat:
    numerics, name, codec = case
    return TrainedSeat(SIZES, home, TOKENS, numerics=numerics, optimizer=name, codec=codec)


def held_in_memory(least: int) -> list[tuple[torch.dtype, int]]:
    """(dtype, bytes) of every storage that Python reaches, of at least so many bytes, and not spilled."""
    gc.collect()
    mapped = spill.mapped_ranges()
    found = dict[int, tuple[torch.dtype, int]]()
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor) and thing.device.type == "cpu":
            at, num_bytes = thing.untyped_storage().data_ptr(), thing.untyped_storage().nbytes()
            if num_bytes >= least and not any(start <= at < stop for start, stop in mapped):
                found[at] = (thing.dtype, num_bytes)
    return list(found.values())


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_between_rounds_a_seat_holds_weights_and_moments_alone(
    folder: Path, case: tuple[str, str, str]
) -> None:
    before = held_in_memory(1 << 14)
    seat = a_seat(folder / "seat", case)
    for _ in range(3):
        seat.round()
    shard = seat.shard
    allowed = [shard.params_P, shard.optimizer.m_P, shard.optimizer.v_A]
    held = held_in_memory(1 << 14)
    assert len(held) - len(before) <= len(allowed)
    assert sum(size for _, size in held) - sum(size for _, size in before) <= 12 * seat.numel
    assert not any(dtype is torch.int64 for dtype, _ in held[len(before) :])


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_state_on_the_disk_has_the_bits_of_one_in_memory(
    folder: Path, case: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk = a_seat(folder / "disk", case)
    for _ in range(2):
        on_disk.round()
    components = on_disk.shard.components()
    monkeypatch.setattr(placement, "SPILLED_BYTES_MIN", 1 << 40)
    in_memory = a_seat(folder / "memory", case)
    for _ in range(2):
        in_memory.round()
    assert components == in_memory.shard.components()


def test_a_window_keeps_its_start_though_merges_write_in_place(folder: Path) -> None:
    seat = a_seat(folder / "seat", ("seq-f32/1", "adamw", "int4"))
    seat.round()
    state = seat.shard.state()
    slow = [state.phi_P.clone(), state.momentum_P.clone(), state.residual_R.clone()]
    seat.round()
    for then, now in zip(slow, (state.phi_P, state.momentum_P, state.residual_R), strict=True):
        assert torch.equal(then, now)
    assert not torch.equal(seat.shard.phi_P, state.phi_P)


# --- gradients ---

SPEC = a_spec(stages=1)
PARAMS = init_flat(stage_of(SPEC, 0).plan, 1)
NUMEL = PARAMS.numel()


def ids(seed: int) -> Tensor:
    shape = (SPEC.microbatch_size, SPEC.model.seq_len)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))


class Watched(GradientSum):
    """Notes the parts that come, and refuses one of them."""

    def __init__(self, ops: Ops, refused: int = -1) -> None:
        super().__init__(NUMEL, ops)
        self.parts = list[int]()
        self.refused = refused

    def put(self, start: int, grad_C: Tensor) -> None:
        """Refuse one part as a gradient out of bounds is refused."""
        self.parts.append(grad_C.numel())
        if len(self.parts) - 1 == self.refused:
            grad_C = torch.full_like(grad_C, float("inf"))
        super().put(start, grad_C)


@pytest.mark.rule("T8")
@pytest.mark.parametrize("numerics", ["native", "seq-f32/1"])
def test_no_whole_gradient_exists_and_the_sum_is_that_of_whole_ones(numerics: str) -> None:
    engine, ops = local_engine(a_spec(stages=1, numerics=numerics), 0), table(numerics)
    parts, whole = Watched(ops), GradientSum(NUMEL, ops)
    for seed in (1, 2):
        _, _, none_P = engine.loss(PARAMS, 1, ids(seed), ids(seed + 5), parts)
        parts.add(none_P)
        whole.add(engine.loss(PARAMS, 1, ids(seed), ids(seed + 5))[2])
        assert none_P.numel() == 0
    assert sum(parts.parts) == 2 * NUMEL
    assert max(parts.parts) == max(stage_of(SPEC, 0).plan.block_sizes) < NUMEL
    assert parts.count == whole.count == 2
    assert torch.equal(parts.mean(), whole.mean())
    assert torch.equal(parts.take_mean(), whole.mean())
    assert parts.count == 0


def a_whole_gradient(stage: Stage, params_P: Tensor, x: Tensor, labels_BT: Tensor) -> Tensor:
    """What one leaf for the flat vector gets."""
    leaf_P = params_P.clone().requires_grad_()
    if stage.plan.is_last:
        (grad_P,) = torch.autograd.grad(stage.loss(leaf_P, x, labels_BT), (leaf_P,))
    else:
        output = stage.forward(leaf_P, x)
        (grad_P,) = torch.autograd.grad(output, (leaf_P,), output.detach())
    return grad_P


@pytest.mark.rule("T5a", "T8", "T40")
@pytest.mark.parametrize("numerics", ["native", "native-bf16", "seq-f32/1"])
@pytest.mark.parametrize("kind", ["adapter", "ends", "middle", "bridges"])
def test_blocks_of_adapters_and_bottlenecks_are_those_of_the_whole_gradient(
    numerics: str, kind: str
) -> None:
    model = replace(SPEC.model, num_layers=3)
    narrow = replace(model, bottleneck_rank=4, bottleneck_stages=3)
    base_W = None
    if kind == "adapter":
        (base,) = plan_stages(model, 1)
        plan, base_W = (
            adapter_plan(base, AdapterSpec(4, 8 * NANO, ADAPTER_TARGETS)),
            init_flat(base, 3),
        )
    else:
        stage = {"ends": 0, "middle": 1, "bridges": 0}[kind]
        plan = plan_stages(narrow, 1 if kind == "bridges" else 3)[stage]
    module, params_P = Stage(plan, table(numerics), base_W), init_flat(plan, 1)
    params_P += torch.linspace(-0.05, 0.05, params_P.numel())  # an adapter ends at zero
    x = ids(1)
    if kind == "middle":
        rows = torch.randn((*x.shape, 4), generator=torch.Generator().manual_seed(2))
        x = with_ids(narrow, rows, x)
    parts = dict[int, Tensor]()
    if plan.is_last:
        _, _, none_P = run_loss(module, params_P, x, ids(6), parts.__setitem__)
    else:
        passed = run_forward(module, params_P, x)
        _, none_P = run_backward(passed, passed.output, parts.__setitem__)
    sizes = [parts[start].numel() for start in sorted(parts)]
    assert (none_P.numel(), tuple(sizes)) == (0, plan.block_sizes)
    found_P = torch.cat([parts[start] for start in sorted(parts)])
    assert torch.equal(found_P, a_whole_gradient(module, params_P, x, ids(6)))
    assert bool((found_P != 0).any())


@pytest.mark.rule("T8")
@pytest.mark.parametrize("refused", [0, 1, 7])
def test_a_block_that_is_refused_takes_the_others_with_it(refused: int) -> None:
    engine, total = local_engine(SPEC, 0), Watched(table("native"))
    total.add(engine.loss(PARAMS, 1, ids(1), ids(2), total)[2])
    before = total.mean()
    total.parts.clear()
    total.refused = refused
    with pytest.raises(PeerFault):
        engine.loss(PARAMS, 1, ids(3), ids(4), total)
    total.refused = -1
    assert total.count == 1
    assert torch.equal(total.mean(), before)
    engine.loss(PARAMS, 1, ids(3), ids(4), total)
    assert not torch.equal(total.mean(), before)
    engine.take_back()
    engine.take_back()  # once
    assert torch.equal(total.mean(), before)


def test_the_mean_takes_the_memory_of_the_sum() -> None:
    total = GradientSum(1000)
    total.add(torch.arange(1000.0) / 8)
    total.add(torch.arange(1000.0) / 4)
    held, expected = total._sum_P, total.mean()
    assert held is not None
    mean_P = total.take_mean()
    assert mean_P.data_ptr() == held.data_ptr()
    assert torch.equal(mean_P, expected)
    assert total._sum_P is None, "freed until the next gradient"


# --- slices ---


@pytest.mark.parametrize("numerics", ["native", "seq-f32/1"])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_step_in_slices_has_the_bits_of_a_whole_one(
    numerics: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, plan = replace(SPEC.optimizer, name=name), stage_of(SPEC, 0).plan
    matrices, ends = muon_matrices(spec, plan), list[Tensor]()
    for size in (1 << 20, 128):
        monkeypatch.setattr(optimizer, "SLICE", size)
        params_P, state = PARAMS.clone(), OptimizerState.zeros(NUMEL, matrices)
        for seed in (2, 3):
            grad_P = init_flat(plan, seed)
            optimizer.optimizer_step(
                table(numerics), params_P, grad_P, state, 0.01, spec, plan.decayed, matrices
            )
            assert torch.equal(grad_P, init_flat(plan, seed)), "the clip is not written"
        ends += [params_P, state.m_P, state.v_A]
    assert all(torch.equal(*pair) for pair in zip(ends[:3], ends[3:], strict=True))


@pytest.mark.rule("T17", "T21")
@pytest.mark.parametrize("far", [False, True])
def test_a_merge_in_slices_is_the_merge_and_declines_as_a_whole(
    far: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outer_step, "MERGE_SLICE", 16)
    rng = torch.Generator().manual_seed(1)
    theta, hat, now, phi, momentum = (torch.randn(100, generator=rng) for _ in range(5))
    hat[97] = 1e12 if far else hat[97]
    snapshot = FragmentSnapshot(
        exchange=0,
        fragment=0,
        theta_P=theta,
        anchor_P=theta,
        anchor_root=Digest(bytes(32)),
        tokens=1,
        step=1,
        phi_P=phi,
        residual_P=torch.zeros(0),
    )
    merge = Merge(snapshot, hat, 300_000_000, PRESETS["noloco"], None, 1, Digest(bytes(32)))
    due, due_theta, due_nano = apply_merge(merge, OuterState(phi, momentum), now)
    assert (due_nano == 0) is far
    assert merge_in_place(merge, OuterState(phi, momentum), now) == due_nano
    assert torch.equal(phi, due.phi_F)
    assert torch.equal(momentum, due.momentum_F)
    assert torch.equal(now, due_theta)


def test_a_partner_that_is_not_finite_leaves_every_slice_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outer_step, "MERGE_SLICE", 16)
    theta, hat = torch.zeros(100), torch.zeros(100)
    hat[99] = float("nan")
    snapshot = FragmentSnapshot(
        exchange=0,
        fragment=0,
        theta_P=theta,
        anchor_P=theta,
        anchor_root=Digest(bytes(32)),
        tokens=1,
        step=1,
        phi_P=theta,
        residual_P=torch.zeros(0),
    )
    merge = Merge(snapshot, hat, 300_000_000, PRESETS["noloco"], None, 1, Digest(bytes(32)))
    phi, momentum, now = torch.ones(100), torch.ones(100), torch.ones(100)
    with pytest.raises(PeerFault):
        merge_in_place(merge, OuterState(phi, momentum), now)
    assert all(bool((tensor == 1).all()) for tensor in (phi, momentum, now))
