"""One column of text is read from Parquet; another type, no column, and a broken file are named."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from swarm.errors import BadConfig
from swarm.training.data import parquet as module
from swarm.training.data.chat import chat_text
from swarm.training.data.parquet import read_column

pa: Any = pyarrow
pq: Any = parquet
ROW_BYTES_MAX = 1 << 20


def write(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=100)
    return path


def written(messages: list[object], where: str) -> bytes:
    return chat_text(messages, "plain", where).text.encode()


def read(path: Path, column: str = "text") -> list[bytes]:
    with path.open("rb") as file:
        return list(read_column(file, path.name, column, ROW_BYTES_MAX, written))


def test_rows_of_every_kind_of_text_are_read_in_order(tmp_path: Path) -> None:
    texts = [f"row {number} ü" for number in range(1000)]
    plain = pa.array(texts)
    for kind in (plain, plain.cast(pa.large_string()), plain.dictionary_encode()):
        found = read(write(tmp_path / "a.parquet", id=list(range(1000)), text=kind))
        assert found == [text.encode() for text in texts]
    assert read(write(tmp_path / "b.parquet", body=["x", None, ""]), "body") == [b"x", b"", b""]


@pytest.mark.parametrize(
    ("columns", "message", "hint"),
    [
        ({"text": [1]}, r"'text' is not text but int64; columns of text: none", "write the text"),
        ({"text": [["a"]], "b c": ["b"]}, r"is not text but list.*: 'b c'", "--column 'b c'"),
        ({"body": ["x"], "id": [1]}, r"no column 'text'; .* of text: 'body'", "--column body"),
        ({"a": ["x"], "b": ["y"]}, r"no column 'text'; .* of text: 'a', 'b'", "--column NAME"),
        ({"messages": [["x"]]}, r"no column 'text'", "write the text"),
        ({"🐟" * 39 + str(n): ["x"] for n in range(9)}, r"no column 'text'", "--column NAME"),
    ],
)
def test_another_column_is_named(
    tmp_path: Path, columns: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(BadConfig, match=message) as caught:
        read(write(tmp_path / "a.parquet", **columns))
    assert caught.value.hint.startswith(hint)


@pytest.mark.rule("T13e")
def test_conversations_are_read_where_there_is_no_column_of_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "text": None}]
    said: Any = [
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yö"}],
        None,
        [],
        [{"role": "user", "content": None}],
    ]
    texts = ["user: hi\n\nassistant: yö\n".encode(), b"", b"", b""]
    path = write(tmp_path / "a.parquet", id=[1, 2, 3, 4], messages=said)
    assert read(path) == read(path, "messages") == texts
    assert read(write(tmp_path / "b.parquet", messages=[[{"role": "u", "content": parts}]])) == [
        b"u: see\n"
    ]
    assert read(write(tmp_path / "c.parquet", talk=said), "talk") == texts
    bare = [[{"role": b"user", "content": "zwö".encode()}]]
    assert read(write(tmp_path / "d.parquet", messages=bare)) == ["user: zwö\n".encode()]
    nulls = pa.array([None], pa.null())
    assert read(write(tmp_path / "e.parquet", text=nulls, messages=said[:1])) == texts[:1]
    assert read(write(tmp_path / "f.parquet", text=["text"], messages=said[:1])) == [b"text"]


@pytest.mark.rule("T13e")
def test_a_bad_conversation_is_named_by_row(tmp_path: Path) -> None:
    said = [[{"role": "user", "content": "hi"}], [{"role": None, "content": "hi"}]]
    with pytest.raises(BadConfig, match=r"b\.parquet row 2, message 1 has no role"):
        read(write(tmp_path / "b.parquet", messages=said))
    bare = [[{"role": "user", "content": b"\xff"}]]
    with pytest.raises(BadConfig, match="column 'messages' is not UTF-8 at row 1"):
        read(write(tmp_path / "c.parquet", messages=bare))


def test_a_column_of_nulls_alone_is_one_without_text(tmp_path: Path) -> None:
    """pandas writes a column in which there is nothing without any type."""
    assert read(write(tmp_path / "a.parquet", text=pa.array([None, None], pa.null()))) == [b"", b""]


def test_text_that_is_not_utf8_is_named_by_row(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff\xfe"])
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    with pytest.raises(BadConfig, match="column 'text' is not UTF-8 at row 2"):
        read(write(tmp_path / "a.parquet", text=text))


@pytest.mark.rule("T13f")
def test_strings_as_spark_writes_them_are_text_if_they_are_utf8(tmp_path: Path) -> None:
    """Their column is of bytes: nothing says that they are UTF-8, but themselves."""
    bare = [b"one", "zwö".encode(), None]
    for kind in (pa.binary(), pa.large_binary()):
        path = write(tmp_path / "a.parquet", text=pa.array(bare, kind))
        assert read(path) == [b"one", "zwö".encode(), b""]
    path = write(tmp_path / "b.parquet", text=[b"\x89PNG\r\n"])
    with pytest.raises(BadConfig, match=r"b.parquet column 'text' is not UTF-8 at row 1") as caught:
        read(path)
    assert "--column NAME" in caught.value.hint


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.parquet", text=["x" * 50] * 500).read_bytes()
    damaged = bytearray(whole)
    damaged[40:60] = bytes(20)
    path = tmp_path / "b.parquet"
    for data in (b"", b"PAR1", b"not parquet at all", whole[:-10], whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(BadConfig, match="not a whole Parquet file"):
            read(path)
    path.write_bytes(damaged)
    with suppress(BadConfig):  # what Parquet itself cannot see is text as good as any
        read(path)


def test_a_long_row_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", text=["short", "x" * (ROW_BYTES_MAX + 1)])
    with pytest.raises(BadConfig, match=r"a.parquet row 2 is longer than 1 MiB") as caught:
        read(path)
    assert caught.value.hint == "cut long documents into several rows"


def a_dictionary_bomb(path: Path, *, value_bytes: int, rows: int) -> Path:
    """One value, and a run-length code that says how often: the file does not grow with the rows."""
    text = pa.DictionaryArray.from_arrays(
        pa.array([0] * rows, pa.int32()), pa.array(["x" * value_bytes])
    )
    pq.write_table(
        pa.table({"text": text}),
        path,
        compression="zstd",
        store_schema=False,
        dictionary_pagesize_limit=1 << 30,
    )
    assert path.stat().st_size < 200_000
    return path


@pytest.mark.rule("S2", "S37")
def test_a_kilobyte_that_asks_for_gigabytes_is_refused_by_what_comes_out(tmp_path: Path) -> None:
    path = a_dictionary_bomb(tmp_path / "a.parquet", value_bytes=1 << 20, rows=200)
    with pytest.raises(BadConfig, match="grows to more than 1000 times as much text") as caught:
        read(path)
    assert caught.value.hint


@pytest.mark.rule("S2", "S37")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory")
def test_a_file_that_is_unpacked_into_more_memory_than_there_may_be_is_refused(
    tmp_path: Path,
) -> None:
    """Two gigabytes as soon as the first row is asked for, and 8 MiB by what the file says of itself."""
    path = a_dictionary_bomb(tmp_path / "a.parquet", value_bytes=8 << 20, rows=256)
    with (
        path.open("rb") as file,
        pytest.raises(BadConfig, match="needs more than 1024 MiB") as caught,
    ):
        list(read_column(file, path.name, "text", 16 << 20, written))
    assert caught.value.hint == "write it again with smaller row groups and pages"


def test_a_reader_that_dies_is_no_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed for its memory it says nothing: what it had read would look like a shorter file."""
    path = write(tmp_path / "a.parquet", text=["x", "y"])
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BadConfig, match="to be read, or is damaged, after row 0"):
        read(path)


def test_a_reader_that_is_left_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[Any]()
    popen: Any = subprocess.Popen

    def begun(*words: Any, **more: Any) -> Any:  # noqa: ANN401
        started.append(popen(*words, **more))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", begun)
    path = write(tmp_path / "a.parquet", text=["x" * 1000] * 5000)
    with path.open("rb") as file:
        rows: Any = read_column(file, path.name, "text", ROW_BYTES_MAX, written)
        assert next(rows) == b"x" * 1000
        assert started[0].poll() is None
        rows.close()
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.rule("S2")
def test_rows_without_text_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes say that null comes a billion times."""
    monkeypatch.setattr(module, "GROWTH_FREE_BYTES", 1000)
    monkeypatch.setattr(module, "GROWTH_MAX", 2)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.nulls(3_000_000, pa.string())}), path)
    assert path.stat().st_size < 100_000
    with pytest.raises(BadConfig, match="grows to more than"):
        read(path)


GUARDED = """
import sys, time
import swarm.training.data.parquet as parquet
sys.platform = sys.argv[1]  # "freebsd": a kernel that is not asked for a limit
parquet._bound_memory(32 << 20)
held = [b"x" * (1 << 20) for _ in range(400)]
time.sleep(20)  # the guard has a hundred looks a second
print("past the bound", len(held))
"""


@pytest.mark.rule("S2")
def test_where_the_kernel_bounds_nobody_the_reader_bounds_itself() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", GUARDED, "freebsd"], capture_output=True, env=env, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"")
