"""A rank that makes no sense is refused before anything is computed, by file and by ledger."""

import pytest

from swarm.config.bounds import check_spec
from swarm.config.load import parse_run_file, run_spec
from swarm.config.schema import run_template
from swarm.config.spec import DataSpec, RunSpec
from swarm.errors import BadConfig
from swarm.primitives.codec import replace
from swarm.types import NO_DIGEST

DATA = DataSpec("bytes", NO_DIGEST, 1 << 20, NO_DIGEST, 1 << 16)


def spec_of(text: str) -> RunSpec:
    return run_spec(parse_run_file(text, "run.toml"), data=DATA)


def test_a_run_has_no_bottleneck_unless_it_says_so() -> None:
    plain = spec_of("")
    assert (plain.model.bottleneck_rank, plain.model.bottleneck_stages) == (0, 1)
    assert plain.wire.activations == "bf16"
    wired = spec_of('[wire]\nactivations = "int4"\nrank = 16\n[training]\nnum_stages = 4')
    assert (wired.model.bottleneck_rank, wired.model.bottleneck_stages) == (16, 4)
    assert wired.wire.activations == "int4"
    assert wired.digest != plain.digest


def test_the_template_says_when_a_rank_pays() -> None:
    wire = run_template().partition("[wire]")[2]
    meaning = wire.partition("\nrank = 0")[0].rpartition('"\n')[2]
    assert "bottleneck" in meaning


@pytest.mark.rule("T5a", "S1")
@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("[wire]\nrank = 128", "below hidden_size = 128"),
        ("[wire]\nrank = 129", "below hidden_size = 128"),
        ("[wire]\nrank = -1", "rank"),
        ("[wire]\nrank = 16385", "rank"),
        ("[wire]\nrank = 16\n[training]\nnum_stages = 1", "one stage"),
        ('[wire]\nrank = 16\n[model]\ninit_from = "llama"', "trained without bottlenecks"),
        ('[wire]\nactivations = "int2"', "activations"),
    ],
)
def test_a_rank_that_makes_no_sense_is_refused_with_a_way_out(text: str, cause: str) -> None:
    with pytest.raises(BadConfig, match=cause) as caught:
        spec_of(text)
    assert caught.value.hint


@pytest.mark.rule("T5a", "S1")
@pytest.mark.parametrize(
    ("rank", "stages"), [(0, 2), (16, 1), (16, 3), (128, 2), (1 << 20, 2), (-1, 2)]
)
def test_a_strangers_spec_with_bottlenecks_elsewhere_is_refused(rank: int, stages: int) -> None:
    spec = spec_of("[wire]\nrank = 16")
    check_spec(spec)
    model = replace(spec.model, bottleneck_rank=rank, bottleneck_stages=stages)
    with pytest.raises(BadConfig):
        check_spec(replace(spec, model=model))
