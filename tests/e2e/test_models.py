"""A run goes on from a folder of transformers' Llama, on a dataset with a vocabulary of its own.

Strangers fetch its weights and its tokens, train, check, and write.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.config.spec import ModelSpec
from tests.e2e.localnet import HomeSetup, Localnet, last_commit
from tests.training.datasets import a_tokenizer, some_texts, write_texts

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.e2e
MODEL = ModelSpec(
    vocab_size=512,
    hidden_size=48,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=80,
    seq_len=64,
    rope_theta=10_000,
    norm_eps_nano=10_000,
)


def a_folder(folder: Path) -> "Tensor":
    """A model in the form of transformers; its weights."""
    # With torch: loaded here, and not in the worker that only collects this file.
    from swarm.training.hf.export import export_files
    from swarm.training.model.stages import init_flat, plan_stages

    (plan,) = plan_stages(MODEL, 1)
    flat_P = init_flat(plan, 77)
    folder.mkdir()
    for name, data in export_files(MODEL, [flat_P]).items():
        (folder / name).write_bytes(data)
    return flat_P


def a_run_file(net: Localnet) -> Path:
    """The small exact run, every segment of which is drawn, on the model llama and the dataset words."""
    head, _, rest = net.run_file(is_exact=True).read_text().partition("[model]")
    middle, _, tail = rest.partition("[training]")[2].partition("[data]")
    end = tail.partition("[deadlines]")[2]
    path = net.folder / "tuned.toml"
    path.write_text(
        f'{head}[model]\ninit_from = "llama"\nseq_len = 32\n[training]{middle}'
        f'[data]\ndataset = "words"\n[deadlines]{end}'
    )
    return path


def test_from_texts_and_a_folder_to_a_tuned_model_with_its_tokenizer(net: Localnet) -> None:
    home, folder = net.folder / "launcher", net.folder
    flat_P = a_folder(folder / "llama")
    (folder / "words.json").write_bytes(a_tokenizer(500))
    texts = write_texts(folder / "texts", some_texts(200, num_words=499))
    args = ("data", "build", str(texts), "--out", "words", "--tokenizer")
    built = net.read(*args, str(folder / "words.json"), home=home)
    assert (built["dtype"], built["token_ids"]) == ("uint16", 501)

    path = a_run_file(net)
    net.set_up(path, "launcher", joiner=HomeSetup(), watcher=HomeSetup(solve=False))
    launcher = net.start("launcher", "launch", str(path))
    joiner = net.start("joiner", "join", launcher.ticket())
    watcher = net.start("watcher", "join", launcher.ticket())
    joiner.wait("a segment of the joiner", lambda s: last_commit(s) >= 0 and s)
    for root in (built["train_root"], built["heldout_root"]):
        ours, theirs = (node.home / "blobs" / root for node in (launcher, joiner))
        net.wait("both halves", theirs.is_file, node=joiner)
        assert theirs.read_bytes() == ours.read_bytes()
    assert net.read("data", "ls", home=home)[0]["used_by"] == ["tiny"]

    request = ("generate", "--swarm", "-p", "w1 w2", "--count", "12", "--temperature", "0")
    reply = net.read(*request, home=watcher.home)
    assert len(reply["peers"]) == 2
    assert reply["text"].strip()

    import torch

    from swarm.training.hf.load import open_folder, read_stage
    from swarm.training.model.stages import plan_stages

    out = folder / "initial"  # from the launcher: a joiner has the weights of its own stage
    net.read("export", str(out), "--initial", home=home)
    found = open_folder(out)
    (plan,) = plan_stages(found.model, 1)
    assert torch.equal(read_stage(found, plan), flat_P)
    assert found.model.seq_len == 32
    assert json.loads((out / "config.json").read_bytes())["vocab_size"] == 512
    assert (out / "tokenizer.json").read_bytes() == a_tokenizer(500)
    reply = net.read("generate", "-m", str(out), "-p", "w1 w2", "--count", "20", home=joiner.home)
    assert reply["text"].strip()

    # The first window of the first segments was replayed from the fetched weights, and agreed.
    watcher.wait("a verified segment", lambda s: s["run"]["confirmed"] > 0 and s)
    state = launcher.wait("a measured checkpoint", lambda s: len(s["run"]["evaluations"]) > 1 and s)
    first, *_ = state["run"]["evaluations"]
    assert first["round"] == 0
    row = net.read("eval", str(out), home=joiner.home)
    assert row["data"].endswith(built["heldout_root"])
    assert row["bits_per_byte"] is None
    assert 4 < row["loss_nats"] < 7
    assert first["loss_nats"] == pytest.approx(row["loss_nats"], abs=0.2)
    assert state["run"]["heldout"] < first["loss_nats"]
    assert net.read("eval", home=launcher.home)["perplexity"] < row["perplexity"]

    weights = folder / "weights"
    bare = ("export", str(weights), "--format", "safetensors")
    assert net.read(*bare, home=launcher.home)["round"] > 0
    assert {file.name for file in weights.iterdir()} == {"model.safetensors", "ledger_proof.bin"}

    # A verifier reads the same tokens of two bytes that the solver read.
    shown = launcher.wait(
        "a segment that shows its windows",
        lambda s: next((row for row in s["checks"] if row["windows"]), None),
    )
    which = [
        word for part in ("round", "stage", "seat") for word in (f"--{part}", str(shown[part]))
    ]
    assert net.read("audit", *which, home=home)["verdict"] == "honest"


def test_a_folder_that_is_no_llama_is_refused_before_anything_starts(net: Localnet) -> None:
    folder = net.folder / "other"
    a_folder(folder)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        config.replace('"model_type": "llama"', '"model_type": "gpt2"')
    )
    path = net.folder / "other.toml"
    path.write_text('[model]\ninit_from = "other"\nseq_len = 32\n')
    args = ("launch", str(path), "--listen", "127.0.0.1:0", "--api-port", "0", "--plain")
    done = net.swarm(*args, home=net.folder / "lone")
    assert done.returncode == 4
    assert "gpt2" in done.stderr
