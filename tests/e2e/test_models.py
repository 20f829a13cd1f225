"""A run goes on from a folder of transformers' Llama; a stranger fetches its weights, and both write with it."""

from pathlib import Path

import pytest
import torch

from swarm.spec import ModelSpec
from swarm.training.export import export_files
from swarm.training.hf_import import open_folder, read_stage
from swarm.training.stages import init_flat, plan_stages
from tests.e2e.localnet import RUN_FILE, Localnet, last_commit

pytestmark = pytest.mark.e2e
MODEL = ModelSpec(256, 48, 3, 4, 2, 80, 64, 10_000, 10_000)


def a_folder(folder: Path) -> torch.Tensor:
    """A model in the form of transformers; its weights."""
    (plan,) = plan_stages(MODEL, 1)
    flat_P = init_flat(plan, 77)
    folder.mkdir()
    for name, data in export_files(MODEL, [flat_P]).items():
        (folder / name).write_bytes(data)
    return flat_P


def test_fine_tuning_from_a_folder(net: Localnet) -> None:
    flat_P = a_folder(net.folder / "llama")
    text = RUN_FILE.format(
        rounds=60_000, numerics="seq-f32/1", steps=20, round_blocks=6, window_steps=5
    )
    head, _, tail = text.partition("[model]")
    rest = "[training]" + tail.partition("[training]")[2]
    path = net.folder / "tune.toml"
    path.write_text(f'{head}[model]\ninit_from = "llama"\nseq_len = 32\n{rest}')
    launcher = net.start("launcher", "launch", str(path))
    joiner = net.join("joiner", launcher.ticket())
    joiner.wait("a segment of the joiner", lambda s: last_commit(s) >= 0 and s)

    out = net.folder / "initial"
    net.read("export", str(out), "--initial", home=joiner.home)
    found = open_folder(out)
    (plan,) = plan_stages(found.model, 1)
    assert torch.equal(read_stage(found, plan), flat_P)
    assert found.model.seq_len == 32

    picture = launcher.wait("an evaluation", lambda s: s["run"]["evaluations"] and s)
    first = picture["run"]["evaluations"][0]
    assert first["round"] == 0
    row = net.read("eval", str(net.folder / "llama"), home=launcher.home)
    assert first["loss_nats"] == pytest.approx(row["loss_nats"], abs=0.3)

    wish = ("generate", "--swarm", "-p", "def f(", "--count", "12", "--temperature", "0")
    said = net.read(*wish, home=joiner.home)
    assert len(said["peers"]) == 2
    checkpoint = launcher.wait(
        "a checkpoint", lambda s: all(s["run"]["checkpoints"]) and s["run"]["evaluations"][1:] and s
    )
    assert checkpoint["run"]["perplexity"] > 1
    assert net.read(*wish, home=launcher.home)["text"]
    joiner.wait("a verified segment", lambda s: s["run"]["confirmed"] > 0 and s)
    weights = net.folder / "weights"
    assert (
        net.read("export", str(weights), "--format", "safetensors", home=launcher.home)["round"] > 0
    )
    assert [file.name for file in weights.iterdir()] == ["model.safetensors"]
