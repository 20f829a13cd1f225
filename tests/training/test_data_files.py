"""The text of a run is found on the disk, and what is not there is named."""

from pathlib import Path

import pytest

from swarm.errors import BadConfig, Corrupt
from swarm.training.data_files import open_tokens, read_source, stdlib_files


def test_the_standard_library_is_several_megabytes_of_python() -> None:
    files = [data for data, _ in zip(stdlib_files(), range(20), strict=False)]
    assert len(files) == 20
    assert any(b"import" in data for data in files)


def test_paths_are_files_or_folders(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b.txt").write_text("two")
    (tmp_path / ".hidden").write_text("three")
    found = read_source([str(tmp_path), str(tmp_path / "a.txt")])
    assert list(found) == [b"one", b"two", b"one"]


def test_a_missing_file_and_an_unknown_source_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="gone"):
        list(read_source([str(tmp_path / "gone.txt")]))
    with pytest.raises(BadConfig, match="wikipedia"):
        list(read_source("wikipedia"))


def test_a_token_file_is_mapped_and_a_missing_one_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_bytes(b"abc")
    assert bytes(open_tokens(path)) == b"abc"
    with pytest.raises(Corrupt):
        open_tokens(tmp_path / "none")
