"""Documents are found in files of three kinds, and what is not what it says is refused by file and line."""

import json
import os
import sys
from pathlib import Path

import pytest

from swarm.errors import BadConfig
from swarm.training.data import documents as module
from swarm.training.data.documents import (
    DOCUMENT_BYTES_MAX,
    PIECE_BYTES,
    Form,
    documents,
    find_inputs,
)


def read(*names: Path, **form: object) -> list[bytes]:
    return list(documents(find_inputs(names), Form(**form), lambda _: None))  # type: ignore[arg-type]


def lines(path: Path, *objects: object) -> Path:
    path.write_text("".join(json.dumps(found) + "\n" for found in objects))
    return path


def test_text_lines_and_folders(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "below" / "b.py").write_bytes(b"two")
    (tmp_path / "empty").touch()
    lines(tmp_path / "c.jsonl", {"text": "three"}, {"text": ""}, {"text": None}, {"text": "vïer"})
    assert sorted(read(tmp_path)) == [b"one", b"three", b"two", "vïer".encode()]
    lines(tmp_path / "d.ndjson", {"body": "five", "id": 1})
    assert read(tmp_path / "d.ndjson", field="body") == [b"five"]


def test_hidden_files_links_and_pipes_in_a_folder_do_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "x").write_text("no")
    (folder / ".hidden").write_text("no")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("no")
    (folder / "link").symlink_to(tmp_path / "secret" / "key")
    (folder / "folder").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    (folder / "yes").write_text("yes")
    assert find_inputs([folder]).num_links == 3
    assert read(folder) == [b"yes"]
    assert read(folder / "link") == [b"no"], "what is named itself may be a link"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    (tmp_path / "a.txt.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("pipe", "broken", "gone", "a.txt.gz", "loop", "x" * 300):
        with pytest.raises(BadConfig, match=name):
            read(tmp_path / name)


def test_too_many_files_are_refused_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILES_MAX", 3)
    for number in range(4):
        (tmp_path / str(number)).touch()
    with pytest.raises(BadConfig, match="more than 3 files"):
        find_inputs([tmp_path])


def test_a_long_text_is_cut_at_the_ends_of_lines(tmp_path: Path) -> None:
    text = b"".join(b"line %d\n" % number for number in range(400_000))
    (tmp_path / "book").write_bytes(text)
    pieces = read(tmp_path / "book")
    assert b"".join(pieces) == text
    assert len(pieces) == -(-len(text) // PIECE_BYTES)
    assert all(len(piece) <= PIECE_BYTES and piece.endswith(b"\n") for piece in pieces)


@pytest.mark.parametrize("ahead", range(4))
def test_a_line_without_end_is_cut_between_characters(tmp_path: Path, ahead: int) -> None:
    text = b"x" * ahead + "🐟".encode() * (PIECE_BYTES // 2)
    (tmp_path / "book").write_bytes(text)
    pieces = read(tmp_path / "book")
    assert b"".join(pieces) == text
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)


def test_a_text_of_exactly_one_piece_is_whole(tmp_path: Path) -> None:
    (tmp_path / "exact").write_bytes(b"\n" + b"x" * (PIECE_BYTES - 1))
    assert [len(piece) for piece in read(tmp_path / "exact")] == [PIECE_BYTES]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": 3}', "'text' is not text but int"),
        (b'{"text": ["a"]}', "'text' is not text but list"),
        (b'{"body": "x"}', r"no field 'text'; it has 'body'"),
        (b"{}", "it has nothing"),
        (b'["text"]', "not an object"),
        (b'"text"', "not an object"),
        (b'{"text": "a"', "not JSON"),
        (b"<html>", "not JSON"),
        (b'{"text": "\xff"}', "not UTF-8"),
        (b'{"text": "\\ud800"}', "not UTF-8"),
        (b'{"text": ' + b"[" * 200_000, "not JSON"),
        (b'{"text": ' + b"9" * 10_000 + b"}", "not"),
        ('{"text": "x"}'.encode("utf-16"), "not"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "good"}\n\n' + line + b"\n")
    with pytest.raises(BadConfig, match=message) as caught:
        read(path)
    assert f"{path} line 3" in str(caught.value)
    assert caught.value.hint


@pytest.mark.rule("S2", "S37")
def test_a_line_of_a_hundred_megabytes_is_refused_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        file.truncate(100 << 20)
    with pytest.raises(BadConfig, match=r"a\.jsonl line 1 is longer than 16 MiB"):
        read(path)
    longest = DOCUMENT_BYTES_MAX - len('{"text":""}\n')
    path.write_text('{"text":"' + "x" * longest + '"}\n')
    assert [len(found) for found in read(path)] == [longest]


def test_a_byte_order_mark_and_blank_lines_are_no_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "x"}\r\n\r\n  \n{"text": "y"}')
    assert read(path) == [b"x", b"y"]


def test_progress_adds_up(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", *({"text": "x" * 50} for _ in range(20)))
    (tmp_path / "b").write_bytes(b"y" * (PIECE_BYTES + 9))
    inputs, progress = find_inputs([tmp_path]), list[int]()
    list(documents(inputs, Form(), progress.append))
    assert sum(progress) == inputs.num_bytes
    assert min(progress) >= 0


def test_parquet_needs_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadConfig, match=r"a\.parquet needs the pyarrow library") as caught:
        read(tmp_path / "a.parquet")
    assert caught.value.hint == "pip install 'swarm-train[data]'"


@pytest.mark.rule("S2")
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path: Path, name: str) -> None:
    """Before what came later is taken: a log to which somebody writes faster than we read has no end."""
    path, line = tmp_path / name, b'{"text": "x"}\n'
    path.write_bytes(line * 200_000)
    found = documents(find_inputs([path]), Form(), lambda _: None)
    next(found)
    with path.open("ab") as file:
        file.write(line * 200_000)
    taken = list[bytes]()
    with pytest.raises(BadConfig, match=rf"{name} changed while it was read"):
        taken.extend(found)
    assert len(taken) < 200_000, "nothing of what was appended"


def test_a_file_that_is_cut_short_or_overwritten_while_it_is_read_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.txt"
    for change in (
        lambda: os.truncate(path, 5),
        lambda: path.write_bytes(b"y" * (3 * PIECE_BYTES)),
    ):
        path.write_bytes(b"x" * (3 * PIECE_BYTES))
        os.utime(path, (1.0, 1.0))
        found = documents(find_inputs([path]), Form(), lambda _: None)
        next(found)
        change()
        with pytest.raises(BadConfig, match="changed while it was read"):
            list(found)


def test_a_file_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("no")
    (tmp_path / "in" / "a").write_text("yes")
    inputs = find_inputs([tmp_path / "in"])
    (tmp_path / "in" / "a").unlink()
    (tmp_path / "in" / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(BadConfig, match="it is a link"):
        list(documents(inputs, Form(), lambda _: None))
