"""What a solver keeps for its checkers follows from the spec, is said, and is refused where it does not fit."""

import pytest

from swarm.config.load import parse_run_file, run_spec
from swarm.config.spec import DataSpec, RunSpec
from swarm.config.tolerance import STEPS_MAX
from swarm.errors import BadConfig
from swarm.ledger.transition.runs import rounds_kept
from swarm.node.launch.sizing import (
    check_retention,
    check_window,
    keeps_windows,
    log_bytes,
    retention_of,
    window_bytes,
    windows_per_round,
)
from swarm.primitives.codec import replace
from swarm.training.model.stages import plan_stages
from swarm.types import NO_DIGEST

TEXT = """
[run]
recipe = "noloco"
numerics = "seq-f32/1"
[model]
hidden_size = 128
num_layers = 2
intermediate_size = 344
seq_len = 128
[training]
microbatch_size = 8
microbatches_per_step = 1
inner_steps_max = 100
round_blocks = 10
[outer]
fragments = 4
[checks]
window_steps = 10
challenge_window_blocks = 120
[deadlines]
step_s = 3.0
hop_s = 1.5
exchange_s = 5.0
[ledger]
epoch_blocks = 60
"""
FREE_BYTES = 1 << 50


def a_spec(text: str = TEXT) -> RunSpec:
    return run_spec(
        parse_run_file(text, "run.toml"),
        data=DataSpec("bytes", NO_DIGEST, 12_000_000, NO_DIGEST, 600_000),
    )


def test_a_window_is_its_state_and_what_was_signed_for_it() -> None:
    spec = a_spec()
    for stage, plan in enumerate(plan_stages(spec.model, spec.num_stages)):
        numel = plan.num_parameters
        messages = 10 * 8 * 128 * 128 * 2
        assert 20 * numel + messages < window_bytes(spec, stage) < 21 * numel + messages
    middle = replace(spec, num_stages=1)
    assert window_bytes(middle, 0) < 21 * sum(
        plan.num_parameters for plan in plan_stages(spec.model, 1)
    )


def test_the_launcher_keeps_a_seat_in_every_stage() -> None:
    spec = a_spec()
    one, all_ = retention_of(spec, is_owner=False), retention_of(spec, is_owner=True)
    assert one.rounds == rounds_kept(spec) > 12
    assert one.windows == windows_per_round(spec) * one.rounds
    assert one.num_bytes == one.windows * one.window_bytes
    assert one.num_bytes < all_.num_bytes < 2 * one.num_bytes + 1
    assert all_.text.startswith(f"keeps {one.windows} windows of ")
    assert f"for {one.rounds} rounds for each of 2 seats: 2." in all_.text
    assert all_.text.endswith(" GB at most")


@pytest.mark.rule("N13", "S26")
def test_what_does_not_fit_is_refused_with_the_number_that_does() -> None:
    spec = a_spec()
    kept = retention_of(spec, is_owner=True)
    check_retention(spec, kept, quota_mb=8_000, free_bytes=FREE_BYTES, held_bytes=0)
    with pytest.raises(BadConfig, match="disk_quota_mb is 1000") as caught:
        check_retention(spec, kept, quota_mb=1_000, free_bytes=FREE_BYTES, held_bytes=0)
    needed_mb = int(caught.value.hint.split()[2])
    check_retention(spec, kept, quota_mb=needed_mb, free_bytes=FREE_BYTES, held_bytes=0)
    with pytest.raises(BadConfig, match="MiB are free on this disk") as caught:
        check_retention(spec, kept, quota_mb=8_000, free_bytes=1 << 20, held_bytes=1 << 20)
    assert caught.value.hint.startswith("df -h")
    check_retention(spec, kept, quota_mb=8_000, free_bytes=1 << 20, held_bytes=8_000 << 20)


def replayed(spec: RunSpec) -> RunSpec:
    """A run whose windows are replayed, however long they are."""
    return replace(spec, checks=replace(spec.checks, way="replay", window_steps=10))


@pytest.mark.rule("N13")
def test_a_window_that_no_peer_checks_is_refused_before_training() -> None:
    spec = replayed(a_spec(TEXT.replace("intermediate_size = 344", "intermediate_size = 64000")))
    kept = retention_of(spec, is_owner=False)
    with pytest.raises(BadConfig, match="no peer checks more than"):
        check_retention(spec, kept, quota_mb=1 << 29, free_bytes=FREE_BYTES, held_bytes=0)


def test_the_steps_that_would_fit_are_named() -> None:
    """The state alone fits here, so shorter windows help; where it does not, only smaller stages do."""
    base = a_spec(TEXT.replace("inner_steps_max = 100", "inner_steps_max = 2000"))
    spec = replace(base, checks=replace(base.checks, window_steps=2000))
    with pytest.raises(
        BadConfig, match=r"takes \d+ MB, and no peer checks more than 268"
    ) as caught:
        check_window(spec)
    steps = int(caught.value.hint.split()[3])
    assert caught.value.hint == f"[checks] window_steps = {steps} in the run file"
    check_window(replace(base, checks=replace(base.checks, window_steps=steps)))
    with pytest.raises(BadConfig):
        check_window(replace(base, checks=replace(base.checks, window_steps=steps + 5)))
    check_window(replace(spec, numerics="native"))
    large = replayed(a_spec(TEXT.replace("intermediate_size = 344", "intermediate_size = 64000")))
    with pytest.raises(BadConfig) as caught:
        check_window(large)
    assert "num_stages" in caught.value.hint


def test_a_native_run_keeps_windows_if_it_is_checked_within_a_tolerance() -> None:
    """And a state more in each: the one at its end. With fragments in four bits nothing is checked."""
    spec = a_spec()
    assert keeps_windows(spec)
    coarse = replace(spec, numerics="native", outer=replace(spec.outer, codec="int4-mean"))
    assert not keeps_windows(coarse)
    fine = replace(coarse, outer=replace(spec.outer, codec="int8"))
    assert keeps_windows(fine) == (spec.checks.window_steps <= STEPS_MAX)
    short = replace(fine, checks=replace(spec.checks, window_steps=5))
    assert keeps_windows(short)
    assert window_bytes(short, 0) > window_bytes(replace(short, numerics="seq-f32/1"), 0)


def test_a_run_whose_logs_are_too_long_is_checked_at_elements() -> None:
    """Its windows have one step, and most logs no state; nobody fetches one."""
    spec = a_spec(TEXT.replace("intermediate_size = 344", "intermediate_size = 64000"))
    assert spec.checks.spots
    assert spec.checks.window_steps == 1
    check_window(spec)
    kept = retention_of(spec, is_owner=False)
    assert kept.is_spotted
    assert log_bytes(kept) < kept.num_bytes + kept.rounds * (100 << 20)
    whole = retention_of(replayed(spec), is_owner=False)
    assert kept.window_bytes < whole.window_bytes / 5
