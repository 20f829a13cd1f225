"""Splits are small where there are rounds to spare, and ten rounds are enough at the shapes of every run."""

import pytest

from swarm.config.load import parse_run_file, planned_spec
from swarm.primitives.openings import children, is_leaf
from swarm.types import StageIndex
from swarm.verify.program.microbatch import microbatch_program
from swarm.verify.program.nodes import Program
from swarm.verify.program.splits import LAYERS_WANTED, node_layers, top_level, value_layers
from swarm.verify.program.update import update_program
from tests.verify.program.test_model_operators import ROOT, UPDATE


def rounds_and_hashes(program: Program) -> tuple[int, int]:
    """The most rounds of a dispute about a program, with those of event and leaf, and the most hashes."""
    layers, found, most, hashes = top_level(program), 2, 0, 0
    while layers:
        layers, found = layers - node_layers(program, layers), found + 1
    for content in {node.content for node in program.nodes}:
        place, rounds, shown = content.top, found, 0
        while not is_leaf(content, place):
            below = children(content, place, value_layers(program, content, place))
            place, rounds, shown = below[0], rounds + 1, shown + len(below)
        most, hashes = max(most, rounds), max(hashes, shown)
    return most, hashes


@pytest.mark.rule("V41")
@pytest.mark.parametrize(
    "file", [f"configs/{name}.toml" for name in ("demo", "run-125m", "run-1b3", "run-6b8")]
)
def test_ten_rounds_are_enough_at_the_shapes_of_the_packaged_runs(file: str) -> None:
    spec = planned_spec(parse_run_file((ROOT / file).read_text("utf-8"), file))
    for stage in map(StageIndex, range(spec.num_stages)):
        for program in (microbatch_program(spec, stage), update_program(spec, stage, UPDATE)):
            rounds, hashes = rounds_and_hashes(program)
            assert rounds <= 10
            assert hashes <= 96, (
                "of the value; those of the tree of all values are two splits, at most of 64"
            )


@pytest.mark.rule("V41")
def test_splits_are_small_where_there_are_rounds_to_spare() -> None:
    spec = planned_spec(
        parse_run_file((ROOT / "configs/demo.toml").read_text("utf-8"), "demo.toml")
    )
    program = microbatch_program(spec, StageIndex(0))
    assert node_layers(program, top_level(program)) <= LAYERS_WANTED
    for content in {node.content for node in program.nodes}:
        assert value_layers(program, content, content.top) <= LAYERS_WANTED
