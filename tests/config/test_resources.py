"""The files that travel with the package are those of the repository."""

from pathlib import Path

import pytest

from swarm.config.bounds import num_parameters
from swarm.config.load import parse_node_file, parse_run_file, planned_data, run_spec
from swarm.config.resources import packaged_file, packaged_names
from swarm.config.schema import NodeConfig
from swarm.config.spec import RunSpec
from swarm.errors import UsageError
from swarm.ledger.transition.runs import check_run_spec
from swarm.node.launch.sizing import check_window
from swarm.primitives.codec import LONGEST_FRAME_BYTES, decode, encode
from swarm.training.messages import activation_bytes
from swarm.training.model.optimizer import learning_rate
from swarm.training.model.stages import plan_stages

CONFIGS = Path(__file__).parents[2] / "configs"
PAPER = {
    "run-125m.toml": (125e6, 1, 8, 1 << 19, 6e-4),
    "run-1b3.toml": (1.3e9, 3, 8, 1 << 20, 2e-4),
    "run-6b8.toml": (6.8e9, 11, 16, 1 << 21, 1.2e-4),
}
"""Parameters, stages, replicas, tokens per step, learning rate: docs/spec/training.md sections 3 and 7."""


def a_spec(name: str) -> RunSpec:
    file = parse_run_file(packaged_file(name), name)
    return run_spec(file, data=planned_data(file))


def test_every_file_of_configs_is_packaged() -> None:
    assert packaged_names() == sorted(path.name for path in CONFIGS.glob("*.toml"))
    for name in packaged_names():
        assert packaged_file(name) == (CONFIGS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_file_of_configs_keeps_the_bounds(path: Path) -> None:
    if path.name == "node.toml":
        assert parse_node_file(path.read_text(), path.name) == NodeConfig()
        return
    spec = a_spec(path.name)
    check_run_spec(spec)
    check_window(spec)
    assert decode(RunSpec, encode(spec)) == spec
    assert activation_bytes(spec) <= LONGEST_FRAME_BYTES - 4096
    assert plan_stages(spec.model, spec.num_stages)[-1].is_last
    assert path.name in {"demo.toml", "testnet.toml"} or path.name in PAPER


@pytest.mark.parametrize("name", sorted(PAPER))
def test_the_runs_of_the_paper_are_the_runs_of_the_paper(name: str) -> None:
    spec, (nominal, stages, replicas, batch, rate) = a_spec(name), PAPER[name]
    assert abs(num_parameters(spec.model) / nominal - 1) < 0.05
    assert (spec.num_stages, spec.replicas_max) == (stages, replicas)
    model, steps = spec.model, spec.rounds * spec.inner_steps_max
    each = spec.microbatches_per_step * spec.microbatch_size * model.seq_len
    assert each * replicas == batch
    assert (model.seq_len, spec.inner_steps_max, steps) == (1024, 50, 25_000)
    rates, stride = spec.optimizer.learning_rates_nano, spec.optimizer.learning_rate_stride
    share = spec.optimizer.adamw_rate_nano / 1e9
    assert share * max(rates) == pytest.approx(rate * 1e9), "the paper's, where AdamW rules"
    assert max(rates) == rates[1_000 // stride]
    assert rates[-1] == max(rates) // 10
    assert len(rates) * stride >= steps
    assert learning_rate(spec.optimizer, 50, 499, 49) < 0.11 * max(rates) / 1e9
    outer = spec.outer
    assert (outer.alpha_nano, outer.beta_nano, outer.gamma_nano) == (0, 10**9, 10**9)
    assert (outer.codec, outer.trades_per_round) == ("int4-mean", 2)
    assert spec.numerics == "native-bf16"
    assert spec.data.tokenizer == "file"


def test_a_missing_file_names_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"demo\.toml"):
        packaged_file("../pyproject.toml")
