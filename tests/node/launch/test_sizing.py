"""The needs of a run are reported before it begins, and a machine that cannot hold it learns what it lacks."""

import dataclasses
import re
from pathlib import Path

import pytest
import trio

from swarm.cli.commands.dry_run import dry_run_lines
from swarm.cli.style import Ink
from swarm.config.load import parse_run_file, planned_data, run_spec
from swarm.config.resources import packaged_file
from swarm.config.schema import NodeConfig
from swarm.config.spec import ADAPTER_TARGETS, NANO, AdapterSpec, RunSpec
from swarm.errors import BadConfig
from swarm.events import Event
from swarm.ledger.transition.runs import checkpoints_kept
from swarm.limits import Bound, Memory
from swarm.machine import read_memory
from swarm.node.launch.fit import check_fits
from swarm.node.launch.sizing import (
    ABOUT_BYTES,
    BESIDE_BYTES,
    LEAST_BYTES,
    NODE_BYTES,
    SPILL_BYTES,
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
from swarm.testing.ledger import small_run_spec
from swarm.training.devices.select import KEPT_BYTES_MAX, passes_waiting
from swarm.training.model.stages import plan_stages, plans_of
from swarm.types import Digest, StageIndex

FREE_BYTES = 1 << 50


def packaged(name: str) -> RunSpec:
    file = parse_run_file(packaged_file(name), name)
    spec = run_spec(file, data=planned_data(file))
    return replace(
        spec,
        optimizer=replace(spec.optimizer, name="adamw"),
        outer=replace(spec.outer, trades_per_round=1, codec="int8"),
    )


def plain(name: str, num_stages: int = 4) -> RunSpec:
    """The run without bottlenecks, in fewer stages: all of a token crosses a cut, in bfloat16."""
    spec = replace(packaged(name), num_stages=num_stages)
    model = replace(spec.model, bottleneck_rank=0, bottleneck_stages=1)
    return replace(spec, model=model, wire=replace(spec.wire, activations="bf16"))


def machine(num_bytes: int) -> Memory:
    return Memory(num_bytes, Bound.MACHINE)


def replaced(memory: Memory, num_bytes: int) -> Memory:
    return dataclasses.replace(memory, num_bytes=num_bytes)


def test_a_bottleneck_costs_parameters_and_spares_the_line() -> None:
    """Ten cuts of the largest run: a row for every token, two matrices and a norm at each."""
    spec, without = packaged("run-6b8.toml"), plain("run-6b8.toml", 11)
    sizing, before = sizing_of(spec, 2_000), sizing_of(without, 2_000)
    D, K, V = spec.model.hidden_size, spec.model.bottleneck_rank, spec.model.vocab_size
    assert sizing.parameters - before.parameters == 10 * (V * D + 2 * K * D + K)
    assert sizing.cut_bytes_per_token == K * (1 / 2 + 1 / 64)
    assert before.cut_bytes_per_token == 2 * D
    assert sizing.microbatch_bytes_per_round == 2 * 50 * 128 * 1024 * K * 33 // 64
    assert sizing.wire_bits_per_s < before.wire_bits_per_s / 20


def test_the_sizes_of_the_largest_run_are_those_of_its_file() -> None:
    spec = plain("run-6b8.toml")
    sizing = sizing_of(spec, 2_000)
    assert sizing.stages == tuple(p.num_parameters for p in plan_stages(spec.model, 4))
    assert sizing.parameters == sum(sizing.stages) == 6_738_415_616
    assert (sizing.tokens_per_step, sizing.tokens) == (1 << 21, 25_000 << 21)
    assert (sizing.round_s, sizing.run_s) == (1_800.0, 900_000.0)
    assert sizing.replica_tokens_per_s == 50 * 128 * 1024 / 1_800
    one_pass = (
        4 * 1024 * 8 * (10 * 4096 + 4 * 11_008)
    )  # of stage 0; those that wait are computed again
    assert 8 * one_pass > KEPT_BYTES_MAX
    about = ABOUT_BYTES * max(sizing.stages)
    assert about > STEADY_BYTES * max(sizing.stages) + one_pass
    assert sizing.seat_memory_bytes == NODE_BYTES + about
    assert sizing.alone_memory_bytes == NODE_BYTES + ABOUT_BYTES * sizing.parameters
    assert sizing.spill_bytes == SPILL_BYTES * max(sizing.stages)
    feedback = replace(spec, outer=replace(spec.outer, codec="int4"))
    assert sizing_of(feedback, 2_000).spill_bytes == (SPILL_BYTES + 20) * max(sizing.stages)
    assert sizing.seat_memory_bytes > NODE_BYTES + LEAST_BYTES * max(sizing.stages)
    assert sizing.microbatch_bytes_per_round == 2 * 50 * 128 * (8 << 20), "up and down"
    assert 0.96 < sizing.trade_bytes_per_round / max(sizing.stages) < 0.97, "int8, pressed"
    sent = sizing.microbatch_bytes_per_round + sizing.trade_bytes_per_round
    assert sizing.wire_bits_per_s == 8 * sent / 1_800
    assert sizing.shard_file_bytes == 20 * max(sizing.stages)


def test_passes_that_wait_for_their_gradients_count_where_they_are_more_than_a_step() -> None:
    """A micro-batch of four sequences of 1024 tokens, in a model of one stage: one at a time."""
    spec = packaged("run-125m.toml")
    sizing = sizing_of(spec, 2_000)
    kept = 4 * 4096 * (12 * (10 * 768 + 4 * 2048) + 3 * 32_000)
    assert sizing.seat_memory_bytes == NODE_BYTES + STEADY_BYTES * sizing.parameters + kept
    two = replace(spec, num_stages=2, microbatches_per_step=256, microbatch_size=1)
    shorter = replace(two, model=replace(spec.model, seq_len=256))
    for run, tokens in ((two, 1024), (shorter, 256)):
        one_pass = 4 * tokens * 6 * (10 * 768 + 4 * 2048)
        waiting = passes_waiting(run, plan_stages(run.model, 2)[0]) * one_pass
        again = one_pass if waiting > KEPT_BYTES_MAX else waiting
        first, last = sizing_of(run, 2_000).stages
        least = max(ABOUT_BYTES * last, STEADY_BYTES * first + again)
        assert sizing_of(run, 2_000).seat_memory_bytes >= NODE_BYTES + least


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
    check_memory(muon, is_owner=False, memory=machine(least), devices=("cpu",))
    with pytest.raises(BadConfig):
        check_memory(muon, is_owner=False, memory=machine(least - 1), devices=("cpu",))


@pytest.mark.rule("T40")
def test_an_adapter_costs_its_base_once_and_its_own_state() -> None:
    """Of 1.3B the base is 4 bytes a weight, where training all of them takes 24."""
    whole = replace(packaged("run-1b3.toml"), microbatches_per_step=1)
    roots = (Digest(b"\x01" * 32),) * whole.num_stages
    adapter = AdapterSpec(16, 32 * NANO, ADAPTER_TARGETS, roots)
    tuned = replace(whole, adapter=adapter)
    all_of_it, sizing = sizing_of(whole, 2_000), sizing_of(tuned, 2_000)
    assert (sum(all_of_it.frozen), sizing.frozen) == (0, all_of_it.stages)
    assert sizing.parameters == sum(p.num_parameters for p in plans_of(tuned))
    assert 0.005 < sizing.parameters / all_of_it.parameters < 0.02
    own = sizing.seat_memory_bytes - NODE_BYTES - 4 * max(sizing.frozen)
    assert STEADY_BYTES * max(sizing.stages) < own < all_of_it.seat_memory_bytes / 4
    assert sizing.trade_bytes_per_round < all_of_it.trade_bytes_per_round / 50
    assert sizing.checkpoint_bytes == 4 * max(sizing.stages)
    assert 0.6 < sizing.seat_flops_per_s / all_of_it.seat_flops_per_s < 0.7
    text = tuned.data.train_bytes + tuned.data.heldout_bytes
    mine = 4 * sum(sizing.stages) * (checkpoints_kept(tuned) + 1) + 4 * sum(sizing.frozen)
    assert sizing.owner_blob_bytes == text + mine
    least = NODE_BYTES + LEAST_BYTES * min(sizing.stages) + 4 * min(sizing.frozen)
    check_memory(tuned, is_owner=False, memory=machine(least), devices=("cpu",))
    with pytest.raises(BadConfig):
        check_memory(tuned, is_owner=False, memory=machine(least - 1), devices=("cpu",))
    printed = "".join(dry_run_lines(tuned, sizing, None, Ink()))
    assert "rank 16, scale 2, on q, k, v, o, gate, up, down" in printed


@pytest.mark.parametrize(("num_stages", "sides"), [(1, 0), (2, 1), (3, 2), (4, 2)])
def test_a_seat_sends_to_each_neighbour_it_has(num_stages: int, sides: int) -> None:
    spec = replace(plain("run-6b8.toml"), num_stages=num_stages, microbatches_per_step=1)
    sizing = sizing_of(replace(spec, inner_steps_max=1), 1_000)
    assert sizing.microbatch_bytes_per_round == sides * (8 << 20)


def test_every_trade_of_a_round_counts_on_the_wire_and_in_the_windows() -> None:
    once, interval_ms = small_run_spec(), 1000
    often = replace(once, outer=replace(once.outer, trades_per_round=4))
    sizes = [sizing_of(spec, interval_ms) for spec in (once, often)]
    assert sizes[1].trade_bytes_per_round == 4 * sizes[0].trade_bytes_per_round
    assert window_bytes(often, 0) > window_bytes(once, 0)


def test_a_seat_keeps_its_stage_and_the_one_behind_it() -> None:
    spec = plain("run-6b8.toml")
    assert followed(spec, StageIndex(3)) == {3, 0}
    assert followed(packaged("run-125m.toml"), StageIndex(0)) == {0}
    sizing, text = sizing_of(spec, 2_000), spec.data.train_bytes + spec.data.heldout_bytes
    both = 4 * (sizing.stages[3] + sizing.stages[0])
    assert sizing.seat_blob_bytes == text + (checkpoints_kept(spec) + 1) * both
    assert sizing.owner_blob_bytes == blob_bytes(spec, range(4)) > sizing.seat_blob_bytes


def test_windows_count_where_others_can_compute_them_again() -> None:
    exact = packaged("demo.toml")
    native = replace(exact, numerics="native-bf16")
    assert sizing_of(exact, 1_000).seat_blob_bytes > 2 * sizing_of(native, 1_000).seat_blob_bytes
    tolerated = replace(exact, numerics="native")  # with a second state in each window
    assert sizing_of(tolerated, 1_000).seat_blob_bytes > sizing_of(exact, 1_000).seat_blob_bytes


@pytest.mark.rule("N13", "S26")
def test_a_machine_that_is_too_small_is_told_what_it_lacks() -> None:
    spec = plain("run-6b8.toml")
    sizing = sizing_of(spec, 2_000)
    least = NODE_BYTES + LEAST_BYTES * sizing.parameters
    check_memory(spec, is_owner=True, memory=machine(least), devices=("cpu",))
    with pytest.raises(BadConfig, match="at least 135 GB of memory here") as caught:
        check_memory(spec, is_owner=True, memory=machine(least - 1), devices=("cpu",))
    assert "solve = false in node.toml" in caught.value.hint
    with pytest.raises(BadConfig, match=r"one seat: 1,619M parameters\), and this machine has 24"):
        check_memory(spec, is_owner=False, memory=machine(24 * 10**9), devices=("cpu",))
    beside = NODE_BYTES + BESIDE_BYTES * min(sizing.stages)
    check_memory(spec, is_owner=False, memory=machine(beside), devices=("cuda:0",))
    with pytest.raises(BadConfig):
        check_memory(spec, is_owner=False, memory=machine(beside - 1), devices=("cuda:0",))


@pytest.mark.rule("N13", "S26")
def test_a_container_of_one_gibibyte_refuses_a_run_that_would_end_it_and_says_what_fits() -> None:
    """The kernel ends who takes more there, and says nothing: so the peak counts, and not the least."""
    spec = plain("demo.toml", 1)
    shape = {"hidden_size": 640, "num_layers": 8, "intermediate_size": 1_680}
    heads = {"num_heads": 5, "num_kv_heads": 5}
    spec = replace(spec, model=replace(spec.model, **shape, **heads))
    numel = sizing_of(spec, 1_000).parameters
    assert 37e6 < numel < 41e6, numel
    small = Memory(1 << 30, Bound.GROUP, "/sys/fs/cgroup")
    for is_owner in (True, False):
        with pytest.raises(BadConfig) as caught:
            check_memory(spec, is_owner=is_owner, memory=small, devices=("cpu",))
        assert "39M parameters), and its control group leaves it 1.1 GB (/sys/fs/cgroup)" in str(
            caught.value
        )
        assert re.search(r": \d+M parameters fit$", str(caught.value))
        assert caught.value.hint.startswith("give the container more (docker run --memory")
        assert "solve = false in node.toml" in caught.value.hint
    peak = sizing_of(spec, 1_000).alone_memory_bytes
    check_memory(spec, is_owner=True, memory=replaced(small, peak), devices=("cpu",))
    with pytest.raises(BadConfig):
        check_memory(spec, is_owner=True, memory=replaced(small, peak - 1), devices=("cpu",))
    check_memory(spec, is_owner=True, memory=machine(peak - 1), devices=("cpu",))
    with pytest.raises(BadConfig, match="no model fits"):
        check_memory(spec, is_owner=True, memory=replaced(small, 1 << 20), devices=("cpu",))


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

    vast = replace(plain("run-6b8.toml"), num_stages=32)
    model = replace(vast.model, hidden_size=16_384, num_layers=256)
    trio.run(check, replace(vast, model=model), NodeConfig(solve=False))
    with pytest.raises(BadConfig, match=re.escape(read_memory().text)):
        trio.run(check, replace(vast, model=model), NodeConfig())
    with pytest.raises(BadConfig, match="disk_quota_mb is 100"):
        trio.run(check, packaged("run-125m.toml"), NodeConfig(disk_quota_mb=100))
    assert not events
    trio.run(check, packaged("demo.toml"), NodeConfig())
    assert ["keeps" in event.text for event in events] == [True]
