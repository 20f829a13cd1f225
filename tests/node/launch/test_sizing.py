"""The needs of a run are reported before it begins, and a machine that cannot hold it learns what it lacks."""

from pathlib import Path

import pytest
import trio

from swarm.config.load import parse_run_file, planned_data, run_spec
from swarm.config.resources import packaged_file
from swarm.config.schema import NodeConfig
from swarm.config.spec import RunSpec
from swarm.errors import BadConfig
from swarm.events import Event
from swarm.ledger.transition.runs import checkpoints_kept
from swarm.node.launch.fit import check_fits, memory_bytes
from swarm.node.launch.sizing import (
    ABOUT_BYTES,
    BESIDE_BYTES,
    LEAST_BYTES,
    NODE_BYTES,
    SHELF_BYTES,
    STEADY_BYTES,
    blob_bytes,
    check_blobs,
    check_memory,
    followed,
    sizing_of,
    window_bytes,
)
from swarm.node.reporting import EventLog
from swarm.primitives.codec import replace
from swarm.training.model.stages import plan_stages
from swarm.types import NO_DIGEST, StageIndex

FREE_BYTES = 1 << 50


def packaged(name: str) -> RunSpec:
    file = parse_run_file(packaged_file(name), name)
    return run_spec(file, data=planned_data(file), init_root=NO_DIGEST)


def test_the_sizes_of_the_largest_run_are_those_of_its_file() -> None:
    spec = packaged("run-6b8.toml")
    sizing = sizing_of(spec, 2_000)
    assert sizing.stages == tuple(p.num_parameters for p in plan_stages(spec.model, 4))
    assert sizing.parameters == sum(sizing.stages) == 6_738_415_616
    assert (sizing.tokens_per_step, sizing.tokens) == (1 << 21, 25_000 << 21)
    assert (sizing.round_s, sizing.run_s) == (1_800.0, 900_000.0)
    assert sizing.replica_tokens_per_s == 50 * 128 * 1024 / 1_800
    waiting = 8 * 4 * 1024 * 8 * (10 * 4096 + 4 * 11_008)  # eight passes of stage 0
    assert sizing.seat_memory_bytes == NODE_BYTES + STEADY_BYTES * sizing.stages[0] + waiting
    assert sizing.alone_memory_bytes > NODE_BYTES + STEADY_BYTES * sizing.parameters + 3 * waiting
    assert sizing.shelf_bytes == SHELF_BYTES * max(sizing.stages)
    assert sizing.seat_memory_bytes > NODE_BYTES + LEAST_BYTES * max(sizing.stages)
    assert sizing.microbatch_bytes_per_round == 2 * 50 * 128 * (8 << 20), "up and down"
    assert 1.01 < sizing.trade_bytes_per_round / max(sizing.stages) < 1.02, "int8, with its scales"
    sent = sizing.microbatch_bytes_per_round + sizing.trade_bytes_per_round
    assert sizing.wire_bits_per_s == 8 * sent / 1_800
    assert sizing.shard_file_bytes == 20 * max(sizing.stages)


def test_passes_that_wait_for_their_gradients_count_where_they_are_more_than_a_step() -> None:
    """A micro-batch of four sequences of 1024 tokens, in a model of one stage: one at a time."""
    spec = packaged("run-125m.toml")
    sizing = sizing_of(spec, 2_000)
    kept = 4 * 4096 * (12 * (10 * 768 + 4 * 2048) + 3 * 32_000)
    assert sizing.seat_memory_bytes == NODE_BYTES + STEADY_BYTES * sizing.parameters + kept
    two = replace(spec, num_stages=2, microbatches_per_step=256)
    waiting = 10 * 4 * 4096 * 6 * (10 * 768 + 4 * 2048)
    numel = sizing_of(two, 2_000).stages[0]
    assert sizing_of(two, 2_000).seat_memory_bytes == NODE_BYTES + STEADY_BYTES * numel + waiting


def test_muon_keeps_no_second_moments_of_its_matrices() -> None:
    adamw = replace(packaged("run-125m.toml"), numerics="seq-f32/1")
    muon = replace(adamw, optimizer=replace(adamw.optimizer, name="muon"))
    (plan,) = plan_stages(muon.model, 1)
    spared = 4 * sum(matrix.span.numel for matrix in plan.matrices)
    more, less = sizing_of(adamw, 2_000), sizing_of(muon, 2_000)
    assert 0.5 < spared / (4 * plan.num_parameters) < 0.7
    assert less.seat_memory_bytes > NODE_BYTES + ABOUT_BYTES * plan.num_parameters
    assert more.seat_memory_bytes - less.seat_memory_bytes == spared, "between two steps"
    assert more.shard_file_bytes - less.shard_file_bytes == spared
    assert window_bytes(adamw, 0) - window_bytes(muon, 0) == spared
    assert (more.optimizer_cost, more.replica_tokens_per_step) == (0.0, 1 << 16)
    least = NODE_BYTES + LEAST_BYTES * plan.num_parameters  # in a step: it has its updates there
    check_memory(muon, is_owner=False, memory_bytes=least, devices=("cpu",))
    with pytest.raises(BadConfig):
        check_memory(muon, is_owner=False, memory_bytes=least - 1, devices=("cpu",))


@pytest.mark.parametrize(("num_stages", "sides"), [(1, 0), (2, 1), (3, 2), (4, 2)])
def test_a_seat_sends_to_each_neighbour_it_has(num_stages: int, sides: int) -> None:
    spec = replace(packaged("run-6b8.toml"), num_stages=num_stages, microbatches_per_step=1)
    sizing = sizing_of(replace(spec, inner_steps_max=1), 1_000)
    assert sizing.microbatch_bytes_per_round == sides * (8 << 20)


def test_a_seat_keeps_its_stage_and_the_one_behind_it() -> None:
    spec = packaged("run-6b8.toml")
    assert followed(spec, StageIndex(3)) == {3, 0}
    assert followed(packaged("run-125m.toml"), StageIndex(0)) == {0}
    sizing, text = sizing_of(spec, 2_000), spec.data.train_bytes + spec.data.heldout_bytes
    both = 4 * (sizing.stages[3] + sizing.stages[0])
    assert sizing.seat_blob_bytes == text + (checkpoints_kept(spec) + 1) * both
    assert sizing.owner_blob_bytes == blob_bytes(spec, range(4)) > sizing.seat_blob_bytes


def test_windows_count_where_others_can_compute_them_again() -> None:
    exact = packaged("demo.toml")
    native = replace(exact, numerics="native")
    assert sizing_of(exact, 1_000).seat_blob_bytes > 2 * sizing_of(native, 1_000).seat_blob_bytes


@pytest.mark.rule("N13", "S26")
def test_a_machine_that_is_too_small_is_told_what_it_lacks() -> None:
    spec = packaged("run-6b8.toml")
    sizing = sizing_of(spec, 2_000)
    least = NODE_BYTES + LEAST_BYTES * sizing.parameters
    check_memory(spec, is_owner=True, memory_bytes=least, devices=("cpu",))
    with pytest.raises(BadConfig, match="at least 135 GB of memory here") as caught:
        check_memory(spec, is_owner=True, memory_bytes=least - 1, devices=("cpu",))
    assert "solve = false in node.toml" in caught.value.hint
    with pytest.raises(BadConfig, match=r"one seat: 1,619M parameters\), and this machine has 24"):
        check_memory(spec, is_owner=False, memory_bytes=24 * 10**9, devices=("cpu",))
    beside = NODE_BYTES + BESIDE_BYTES * min(sizing.stages)
    check_memory(spec, is_owner=False, memory_bytes=beside, devices=("cuda:0",))
    with pytest.raises(BadConfig):
        check_memory(spec, is_owner=False, memory_bytes=beside - 1, devices=("cuda:0",))


@pytest.mark.rule("N13", "S26")
def test_a_quota_that_is_too_small_is_told_the_one_that_is_not() -> None:
    spec = packaged("run-1b3.toml")
    for is_owner in (False, True):
        with pytest.raises(BadConfig, match="disk_quota_mb is 8000") as caught:
            check_blobs(
                spec, is_owner=is_owner, quota_mb=8_000, free_bytes=FREE_BYTES, held_bytes=0
            )
        fitting = int(caught.value.hint.split()[2])
        check_blobs(spec, is_owner=is_owner, quota_mb=fitting, free_bytes=FREE_BYTES, held_bytes=0)
        with pytest.raises(BadConfig, match="MiB are free on this disk"):
            check_blobs(spec, is_owner=is_owner, quota_mb=fitting, free_bytes=7, held_bytes=7)
        check_blobs(spec, is_owner=is_owner, quota_mb=fitting, free_bytes=0, held_bytes=FREE_BYTES)


@pytest.mark.rule("N13")
def test_who_does_not_train_may_follow_any_run_and_who_does_is_held_to_the_machine(
    tmp_path: Path,
) -> None:
    events = list[Event]()

    async def check(spec: RunSpec, config: NodeConfig) -> None:
        await check_fits(
            spec,
            is_owner=True,
            config=config,
            devices=("cpu",),
            blobs=tmp_path,
            report=EventLog(tmp_path, events.append),
        )

    vast = replace(packaged("run-6b8.toml"), num_stages=32)
    model = replace(vast.model, hidden_size=16_384, num_layers=256)
    trio.run(check, replace(vast, model=model), NodeConfig(solve=False))
    with pytest.raises(BadConfig, match=f"has {memory_bytes() / 1e9:.0f}"):
        trio.run(check, replace(vast, model=model), NodeConfig())
    with pytest.raises(BadConfig, match="disk_quota_mb is 100"):
        trio.run(check, packaged("run-125m.toml"), NodeConfig(disk_quota_mb=100))
    assert not events
    trio.run(check, packaged("demo.toml"), NodeConfig())
    assert ["keeps" in event.text for event in events] == [True]
