"""One column of text is read from Parquet; another type, no column, and a broken file are named."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from swarm.errors import BadConfig
from swarm.training import parquet as module
from swarm.training.parquet import read_column

pa: Any = pyarrow
pq: Any = parquet


def write(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=100)
    return path


def read(path: Path, column: str = "text") -> list[bytes]:
    with path.open("rb") as file:
        return list(read_column(file, path.name, column))


def test_rows_of_every_kind_of_text_are_read_in_order(tmp_path: Path) -> None:
    texts = [f"row {number} ü" for number in range(1000)]
    plain = pa.array(texts)
    for kind in (plain, plain.cast(pa.large_string()), plain.dictionary_encode()):
        found = read(write(tmp_path / "a.parquet", id=list(range(1000)), text=kind))
        assert found == [text.encode() for text in texts]
    assert read(write(tmp_path / "b.parquet", body=["x", None, ""]), "body") == [b"x", b"", b""]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": [1, 2]}, r"'text' is not text but int64; columns of text: none"),
        ({"text": [["a"]], "body": ["b"]}, r"is not text but list.*columns of text: 'body'"),
        ({"text": [b"raw"]}, "is not text but binary"),
        ({"body": ["x"], "id": [1]}, r"no column 'text'; its columns of text: 'body'"),
    ],
)
def test_another_column_is_named(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(BadConfig, match=said) as caught:
        read(write(tmp_path / "a.parquet", **columns))
    assert caught.value.hint == "--column NAME"


def test_text_that_is_not_utf8_is_named_by_row(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff\xfe"])
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    with pytest.raises(BadConfig, match="row 2 is not UTF-8"):
        read(write(tmp_path / "a.parquet", text=text))


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


def test_a_row_group_that_does_not_fit_into_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.parquet", text=[str(number) * 20 for number in range(100)])
    monkeypatch.setattr(module, "ROW_GROUP_BYTES_MAX", 1000)
    with pytest.raises(BadConfig, match="row group 0 holds"):
        read(path)
