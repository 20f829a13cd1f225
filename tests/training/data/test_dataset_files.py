"""A dataset on the disk is what its manifest says, or it is named; nothing in its folder is followed."""

from pathlib import Path

import pytest

from swarm.errors import BadConfig, VerificationFailed
from swarm.training.data.dataset import TOKENIZER_FILE
from swarm.training.data.disk import (
    Dataset,
    dataset_path,
    list_datasets,
    open_dataset,
    read_tokenizer,
    verify_dataset,
)
from tests.training.datasets import a_tokenizer, build, some_texts, write_texts


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    texts = write_texts(tmp_path / "in", some_texts())
    return build(tmp_path / "home" / "datasets" / "mine", texts, raw=a_tokenizer()).dataset


def test_what_was_built_opens_and_verifies(dataset: Dataset) -> None:
    again = open_dataset(dataset.folder)
    assert again == dataset
    progress: list[int] = []
    verify_dataset(again, progress.append)
    assert sum(progress) == again.num_bytes
    assert read_tokenizer(again) == a_tokenizer()


@pytest.mark.parametrize("name", ["train.bin", "heldout.bin"])
def test_a_changed_file_is_named_with_its_chunk(dataset: Dataset, name: str) -> None:
    path = dataset.folder / name
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationFailed, match=rf"{name}: chunk 0 of 1") as caught:
        verify_dataset(open_dataset(dataset.folder))
    assert caught.value.exit_code == 6


@pytest.mark.rule("S2")
def test_a_link_in_the_place_of_a_file_is_not_followed(dataset: Dataset) -> None:
    for name in ("train.bin", TOKENIZER_FILE):
        path = dataset.folder / name
        elsewhere = path.rename(dataset.folder.parent / name)
        path.symlink_to(elsewhere)
        with pytest.raises(VerificationFailed, match="it is a link"):
            verify_dataset(dataset)
        path.unlink()
        with pytest.raises(VerificationFailed, match="No such file"):
            verify_dataset(dataset)
        elsewhere.rename(path)
    verify_dataset(dataset)


def test_another_tokenizer_is_named(dataset: Dataset) -> None:
    (dataset.folder / TOKENIZER_FILE).write_bytes(a_tokenizer(999))
    with pytest.raises(VerificationFailed, match=r"tokenizer\.json is not the tokenizer"):
        verify_dataset(dataset)


def test_a_damaged_manifest_fails_and_a_missing_one_is_told(dataset: Dataset) -> None:
    path = dataset.folder / "manifest.bin"
    raw = path.read_bytes()
    path.write_bytes(raw[:-1])
    with pytest.raises(VerificationFailed, match="not the manifest"):
        open_dataset(dataset.folder)
    path.unlink()
    with pytest.raises(BadConfig, match="there is no dataset"):
        open_dataset(dataset.folder)


def test_a_home_lists_what_it_has(dataset: Dataset, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "datasets" / "broken").mkdir()
    (home / "datasets" / "a-file").touch()
    (home / "datasets" / ".mine.building").mkdir()
    (broken, error), (mine, found) = list_datasets(home)
    assert (broken.name, mine.name) == ("broken", "mine")
    assert isinstance(error, BadConfig)
    assert found == dataset
    assert list(list_datasets(tmp_path / "nowhere")) == []


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("wiki", "/home/datasets/wiki"),
        ("wiki-2.en", "/home/datasets/wiki-2.en"),
        ("./wiki", "/base/wiki"),
        ("sets/wiki", "/base/sets/wiki"),
        ("/big/wiki", "/big/wiki"),
        ("../wiki", "/base/../wiki"),
    ],
)
def test_a_name_is_of_the_home_and_a_path_is_a_path(name: str, path: str) -> None:
    assert dataset_path(Path("/home"), Path("/base"), name) == Path(path)


@pytest.mark.parametrize("name", ["..", ".hidden", "a b", "x" * 65, "esc\x1b[2J", ""])
def test_what_is_neither_is_no_folder_somewhere(name: str) -> None:
    with pytest.raises(BadConfig, match="is no name of a dataset"):
        dataset_path(Path("/home"), Path("/base"), name)
