"""A dataset with a vocabulary of its own is built, launched, fetched by a stranger, and trained on."""

import json
from pathlib import Path

import pytest

from tests.e2e.localnet import Localnet, last_commit
from tests.training.datasets import a_tokenizer, some_texts, write_texts

pytestmark = pytest.mark.e2e

REFUSED = 6
"""Exit code of what is not what it says."""


def a_run_file(net: Localnet) -> Path:
    """The small exact run, every segment of which is drawn, on the dataset ``words``."""
    file = net.run_file(is_exact=True).read_text()
    head, _, tail = file.replace("[model]", "[model]\nvocab_size = 512").partition("[data]")
    rest = tail.partition("[deadlines]")[2]
    path = net.folder / "words.toml"
    path.write_text(f'{head}[data]\ndataset = "words"\n[deadlines]{rest}')
    return path


def test_from_texts_to_a_model_with_its_tokenizer(net: Localnet) -> None:
    """And a home whose first launch failed on a damaged dataset launches once it is mended."""
    home, folder = net.folder / "launcher", net.folder
    (folder / "words.json").write_bytes(a_tokenizer(500))
    texts = write_texts(folder / "texts", some_texts(200, num_words=499))
    words = ("data", "build", str(texts), "--out", "words", "--tokenizer")
    built = net.read(*words, str(folder / "words.json"), home=home)
    assert (built["dtype"], built["token_ids"]) == ("uint16", 501)

    path, train = a_run_file(net), home / "datasets" / "words" / "train.bin"
    whole = train.read_bytes()
    train.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    place = ("--listen", "127.0.0.1:0", "--api-port", "0", "--plain")
    done = net.swarm("launch", str(path), *place, home=home)
    assert done.returncode == REFUSED
    assert f"{train}: chunk 0 of 1" in done.stderr
    assert not (home / "genesis.bin").exists()
    train.write_bytes(whole)

    launcher = net.start("launcher", "launch", str(path))
    joiner = net.join("joiner", launcher.ticket())
    joiner.wait("a segment of the joiner", lambda s: last_commit(s) >= 0 and s)
    for root in (built["train_root"], built["heldout_root"]):
        ours, theirs = (node.home / "blobs" / root for node in (launcher, joiner))
        net.wait("both halves", theirs.is_file, node=joiner)
        assert theirs.read_bytes() == ours.read_bytes()
    assert net.read("data", "ls", home=home)[0]["used_by"] == ["tiny"]

    out = folder / "model"
    net.read("export", str(out), "--initial", home=joiner.home)
    assert json.loads((out / "config.json").read_bytes())["vocab_size"] == 512
    assert Path(out / "tokenizer.json").read_bytes() == a_tokenizer(500)
    row = net.read("eval", str(out), home=joiner.home)
    assert row["data"].endswith(built["heldout_root"])
    assert 4 < row["loss_nats"] < 7
    assert row["bits_per_byte"] is None
    said = net.read("generate", "-m", str(out), "-p", "w1 w2", "--count", "20", home=joiner.home)
    assert said["text"].strip()

    # Whoever replays reads the same tokens of two bytes that the solver read.
    shown = launcher.wait(
        "a segment that shows its windows",
        lambda s: next((row for row in s["checks"] if row["windows"]), None),
    )
    which = [
        word for part in ("round", "stage", "seat") for word in (f"--{part}", str(shown[part]))
    ]
    assert net.read("audit", *which, home=home)["verdict"] == "honest"
