"""The text of a run is found on the disk, and what is not there is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swarm.errors import BadConfig, Corrupt
from swarm.training.data import disk, documents
from swarm.training.data.disk import encode_file, open_tokens
from swarm.training.data.documents import read_source, stdlib_files
from swarm.training.data.tokenizer import load_tokenizer
from tests.training.datasets import a_tokenizer


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


def test_links_hidden_folders_and_pipes_below_a_folder_do_not_count(tmp_path: Path) -> None:
    """What a launch reads, everybody gets: a folder from a stranger must not point at a key of ours."""
    folder = tmp_path / "in"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "x").write_text("no")
    (tmp_path / "key").write_text("no")
    (folder / "link").symlink_to(tmp_path / "key")
    os.mkfifo(folder / "pipe")
    (folder / "yes").write_text("yes")
    assert list(read_source([str(folder)])) == [b"yes"]
    assert list(read_source([str(folder / "link")])) == [b"no"], "named by the person itself"


def test_what_has_no_end_is_not_read_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(BadConfig, match="not a plain file"):
            list(read_source([name]))
    monkeypatch.setattr(documents, "FILE_BYTES_MAX", 3)
    (tmp_path / "long").write_text("long")
    with pytest.raises(BadConfig, match="larger than"):
        list(read_source([str(tmp_path / "long")]))


@pytest.mark.rule("T13a")
def test_a_token_file_is_mapped_and_a_missing_one_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_bytes(b"abc")
    assert bytes(open_tokens(path)) == b"abc"
    with pytest.raises(Corrupt):
        open_tokens(tmp_path / "none")


def test_wider_tokens_are_mapped_little_endian(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_bytes(b"\x01\x02\x03\x04")
    assert open_tokens(path, "uint16").tolist() == [0x0201, 0x0403]
    assert open_tokens(path, "uint32").tolist() == [0x04030201]
    path.write_bytes(b"abc")
    with pytest.raises(Corrupt):
        open_tokens(path, "uint16")


def test_ten_gigabytes_of_tokens_take_no_memory(tmp_path: Path) -> None:
    """A file with holes: 10 GB to see, of which the windows drawn are read."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from swarm.training.data.samples import windows\n"
        "from swarm.training.data.disk import open_tokens\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "tokens = open_tokens(Path(sys.argv[1]), 'uint16')\n"
        "for start in range(0, len(tokens) - 2000, len(tokens) // 100):\n"
        "    windows(tokens, (start,), 1024)\n"
        "print(len(tokens), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    path = tmp_path / "tokens"
    with path.open("wb") as file:
        file.truncate(10 * 10**9)
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, grown = (int(word) for word in done.stdout.split())
    assert count == 5 * 10**9
    assert grown < 64 << 10, f"{grown} KiB"


def test_a_text_is_encoded_by_the_tokenizer_of_its_model(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"w0 w1")
    assert encode_file(path, load_tokenizer(a_tokenizer())).tolist() == [1, 2]
    assert bytes(encode_file(path, load_tokenizer(b""))) == b"w0 w1"
    path.write_bytes(b"\xff")
    for bad in (path, tmp_path / "gone", tmp_path):
        with pytest.raises(BadConfig):
            encode_file(bad, load_tokenizer(a_tokenizer()))


def test_a_text_too_long_to_be_encoded_at_once_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As bytes it is mapped, however long."""
    monkeypatch.setattr(disk, "FILE_BYTES_MAX", 5)
    path = tmp_path / "text"
    path.write_bytes(b"w0 w1 w2")
    with pytest.raises(BadConfig, match="is larger than"):
        encode_file(path, load_tokenizer(a_tokenizer()))
    assert len(encode_file(path, load_tokenizer(b""))) == 8
