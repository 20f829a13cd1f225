"""Before a run starts, the needs of its file are listed: how much memory, disk, wire and pace, and what is
missing.
"""

import json

import pytest

from swarm.cli.commands.dry_run import dry_run_lines, dry_run_notes, dry_run_object
from swarm.cli.style import Ink
from swarm.config.schema import NodeConfig
from swarm.limits import Bound, Memory
from swarm.node.launch.sizing import sizing_of
from swarm.primitives.codec import replace
from tests.node.launch.test_sizing import packaged, plain

SPEC = packaged("run-6b8.toml")
SIZING = sizing_of(SPEC, 2_000)
VAST = Memory(1 << 50, Bound.MACHINE)


def test_every_line_says_what_it_is_about() -> None:
    lines = dry_run_lines(SPEC, SIZING, "9.0 GB to train on", Ink())
    plan = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert list(plan) == "run text steps rounds model pace update seat wire disk you".split()
    assert plan["run"].startswith("llama-6b8: 8.09G parameters, native-bf16, 11 stages of up to 16")
    assert plan["text"] == "9.0 GB to train on"
    assert "2,097,152 tokens each" in plan["steps"]
    assert plan["rounds"].startswith("500 of 30 min 0 s: 10 d 10 h, 52.43G tokens")
    assert plan["model"].startswith("the first checkpoint comes about 4 h 0 min after the run is")
    assert "3,641 tokens/s" in plan["pace"]
    assert "19.0 TFLOP/s" in plan["pace"]
    demo = packaged("demo.toml")
    assert "GFLOP/s" in "".join(dry_run_lines(demo, sizing_of(demo, 1_000), None, Ink()))
    assert "21.5 GB of memory" in plan["seat"]
    assert "3.5 GB to other stages (264 bytes a token and cut, 0.0645 d)" in plan["wire"]
    assert "19.1 Mbit/s" in plan["wire"]
    assert "51.6 GB at most" in plan["disk"]
    assert "38.3 GB while it trains, in the place of memory" in plan["disk"]
    assert "194.8 GB of memory" in plan["you"]
    assert plan["update"].startswith("adamw: little")


def test_muon_says_what_its_step_costs() -> None:
    """In proportion to the width over the tokens of a step: 3.75 to 5 of them, less what the embedding adds."""
    spec = replace(SPEC, optimizer=replace(SPEC.optimizer, name="muon"))
    sizing = sizing_of(spec, 2_000)
    printed = "".join(dry_run_lines(spec, sizing, None, Ink()))
    assert (
        "muon: 11.0% of forward and backward by count, 3.52 d / N at d 4096 and N 131,072"
        in printed
    )
    assert dry_run_object(spec, sizing, None, [])["optimizer"] == "muon"


@pytest.mark.parametrize(
    ("name", "line", "memory", "without"),
    [("run-1b3.toml", 20e6, 16e9, 481.5e6), ("run-6b8.toml", 80e6, 24e9, 480.6e6)],
)
def test_the_large_sizes_ask_for_a_home_line_and_a_home_machine(
    name: str, line: float, memory: float, without: float
) -> None:
    spec = packaged(name)
    assert sizing_of(spec, 2_000).wire_bits_per_s < line
    assert sizing_of(spec, 2_000).seat_memory_bytes < memory
    whole = plain(name, spec.num_stages)
    assert sizing_of(whole, 2_000).wire_bits_per_s == pytest.approx(without, rel=1e-3)
    assert sizing_of(whole, 2_000).seat_memory_bytes < sizing_of(spec, 2_000).seat_memory_bytes


def test_a_run_in_one_piece_sends_nothing_between_stages() -> None:
    spec = packaged("run-125m.toml")
    lines = dry_run_lines(spec, sizing_of(spec, 2_000), None, Ink())
    plan = {line.split()[0]: line for line in lines}
    assert "stages" not in plan["wire"]
    assert "1 stage of up to 8 replicas" in plan["run"]
    assert "not there yet" in plan["text"]


def test_what_is_missing_is_reported_with_its_remedy() -> None:
    config = NodeConfig()
    small = dry_run_notes(SPEC, SIZING, config, Memory(15 * 10**9, Bound.MACHINE))
    assert "this machine has 15 GB of memory, too little for a seat; solve = false" in small[0]
    assert "disk_quota_mb is 8000; the launcher of this run needs 246921 in node.toml" in small[1]
    assert "give the ticket to people you trust" in small[2]
    assert (
        "every stage at once"
        in dry_run_notes(SPEC, SIZING, config, Memory(150 * 10**9, Bound.MACHINE))[0]
    )
    follower = NodeConfig(solve=False)
    assert len(dry_run_notes(SPEC, SIZING, follower, Memory(1, Bound.MACHINE))) == 1
    exact = packaged("demo.toml")
    assert not dry_run_notes(exact, sizing_of(exact, 1_000), config, VAST)


def test_the_object_has_fixed_keys_and_is_json() -> None:
    plan = dry_run_object(SPEC, SIZING, None, ["a note"])
    assert json.loads(json.dumps(plan)) == plan
    assert plan["stages"] == list(SIZING.stages)
    assert (plan["text"], plan["notes"]) == (None, ["a note"])
    for key in "run numerics parameters seat_memory_bytes run_s wire_bits_per_s".split():
        assert key in plan
