"""A dataset with a vocabulary of its own is built, launched, fetched by a stranger, and trained on."""

import json
from pathlib import Path

import pytest

from tests.e2e.localnet import RUN_FILE, Localnet, last_commit
from tests.training.datasets import a_tokenizer, some_texts, write_texts

pytestmark = pytest.mark.e2e


def test_from_texts_to_a_model_with_its_tokenizer(net: Localnet) -> None:
    home, folder = net.folder / "launcher", net.folder
    (folder / "words.json").write_bytes(a_tokenizer(500))
    texts = write_texts(folder / "texts", some_texts(200, num_words=499))
    words = ("data", "build", str(texts), "--out", "words", "--tokenizer")
    built = net.read(*words, str(folder / "words.json"), home=home)
    assert (built["dtype"], built["token_ids"]) == ("uint16", 501)

    file = RUN_FILE.format(rounds=60_000).replace("[model]", "[model]\nvocab_size = 512")
    head, _, tail = file.partition("[data]")
    rest = tail.partition("[deadlines]")[2]
    path = folder / "words.toml"
    path.write_text(f'{head}[data]\ndataset = "words"\n[deadlines]{rest}')
    launcher = net.start("launcher", "launch", str(path))
    joiner = net.join("joiner", launcher.ticket())
    joiner.wait("a segment of the joiner", lambda s: last_commit(s) >= 0 and s)

    ours, theirs = (node.home / "blobs" / built["train_root"] for node in (launcher, joiner))
    assert theirs.read_bytes() == ours.read_bytes()
    assert net.read("data", "ls", home=home)[0]["used_by"] == ["tiny"]
    out = folder / "model"
    net.read("export", str(out), "--initial", home=joiner.home)
    assert json.loads((out / "config.json").read_bytes())["vocab_size"] == 512
    assert Path(out / "tokenizer.json").read_bytes() == a_tokenizer(500)
    row = net.read("eval", str(out), home=home)
    assert 4 < row["loss_nats"] < 7
    assert row["bits_per_byte"] is None
    said = net.read("generate", "-m", str(out), "-p", "w1 w2", "--count", "20", home=joiner.home)
    assert said["text"].strip()
