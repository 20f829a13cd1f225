"""A node computes on what its file names; what is not there is refused before anything starts."""

import pytest
import torch

from swarm.config.load import parse_node_file
from swarm.config.schema import NodeConfig
from swarm.errors import BadConfig, DeviceLost
from swarm.node.seat import compute
from swarm.node.seat.compute import find_devices, notice_of, open_engine, step_down
from swarm.training.devices.group import GroupEngine
from swarm.training.devices.select import Present
from swarm.training.model.exact.native import NotBuilt
from swarm.training.shard import Shard
from swarm.types import StageIndex
from tests.node.fakes import FakeNode
from tests.training.pipeline import a_spec
from tests.training.test_shard import PLAN, SPEC, TOKENS, a_request

EXACT = a_spec(numerics="seq-f32/1")


def node_file(compute: str, rest: str = "") -> NodeConfig:
    return parse_node_file(f"{rest}\n[compute]\n{compute}\n", "node.toml")


def a_node(compute: str, devices: tuple[str, ...]) -> FakeNode:
    return FakeNode(config=node_file(compute), devices=devices)


@pytest.mark.rule("N20")
def test_what_is_not_there_is_refused_with_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "present", lambda: Present(("A100",)))
    assert find_devices(NodeConfig()) == ("cuda:0",)
    assert find_devices(node_file('device = "cpu"')) == ("cpu",)
    with pytest.raises(BadConfig, match=r"no cuda:3; present: cpu, cuda:0 \(A100\)"):
        find_devices(node_file('device = "cuda:3"'))
    assert find_devices(node_file('device = "cuda:3"', "solve = false")) == ("cpu",)


def test_the_cpu_needs_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "present", lambda: Present(("A100",)))
    assert not notice_of(SPEC, ("cpu",), NodeConfig())
    assert not notice_of(SPEC, ("cuda:0",), NodeConfig())
    assert "will rest" in notice_of(EXACT, ("cuda:0",), NodeConfig())


@pytest.mark.rule("T2a")
@pytest.mark.rule("T1b")
def test_an_exact_run_tests_the_device_that_is_named_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = list[str]()

    def refuse(device: str) -> None:
        asked.append(device)
        raise NotBuilt("A100 gets matmul wrong")

    monkeypatch.setattr(compute, "present", lambda: Present(("A100",)))
    monkeypatch.setattr(compute, "device_kernels", refuse)
    notice_of(EXACT, ("cuda:0",), NodeConfig())
    notice_of(SPEC, ("cuda:0",), node_file('device = "cuda:0"'))
    assert not asked
    told = notice_of(EXACT, ("cuda:0",), node_file('device = "cuda:0"'))
    assert asked == ["cuda:0"]
    assert told.endswith("A100 gets matmul wrong")
    engine = open_engine(a_node('device = "cuda:0"', ("cuda:0",)), EXACT, 0)
    assert engine.home.type == "cpu"


@pytest.mark.rule("T2a")
def test_an_exact_run_stays_on_one_cpu_whatever_the_file_says() -> None:
    node = a_node('device = ["cpu", "cpu"]', ("cpu", "cpu"))
    engine = open_engine(node, a_spec(numerics="seq-f32/1"), 0)
    assert engine.home == torch.device("cpu")
    assert not isinstance(engine, GroupEngine)


@pytest.mark.rule("N20")
def test_several_devices_take_a_step_together_and_end_with_the_seat() -> None:
    node = a_node('device = ["cpu", "cpu"]', ("cpu", "cpu"))
    engine = open_engine(node, SPEC, 1)
    try:
        assert isinstance(engine, GroupEngine)
        shard = Shard(
            SPEC, StageIndex(1), Shard.initial(SPEC, StageIndex(1)).params_P, float, engine
        )
        shard.loss(TOKENS, PLAN, a_request(0), 0)
        assert shard.step(PLAN, 0) is not None
    finally:
        engine.close()
    with pytest.raises(DeviceLost):
        shard.loss(TOKENS, PLAN, a_request(1), 0)


def test_stepping_down_leaves_everything_but_training() -> None:
    node = a_node('device = "cuda"', ("cuda:0",))
    step_down(node, "no device is left")
    assert not node.config.solve
    assert node.config.verify
    assert "goes on with all else: no device is left" in node.report.texts()[0]
