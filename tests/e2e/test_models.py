"""A run goes on from a folder of transformers' Llama: strangers fetch its weights, train, check, and write."""

from pathlib import Path

import pytest
import torch

from swarm.config.spec import ModelSpec
from swarm.training.hf.export import export_files
from swarm.training.hf.load import open_folder, read_stage
from swarm.training.model.stages import init_flat, plan_stages
from tests.e2e.localnet import Localnet, Part, last_commit

pytestmark = pytest.mark.e2e
MODEL = ModelSpec(
    vocab_size=256,
    hidden_size=48,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=80,
    seq_len=64,
    rope_theta=10_000,
    norm_eps_nano=10_000,
)


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
    path = net.run_file(is_exact=True)
    head, _, tail = path.read_text().partition("[model]")
    rest = tail.partition("[training]")[2]
    path.write_text(f'{head}[model]\ninit_from = "llama"\nseq_len = 32\n[training]{rest}')
    net.set_up(path, "launcher", joiner=Part(), watcher=Part(solve=False))
    launcher = net.start("launcher", "launch", str(path))
    joiner = net.start("joiner", "join", launcher.ticket())
    watcher = net.start("watcher", "join", launcher.ticket())
    joiner.wait("a segment of the joiner", lambda s: last_commit(s) >= 0 and s)

    wish = ("generate", "--swarm", "-p", "def f(", "--count", "12", "--temperature", "0")
    said = net.read(*wish, home=watcher.home)
    assert len(said["peers"]) == 2
    assert said["text"]
    plain = net.swarm(*wish, home=watcher.home)
    assert plain.stdout.startswith("def f(")

    out = net.folder / "initial"
    net.read("export", str(out), "--initial", home=launcher.home)
    found = open_folder(out)
    (plan,) = plan_stages(found.model, 1)
    assert torch.equal(read_stage(found, plan), flat_P)
    assert found.model.seq_len == 32

    # The first window of the first segments was replayed from the fetched weights, and agreed.
    watcher.wait("a verified segment", lambda s: s["run"]["confirmed"] > 0 and s)
    state = launcher.wait("a measured checkpoint", lambda s: len(s["run"]["evaluations"]) > 1 and s)
    first, *_ = state["run"]["evaluations"]
    assert first["round"] == 0
    row = net.read("eval", str(out), home=launcher.home)
    assert first["loss_nats"] == pytest.approx(row["loss_nats"], abs=0.2)
    assert state["run"]["heldout"] < first["loss_nats"]
    assert net.read("eval", home=launcher.home)["perplexity"] < row["perplexity"]

    weights = net.folder / "weights"
    words = ("export", str(weights), "--format", "safetensors")
    assert net.read(*words, home=launcher.home)["round"] > 0
    assert [file.name for file in weights.iterdir()] == ["model.safetensors"]


def test_a_folder_that_is_no_llama_is_refused_before_anything_starts(net: Localnet) -> None:
    folder = net.folder / "other"
    a_folder(folder)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        config.replace('"tie_word_embeddings": false', '"tie_word_embeddings": true')
    )
    path = net.folder / "other.toml"
    path.write_text('[model]\ninit_from = "other"\nseq_len = 32\n')
    words = ("launch", str(path), "--listen", "127.0.0.1:0", "--api-port", "0", "--plain")
    done = net.swarm(*words, home=net.folder / "lone")
    assert done.returncode == 4
    assert "tie_word_embeddings" in done.stderr
