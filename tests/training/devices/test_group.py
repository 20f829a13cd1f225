"""Two processes compute what one does; one that dies costs a step at most, and the other goes on.

Real processes on the CPU, joined by gloo: those on GPUs differ in the device and in nccl.
"""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from swarm.config.spec import ADAPTER_TARGETS, NANO, AdapterSpec, RunSpec
from swarm.errors import DeviceLost, PeerFault, UsageError
from swarm.machine import IN_MEMORY
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.training.devices.engine import local_engine
from swarm.training.devices.group import GroupEngine
from swarm.training.model.bottleneck import with_ids
from swarm.training.model.profiles import BF16_NAME
from swarm.training.model.stages import init_flat, plan_stages, stage_of
from swarm.training.shard import Shard
from swarm.types import StageIndex
from tests.training.pipeline import a_spec
from tests.training.test_shard import MUON_SPEC, PLAN, SPEC, TOKENS, a_request

SHAPE = (SPEC.microbatch_size, SPEC.model.seq_len)
TOLERANCE = 1e-5
"""Of a gradient's length: the order of float32 sums differs, nothing else."""


@pytest.fixture
def groups() -> Iterator[list[GroupEngine]]:
    opened: list[GroupEngine] = []
    yield opened
    for group in opened:
        group.close()


def started(groups: list[GroupEngine], stage: int, numerics: str = "native") -> GroupEngine:
    group = GroupEngine(a_spec(numerics=numerics), stage, ("cpu", "cpu"))
    groups.append(group)
    group.start()
    return group


def kill(group: GroupEngine, rank: int) -> None:
    os.kill(group.pids[rank], signal.SIGKILL)


def ids(seed: int) -> Tensor:
    return torch.randint(0, 256, SHAPE, generator=torch.Generator().manual_seed(seed))


def activations(seed: int) -> Tensor:
    shape = (*SHAPE, SPEC.model.hidden_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def distance(mine: Tensor, theirs: Tensor) -> float:
    return float((mine - theirs).norm() / theirs.norm())


@pytest.mark.rule("T2b")
@pytest.mark.parametrize("numerics", ["native", BF16_NAME])
def test_a_first_stage_on_two_processes_is_the_one_on_one(
    groups: list[GroupEngine], numerics: str
) -> None:
    group, solo = started(groups, 0, numerics), local_engine(a_spec(numerics=numerics), 0)
    params_P = init_flat(stage_of(SPEC, 0).plan, 1)
    mine, theirs = group.gradients(params_P.numel()), solo.gradients(params_P.numel())
    for version in (1, 1, 2):
        params_P = params_P * (1.0 + version / 10)  # as a step would move them
        passes = [engine.forward(params_P, version, ids(version)) for engine in (group, solo)]
        if version == 2:
            assert distance(passes[0].output, passes[1].output) < TOLERANCE
            assert passes[0].output.dtype == torch.float32
        if version == 1:
            continue
        pull = activations(9)
        nothing, grad_P = group.backward(passes[0], pull)
        assert nothing is None
        assert grad_P.device.type == "meta"  # it stays where it was computed
        mine.add(grad_P)
        theirs.add(solo.backward(passes[1], pull)[1])
        with pytest.raises(UsageError):
            group.backward(passes[0], pull[:1])
    bound = TOLERANCE if numerics == "native" else 0.01
    assert distance(mine.take_mean(), theirs.take_mean()) < bound


@pytest.mark.rule("T2b", "T40")
def test_an_adapter_on_two_processes_is_the_one_on_one(groups: list[GroupEngine]) -> None:
    """The weights below it are in the memory that the processes share."""
    (base, _) = plan_stages(SPEC.model, 2)
    base_W = init_flat(base, 9)
    adapter = AdapterSpec(4, 8 * NANO, ADAPTER_TARGETS, (hash_of(base_W),) * 2)
    spec = replace(SPEC, adapter=adapter)
    group = GroupEngine(spec, 0, ("cpu", "cpu"), base_W=base_W)
    groups.append(group)
    group.start()
    solo = local_engine(spec, 0, base_W=base_W)
    params_P = init_flat(stage_of(spec, 0).plan, 1) + 0.01
    mine, theirs = group.gradients(params_P.numel()), solo.gradients(params_P.numel())
    passes = [engine.forward(params_P, 1, ids(1)) for engine in (group, solo)]
    assert distance(passes[0].output, passes[1].output) < TOLERANCE
    mine.add(group.backward(passes[0], activations(9))[1])
    theirs.add(solo.backward(passes[1], activations(9))[1])
    assert distance(mine.take_mean(), theirs.take_mean()) < TOLERANCE


@pytest.mark.rule("T2b", "T5a")
def test_behind_a_bottleneck_rows_and_gradients_differ_in_width_on_two_processes_too(
    groups: list[GroupEngine],
) -> None:
    """The stage in the middle of three: it takes five values and an id of each token, and sends five."""
    spec = a_spec(stages=3, form="int4", rank=5)
    group, solo = GroupEngine(spec, 1, ("cpu", "cpu")), local_engine(spec, 1)
    groups.append(group)
    params_P = init_flat(stage_of(spec, 1).plan, 1)
    x = torch.randn((*SHAPE, 5), generator=torch.Generator().manual_seed(1))
    inputs, pull = with_ids(spec.model, x, ids(2)), x.flip(0)
    (mine, theirs) = (engine.forward(params_P, 1, inputs) for engine in (group, solo))
    assert mine.output.shape == (*SHAPE, 5)
    assert distance(mine.output, theirs.output) < TOLERANCE
    grads = [group.backward(mine, pull)[0], solo.backward(theirs, pull)[0]]
    assert grads[0] is not None
    assert grads[1] is not None
    assert grads[0].shape == (*SHAPE, 5)
    assert distance(grads[0], grads[1]) < TOLERANCE


@pytest.mark.rule("T2b")
@pytest.mark.parametrize("spec", [SPEC, MUON_SPEC], ids=["adamw", "muon"])
def test_a_shard_on_two_processes_takes_the_step_of_one(
    groups: list[GroupEngine], spec: RunSpec
) -> None:
    group = started(groups, 1)
    start_P = Shard.initial(spec, StageIndex(1)).params_P
    mine = Shard(spec, StageIndex(1), start_P, engine=group)
    theirs = Shard(spec, StageIndex(1), start_P)
    for step in range(2):
        for number in range(3):
            loss, answer, _ = mine.loss(TOKENS, PLAN, a_request(number), 0)
            expected, payload, _ = theirs.loss(TOKENS, PLAN, a_request(number), 0)
            assert abs(loss - expected) <= 1 + step  # in 1e-6 nats
            assert len(answer) == len(payload)
        records = [shard.step(PLAN, step) for shard in (mine, theirs)]
        assert all(record is not None and len(record.microbatches) == 3 for record in records)
    assert distance(mine.params_P - start_P, theirs.params_P - start_P) < 1e-3
    assert mine.tokens_total == theirs.tokens_total
    assert not group.notices


@pytest.mark.rule("T2c")
def test_a_process_that_dies_costs_a_step_and_the_other_goes_on(groups: list[GroupEngine]) -> None:
    group = started(groups, 1)
    shard = Shard.initial(SPEC, StageIndex(1))
    shard = Shard(SPEC, StageIndex(1), shard.params_P, engine=group)
    shard.loss(TOKENS, PLAN, a_request(0), 0)
    before, version = shard.components(), shard.weights
    kill(group, 1)
    with pytest.raises(DeviceLost, match="going on with cpu"):
        shard.loss(TOKENS, PLAN, a_request(1), 0)
    assert shard.is_between_steps  # what was gathered went with it
    assert shard.weights > version  # and so did passes that waited
    assert shard.components() == before
    shard.loss(TOKENS, PLAN, a_request(2), 0)
    record = shard.step(PLAN, 0)
    assert record is not None
    assert len(record.microbatches) == 1
    assert len(group.pids) == 1
    kill(group, 0)
    for _ in range(2):
        with pytest.raises(DeviceLost):
            shard.loss(TOKENS, PLAN, a_request(3), 0)
    assert group.is_gone
    assert [text.partition(":")[0] for text in group.notices] == [
        "device cpu is lost, going on with cpu",
        "device cpu is lost, none is left",
    ]


@pytest.mark.rule("T2c")
def test_a_death_at_the_step_costs_that_step(groups: list[GroupEngine]) -> None:
    group = started(groups, 1)
    shard = Shard(SPEC, StageIndex(1), Shard.initial(SPEC, StageIndex(1)).params_P, engine=group)
    shard.loss(TOKENS, PLAN, a_request(0), 0)
    before = shard.components()
    kill(group, 0)
    assert shard.step(PLAN, 0) is None
    assert shard.components() == before
    assert shard.is_between_steps
    shard.begin_segment()
    shard.loss(TOKENS, PLAN, a_request(0), 0)
    assert shard.step(PLAN, 0) is not None


def test_junk_is_the_peers_fault_and_changes_nothing(groups: list[GroupEngine]) -> None:
    group = started(groups, 1)
    params_P = init_flat(stage_of(SPEC, 1).plan, 1)
    total = group.gradients(params_P.numel())
    good = group.loss(params_P, 1, activations(1), ids(1))
    total.add(good[2])
    bad = activations(2)
    bad[-1] = float("inf")  # in the part of the second process
    with pytest.raises(PeerFault):
        total.add(group.loss(params_P, 1, bad, ids(1))[2])
    assert total.count == 1
    solo = local_engine(SPEC, 1).loss(params_P, 1, activations(1), ids(1))
    assert distance(total.take_mean(), solo[2]) < TOLERANCE


def test_a_device_that_is_not_there_says_why(groups: list[GroupEngine]) -> None:
    groups.append(GroupEngine(SPEC, 1, ("cuda:15", "cuda:14")))
    with pytest.raises(DeviceLost, match=r"no device.*: device cuda:1. is lost, none is left: \w"):
        groups[0].start()
    assert groups[0].is_gone
    assert len(groups[0].notices) == 2


def test_closing_ends_the_processes_and_leaves_nothing(groups: list[GroupEngine]) -> None:
    def folders() -> set[Path]:
        return set(IN_MEMORY.glob("swarm-*")) if IN_MEMORY.is_dir() else set()

    before = folders()
    group = started(groups, 1)
    numbers = group.pids
    group.close()
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
    assert folders() <= before
    with pytest.raises(DeviceLost):
        group.loss(torch.zeros(1), 1, activations(1), ids(1))
    assert not group.notices


def test_a_seat_that_is_left_while_it_computes_ends_at_once(groups: list[GroupEngine]) -> None:
    """The event loop closes the engine while a worker waits for the processes."""
    group = started(groups, 1)
    params_P = init_flat(stage_of(SPEC, 1).plan, 1)
    group.loss(params_P, 1, activations(1), ids(1))
    ends, numbers = list[str](), group.pids

    def compute() -> None:
        try:
            for version in range(100_000):
                group.loss(params_P, version, activations(1), ids(1))
        except DeviceLost as lost:
            ends.append(str(lost))

    worker = threading.Thread(target=compute)
    worker.start()
    group.close()
    worker.join(10)
    assert len(ends) == 1
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
