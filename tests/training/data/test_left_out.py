"""What is no text is left out and counted, whatever it is called; text in other wrappings is read."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from swarm.errors import BadConfig
from swarm.training.data import documents as module
from swarm.training.data.documents import (
    PIECE_BYTES,
    Form,
    Tally,
    documents,
    find_inputs,
    read_source,
)

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256))
LINES = b'{"text": "one"}\n{"text": "two"}\n'


def read(*names: Path, **form: str) -> tuple[list[bytes], Tally]:
    tally = Tally()
    return list(documents(find_inputs(names), Form(**form), lambda _: None, tally)), tally


def kinds(tally: Tally) -> dict[str, int]:
    found = Counter[str]()
    for left_out in tally.left_out.values():
        found[left_out.kind.name] += left_out.num_files
    return dict(found)


@pytest.mark.rule("T13b", "S2")
def test_what_is_no_text_is_counted_by_kind_and_never_read(tmp_path: Path) -> None:
    """A picture among the texts teaches noise, and nobody notices: it is not read, whatever its name."""
    text = "Grüße aus Köln.\n" * 20
    for name, data in {
        "a.png": PNG,
        "b.txt": PNG,
        "c.jsonl": PNG,
        "d.parquet": PNG,
        "e.pdf": b"%PDF-1.4\n\xff\xff",
        "f.txt": text.encode("utf-16-le"),
        "g.txt": text.encode("latin-1"),
        "h.tar.gz": gzip.compress(b"x".ljust(257, b"\0") + b"ustar" + bytes(500)),
        "i.parquet.gz": gzip.compress(b"PAR1\0"),
        "j.jsonl": LINES.decode().encode("utf-16-be"),
        "k": b"",
        "l": text.encode(),
    }.items():
        (tmp_path / name).write_bytes(data)
    found, tally = read(tmp_path)
    assert found == [text.encode()]
    assert kinds(tally) == {
        "picture": 4,
        "PDF": 1,
        "UTF-16 without a mark": 2,
        "Latin-1": 1,
        "archive": 1,
        "packed Parquet": 1,
    }
    assert (tally.num_files, tally.num_empty_files, tally.text_bytes) == (1, 1, len(text.encode()))
    (pictures,) = (found for found in tally.left_out.values() if found.kind.name == "picture")
    assert (pictures.example, pictures.num_bytes) == (str(tmp_path / "a.png"), 4 * len(PNG))


@pytest.mark.rule("T13b")
def test_each_command_that_mends_has_an_example_of_its_own(tmp_path: Path) -> None:
    """The command for one byte order makes noise of the other."""
    text = "The dog runs over an old bridge. Nobody waits.\n" * 9
    for name, data in {
        "a.txt": text.encode("utf-16-le"),
        "b.txt": text.encode("utf-16-be"),
        "c.txt": text.encode("utf-16-be"),
        "d.txt.gz": gzip.compress(text.encode("utf-16-be")),
    }.items():
        (tmp_path / name).write_bytes(data)
    found = [
        (one.num_files, one.hint.split(" -t ")[0]) for one in read(tmp_path)[1].left_out.values()
    ]
    assert found == [
        (1, "iconv -f UTF-16LE"),
        (2, "iconv -f UTF-16BE"),
        (1, f"gzip -dc {tmp_path / 'd.txt.gz'} | iconv -f UTF-16BE"),
    ]


@pytest.mark.rule("T13b")
def test_a_file_is_looked_at_to_its_last_byte(tmp_path: Path) -> None:
    (tmp_path / "late.txt").write_bytes(b"x\n" * PIECE_BYTES + b"caf\xe9 au lait\n")
    (tmp_path / "sh").write_bytes(b"#!/bin/sh\n" * PIECE_BYTES + PNG * 500)
    (tmp_path / "wide.txt").write_bytes(b"\xff\xfe" + b"x\0" * PIECE_BYTES + b"\0\xd8\0\0")
    found, tally = read(tmp_path)
    assert found == []
    assert kinds(tally) == {"Latin-1": 1, "binary data": 1, "damaged UTF-16": 1}


@pytest.mark.rule("T13b")
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_believed_and_is_no_text(tmp_path: Path, encoding: str) -> None:
    text = "Grüße 🐟\n" * 300_000
    (tmp_path / "a.txt").write_text(text, encoding=encoding)
    (tmp_path / "b.jsonl").write_text(LINES.decode(), encoding=encoding)
    found, tally = read(tmp_path)
    assert b"".join(found[:-2]).decode() == text
    assert all(len(piece) <= PIECE_BYTES for piece in found)
    assert found[-2:] == [b"one", b"two"]
    assert dict(tally.read_as) == ({} if encoding == "utf-8-sig" else {encoding.upper(): 2})


@pytest.mark.rule("T13c")
def test_packed_lines_and_texts_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES))
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress(LINES))
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(LINES))
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"text"))
    (tmp_path / "e.jsonl").write_bytes(gzip.compress(LINES))
    (tmp_path / "f.json.gz").write_bytes(gzip.compress(b'{\n "a": 3}'))
    (tmp_path / "g.gz").write_bytes(gzip.compress(b""))
    inputs, progress, tally = find_inputs([tmp_path]), list[int](), Tally()
    found = list(documents(inputs, Form(), progress.append, tally))
    assert found == [b"one", b"two"] * 3 + [b"text", b"one", b"two", b'{\n "a": 3}']
    assert tally.read_as == {"gzip or zstandard": 6}
    assert tally.num_empty_files == 1
    assert sum(progress) <= inputs.num_bytes


@pytest.mark.rule("T13c")
def test_a_bad_line_of_a_packed_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(LINES + b"{"))
    with pytest.raises(BadConfig, match=r"a\.jsonl\.gz line 3 is not JSON") as caught:
        read(path)
    lines = f"> {tmp_path / 'a.lines.jsonl'}, and name that file instead"
    assert caught.value.hint == f"gzip -dc {path} | jq -cR 'fromjson?' {lines}"
    path.write_bytes(gzip.compress(LINES * 1000)[:-9])
    with pytest.raises(BadConfig, match=r"a\.jsonl\.gz is damaged: .* it ends too early"):
        read(path)


@pytest.mark.rule("T13e")
def test_lines_of_messages_become_texts(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url"}]
    rows = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": parts}]},
        {"messages": [], "text": "text comes first"},
        {"messages": [{"role": "user", "content": None}]},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, tally = read(path)
    assert found == [b"user: hi\n\nassistant: see\n", b"text comes first"]
    assert (tally.num_chats, tally.num_empty, tally.parts) == (1, 1, {"image_url": 1})
    assert read(path, template="chatml")[0][0].startswith(b"<|im_start|>user\nhi<|im_end|>\n")
    path.write_text('{"messages": []}\n{"messages": null}\n{"text": null}\n')
    found, tally = read(path)
    assert (found, tally.num_empty, tally.num_chats) == ([], 3, 0)
    for empty in ("null", '""'):
        path.write_text(f'{{"text": {empty}, "messages": [{{"role": "user", "content": "a"}}]}}\n')
        assert read(path)[0] == [b"user: a\n"], "a field without text hides no conversation"
    path.write_text('{"messages": [{"role": "user", "content": "a"}, {"content": "b"}]}\n')
    with pytest.raises(BadConfig, match="line 1, message 2 has no role"):
        read(path)
    path.write_text('{"talk": [{"role": "user", "content": "hi"}]}\n')
    assert read(path, field="talk")[0] == [b"user: hi\n"]
    with pytest.raises(BadConfig, match=r"has no field 'text'; it has 'talk'") as caught:
        read(path)
    assert caught.value.hint == "--field talk"
    path.write_text('{"id": "3", "body": "some text"}\n')
    with pytest.raises(BadConfig, match="it has 'id', 'body'") as caught:
        read(path)
    assert caught.value.hint == "--field body"


@pytest.mark.rule("T13b")
def test_json_in_another_form_than_lines_is_named_with_what_makes_lines(tmp_path: Path) -> None:
    """The braces and quotes of a whole array would be trained on."""
    rows = [{"text": "one"}, {"text": "two"}]
    chat = [{"messages": [{"role": "user", "content": "hi"}]}]
    for name, data in {
        "a.json": json.dumps(rows),
        "b.json": f"\ufeff {json.dumps(chat, indent=1)}",
        "c.json": json.dumps(rows[0], indent=1),
        "d.json": "[1, 2]",
        "e.json": '{"other": [{"text": "one"}]}',
        "f.json": json.dumps(rows[0]),
        "g.json": "[" * 100_000,
        "h.json": f"{json.dumps(rows[0])} {json.dumps(rows[1])}",
    }.items():
        (tmp_path / name).write_text(data)
    found, tally = read(tmp_path)
    assert found[2] == b"one"
    assert len(found) == 4
    assert kinds(tally) == {"JSON array": 2, "JSON of other lines": 2}
    (tmp_path / "a.json").write_bytes('[{"text": "Grüße"}]'.encode("latin-1"))
    assert kinds(read(tmp_path / "a.json")[1]) == {"Latin-1": 1}, "before it is told from JSON"
    path, lines = tmp_path / "x.jsonl", tmp_path / "x.lines.jsonl"
    for data, command in (
        (json.dumps(rows), "jq -c '.[]'"),
        (json.dumps(rows, indent=1), "jq -c '.[]'"),
        (json.dumps(rows[0], indent=1), "jq -c ."),
        (f"{json.dumps(rows[0])} {json.dumps(rows[1])}", "jq -c ."),
        ('{"text": "cut', "jq -cR 'fromjson?'"),
        ("oops", "jq -cR 'fromjson?'"),
    ):
        path.write_text(data)
        with pytest.raises(BadConfig, match=r"x\.jsonl line 1") as caught:
            read(path)
        assert caught.value.hint == f"{command} {path} > {lines}, and name that file instead"


@pytest.mark.rule("T13b")
def test_a_line_in_another_encoding_is_named_with_the_command_for_it(tmp_path: Path) -> None:
    """Dropping what is no UTF-8 would drop every umlaut of a file in Latin-1."""
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "Grüße"}\n'.encode("latin-1"))
    with pytest.raises(BadConfig, match=r"line 1 is not UTF-8 \(Latin-1\)") as caught:
        read(path)
    assert caught.value.hint.startswith(f"iconv -f WINDOWS-1252 -t UTF-8 {path} > ")
    path.write_bytes(b"\x9b" + bytes(range(11, 256)) * 3)
    with pytest.raises(BadConfig, match=r"line 1 is not UTF-8 \(binary data\)") as caught:
        read(path)
    assert caught.value.hint == f"file {path}"


def test_a_mark_alone_is_an_empty_file(tmp_path: Path) -> None:
    for number, mark in enumerate((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xff\xfe\0\0")):
        (tmp_path / str(number)).write_bytes(mark)
    found, tally = read(tmp_path)
    assert (found, tally.num_empty_files) == ([], 4)


def test_types_of_parts_are_counted_within_a_bound() -> None:
    """Whoever writes the lines chooses the types: each with a name of its own would fill the memory."""
    tally = Tally()
    tally.add_parts([str(number) for number in range(1000)])
    assert len(tally.parts) == module.PARTS_MAX + 1
    assert tally.parts["other"] == 1000 - module.PARTS_MAX


def test_hidden_and_special_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".x").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "a").write_text("a")
    (tmp_path / "old").mkdir()
    for name in ("manifest.bin", "train.bin"):
        (tmp_path / "old" / name).write_text("tokens of another build")
    found = find_inputs([tmp_path])
    assert (found.num_hidden, found.num_special, found.num_links) == (2, 1, 1)
    assert (found.files, found.num_datasets) == ((tmp_path / "a",), 1)


def test_what_may_not_be_read_is_named_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test may run as root, whom no mode stops: the kernel's answer is given in its place."""
    (tmp_path / "below").mkdir()
    (tmp_path / "a").write_text("a")
    inputs = find_inputs([tmp_path])
    (tmp_path / "a").unlink()
    with pytest.raises(BadConfig, match="a cannot be read: No such file"):
        list(documents(inputs, Form(), lambda _: None))
    scan = os.scandir

    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    def denied(path: str) -> object:
        if str(path).endswith("below"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BadConfig, match="a cannot be read: Permission denied") as caught:
        list(documents(inputs, Form(), lambda _: None))
    assert caught.value.hint == f"chmod u+r {tmp_path / 'a'}"
    monkeypatch.undo()
    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(BadConfig, match="below cannot be read: Permission denied") as caught:
        find_inputs([tmp_path])
    assert caught.value.hint == f"chmod -R u+rX {tmp_path / 'below'}"


@pytest.mark.rule("T13b")
def test_a_source_of_a_run_file_is_text_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("Grüße", encoding="utf-16")
    (tmp_path / "b").write_text("Grüße", encoding="utf-8-sig")
    assert list(read_source([str(tmp_path)])) == ["Grüße".encode()] * 2
    for data, kind in ((PNG, "picture"), (b"caf\xe9", "Latin-1"), (b"\xff\xfe\0\xd8", "damaged")):
        (tmp_path / "c").write_bytes(data)
        with pytest.raises(BadConfig, match=f"c under .data. source is no text but {kind}"):
            list(read_source([str(tmp_path)]))
    for data, kind in ((gzip.compress(b"x"), "gzip"), (b"PAR1\x15\0", "Parquet")):
        (tmp_path / "c").write_bytes(data)
        with pytest.raises(BadConfig, match=f"is no text but {kind}$") as caught:
            list(read_source([str(tmp_path)]))
        assert "which reads it" in caught.value.hint
    (tmp_path / "c").rename(tmp_path / "c.jsonl")
    with pytest.raises(BadConfig, match=r"c\.jsonl under .data. source is no text but JSON Lines"):
        list(read_source([str(tmp_path / "c.jsonl")]))
