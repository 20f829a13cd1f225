"""A joiner with the run's text on its disk fetches nothing, and is refused if it is another text."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.localnet import Localnet, Node, last_commit

pytestmark = pytest.mark.e2e

REFUSED, RUN_OR_SETTINGS = 6, 4
"""Exit codes: not what it says; a run or setting that cannot be used."""
PLACE = ("--listen", "127.0.0.1:0", "--api-port", "0", "--plain")


def built(net: Localnet, home: Path, texts: Path, name: str) -> Any:  # noqa: ANN401  any JSON
    return net.read("data", "build", str(texts), "--out", name, "--heldout-every", "3", home=home)


@pytest.fixture(scope="module")
def dataset(net: Localnet) -> Any:  # noqa: ANN401  any JSON
    """The dataset of the run, as its launcher made it."""
    return built(net, net.folder / "launcher", net.folder / "corpus", "words")


@pytest.fixture(scope="module")
def launcher(net: Localnet, dataset: Any) -> Node:  # noqa: ANN401  it is there when this starts
    """A launch on it that has no text to give away any more: its own it has mapped.

    The first launch of this home failed on a damaged dataset; it launches once that is mended.
    """
    head, _, tail = net.run_file().read_text().partition("[data]")
    path, home = net.folder / "words.toml", net.folder / "launcher"
    path.write_text(
        f'{head}[data]\ndataset = "words"\n[deadlines]{tail.partition("[deadlines]")[2]}'
    )
    train = home / "datasets" / "words" / "train.bin"
    whole = train.read_bytes()
    train.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    done = net.swarm("launch", str(path), *PLACE, home=home)
    assert done.returncode == REFUSED
    assert f"{train}: chunk 0 of 1" in done.stderr
    assert not (home / "genesis.bin").exists()
    train.write_bytes(whole)
    node = net.start("launcher", "launch", str(path))
    node.wait("a segment of the launcher", lambda s: last_commit(s) >= 0 and s)
    for root in (dataset["train_root"], dataset["heldout_root"]):
        (node.home / "blobs" / root).unlink()
    return node


def test_the_same_text_made_anywhere_is_taken_from_this_disk(
    net: Localnet,
    launcher: Node,
    dataset: Any,  # noqa: ANN401
) -> None:
    """No peer serves it, and yet the joiner trains: its own build has the hash of the launcher's."""
    home = net.folder / "joiner"
    again = built(net, home, net.folder / "corpus", "mine")
    assert again["hash"] == dataset["hash"]
    joiner = net.join("joiner", launcher.ticket(), "--dataset", "mine")
    joiner.wait("a segment of the joiner", lambda s: last_commit(s) >= 0 and s)
    texts = [event["text"] for event in joiner.events()]
    assert "publishing train.bin of the dataset mine" in texts
    assert not [text for text in texts if text.startswith("text: ")], "a fetch says how far it is"
    for name, root in (
        ("train.bin", dataset["train_root"]),
        ("heldout.bin", dataset["heldout_root"]),
    ):
        mine = (home / "blobs" / root).read_bytes()
        assert mine == (home / "datasets" / "mine" / name).read_bytes()
    assert net.read("data", "ls", home=home)[0]["used_by"] == ["tiny"]


def test_another_text_is_refused_with_both_hashes(
    net: Localnet,
    launcher: Node,
    dataset: Any,  # noqa: ANN401
) -> None:
    home, texts = net.folder / "stranger", net.folder / "other-texts"
    texts.mkdir()
    for number in range(4):
        (texts / f"{number}.txt").write_text(f"another text, number {number}\n" * 200)
    other = built(net, home, texts, "mine")
    done = net.swarm("join", launcher.ticket(), "--dataset", "mine", *PLACE, home=home)
    assert done.returncode == REFUSED, done.stderr
    assert other["train_root"] in done.stderr
    assert dataset["train_root"] in done.stderr
    assert "join without --dataset" in done.stderr
    assert "Traceback" not in done.stderr

    done = net.swarm("join", "--dataset", "mine", *PLACE, "--json", home=home)
    assert done.returncode == REFUSED, "and again, when it resumes"
    error = json.loads(done.stderr.splitlines()[-1])
    assert error["exit_code"] == REFUSED
    assert dataset["train_root"] in error["error"]


def test_a_dataset_that_is_not_there_or_damaged_is_told_before_anything_starts(
    net: Localnet, launcher: Node
) -> None:
    home = net.folder / "careless"
    command = ("join", launcher.ticket(), "--dataset")
    done = net.swarm(*command, "nowhere", home=home)
    assert done.returncode == RUN_OR_SETTINGS
    assert f"there is no dataset {home / 'datasets' / 'nowhere'}" in done.stderr
    assert not home.exists()

    built(net, home, net.folder / "corpus", "mine")
    train = home / "datasets" / "mine" / "train.bin"
    whole = train.read_bytes()
    train.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    done = net.swarm(*command, "mine", *PLACE, home=home)
    assert done.returncode == REFUSED, done.stderr
    assert f"{train}: chunk 0 of 1" in done.stderr
