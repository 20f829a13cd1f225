"""A file is told by its bytes: known formats, encodings and other bytes, however it is called."""

import random
import shlex
import subprocess

import pytest

from swarm.training.data import kinds
from swarm.training.data.kinds import Kind, kind_of_broken, kind_of_head, mark_of, packing_of

FORMATS = (
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "picture"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "picture"),
    (b"GIF89a\1\0\1\0", "picture"),
    (b"BM\x36\0\0\0", "picture"),
    (b"RIFF\x24\0\0\0WEBPVP8 ", "picture"),
    (b"RIFF\x24\0\0\0WAVEfmt ", "sound or film"),
    (b"\0\0\0\x20ftypheic", "picture"),
    (b"\0\0\0\x20ftypisom", "sound or film"),
    (b"ID3\4\0\0\0", "sound or film"),
    (b"fLaC\0\0\0\x22", "sound or film"),
    (b"P6\n3 3\n255\n\xff\0\xd8", "picture"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "picture"),
    (b"%PDF-1.7\n", "PDF"),
    (b"%!PS-Adobe-3.0\n", "PostScript"),
    (b"{\\rtf1\\ansi ", "office document"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
    (b"\x80\4\x95\x10\0\0\0\0\0\0\0", "binary data"),
    (b"PK\3\4\x14\0\0\0a.txt", "archive"),
    (b"PK\3\4\x14\0\0\0word/document.xml", "office document"),
    (b"PK\3\4\x14\0\0\0xl/workbook.xml", "office document"),
    (b"PK\3\4\x14\0\0\0mimetypeapplication/epub+zip", "office document"),
    (b"7z\xbc\xaf\x27\x1c\0\4", "archive"),
    (b"BZh91AY&SY\xff", "archive"),
    (b"\xfd7zXZ\0\0", "archive"),
    (b"name".ljust(257, b"\0") + b"ustar\0", "archive"),
    (b"\x7fELF\2\1\1", "program"),
    (b"MZ\x90\0\3", "program"),
    (b"SQLite format 3\0", "database"),
    (b"PAR1\x15\0", "Parquet under another name"),
    (bytes(range(256)) * 4, "binary data"),
    (bytes(500), "binary data"),
)
TEXTS = {
    "english": "The dog runs over an old bridge. Nobody waits.\n" * 9,
    "german": "Der Hund läuft über die Brücke.\n" * 9,
    "russian": "Привет, мир. Как дела сегодня?\n" * 9,
    "chinese": "今天天气很好。我们去公园散步。\n" * 9,
    "korean": "안녕하세요 오늘 날씨가 좋네요\n" * 9,
}


def name(kind: Kind | None) -> str:
    return kind.name if kind else ""


@pytest.mark.rule("T13b")
@pytest.mark.parametrize(("head", "wanted"), FORMATS)
def test_known_formats_are_told_by_their_first_bytes(head: bytes, wanted: str) -> None:
    found = kind_of_head(head)
    assert name(found) == wanted
    assert found is not None
    hint = found.hint("in/it's a.txt")
    assert shlex.split(hint.split(" || ")[0]), "it can be pasted into a shell"
    assert "{" not in hint


@pytest.mark.rule("T13b")
@pytest.mark.parametrize(
    "path",
    ["in/a{stem}$(touch x).txt", "in/{text}';touch x;'.png", "-rf", "a b", "{0}{path!r}", ".x"],
)
def test_a_name_cannot_put_a_command_of_its_own_into_the_hint(path: str) -> None:
    """Files come from strangers, and a hint is there to be pasted: who names a file must not write it."""
    safe = path if path != "-rf" else "./-rf"
    folder = safe.rpartition("/")[0] or "."
    every = [kind for kind in vars(kinds).values() if isinstance(kind, Kind)]
    for kind, packing in ((kind, packing) for kind in every for packing in ("", "gzip")):
        hint, wanted_hint = kind.hint(path, packing), kind.hint("PATH.txt", packing)
        words = shlex.split(hint.replace('"$(', "").replace(')"', ""))
        plain = shlex.split(wanted_hint.replace('"$(', "").replace(')"', ""))
        assert len(words) == len(plain)
        assert safe in words or "{path}" not in kind.command
        for word, wanted in zip(words, plain, strict=True):
            assert word in {wanted, folder} or safe.rpartition(".")[0] in word


def test_a_name_of_any_bytes_is_one_word_that_a_terminal_shows() -> None:
    name = b"\xff\x1b[2J';touch x;'\n$(x) \\ \xc3\xbc.txt".decode("utf-8", "surrogateescape")
    word = kinds.quoted(name)
    assert word.isprintable()
    assert word.isascii()
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert done.stdout == name.encode("utf-8", "surrogateescape")
    assert kinds.quoted("für alle") == "'für alle'"


@pytest.mark.parametrize(
    "head",
    [
        b"BM is a text",
        b"MZ",
        b"RIFF is a word",
        b"P5 comes after P4",
        b"ID3 too",
        b"PAR1",
        b"BZh",
        b"",
        b"x\ty\r\n\f\x1b[0m",
    ],
)
def test_a_text_may_begin_with_any_letters(head: bytes) -> None:
    assert kind_of_head(head) is None


@pytest.mark.rule("T13b")
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_utf16_and_utf32_without_a_mark_are_named_with_their_order(text: str) -> None:
    assert kind_of_head(text.encode()) is None
    for encoding in ("UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"):
        found = kind_of_head(text.encode(encoding))
        assert name(found) == f"{encoding[:6]} without a mark"
        assert found is not None
        assert f"iconv -f {encoding} -t UTF-8 a.txt >" in found.hint("a.txt")


@pytest.mark.rule("T13b")
def test_what_is_packed_is_unpacked_before_a_command_that_does_not_unpack() -> None:
    """Else a hint mends nothing: no program reads a picture out of gzip."""
    for kind, path, packing, wanted in (
        (kinds.PICTURE, "in/a.png.gz", "gzip", "gzip -dc in/a.png.gz > in/a.png"),
        (kinds.PICTURE, "in/a b", "zstd", "zstd -dc 'in/a b' > 'in/a b.d'"),
        (kinds.PICTURE, "a.png", "gzip", "gzip -dc a.png > a"),
        (kinds.TAR, "in/a.tgz", "gzip", "mkdir -p in/a && tar -xf in/a.tgz -C in/a"),
        (
            kinds.LATIN,
            "a.jsonl.zst",
            "zstd",
            "zstd -dc a.jsonl.zst | iconv -f WINDOWS-1252 -t UTF-8 > a.utf8.jsonl",
        ),
        (kinds.JSON_ARRAY, "a.json.gz", "gzip", "gzip -dc a.json.gz | jq -c '.[]' > a.lines.jsonl"),
        (kinds.JSON_ARRAY, "a.json", "", "jq -c '.[]' a.json > a.lines.jsonl"),
    ):
        assert kind.hint(path, packing) == wanted


def test_what_a_command_writes_keeps_its_suffix_and_lies_beside_its_source() -> None:
    """Lines in UTF-16 stay lines, and a folder that is named again has what was mended."""
    assert kinds.UTF16_BE.hint("in/a.jsonl").endswith(" > in/a.utf8.jsonl")
    assert kinds.LATIN.hint("in/README").endswith(" > in/README.d.utf8.txt")
    for kind in (kinds.SOUND, kinds.SHEET, kinds.SLIDES, kinds.POINTER):
        assert " in " in f"{kind.hint('in/x')} "
        assert " / " in f"{kind.hint('/x')} "
        assert " . " in f"{kind.hint('x')} "


def test_marks_state_an_encoding() -> None:
    found = [
        mark_of("x".encode(encoding)) for encoding in ("utf-8-sig", "utf-16", "utf-32", "utf-8")
    ]
    assert found == ["utf-8-sig", "utf-16", "utf-32", ""]


@pytest.mark.rule("T13b")
@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (TEXTS["german"].encode("latin-1"), "Latin-1"),
        (b"caf\xe9", "Latin-1"),
        (TEXTS["russian"].encode("koi8-r"), "text of another encoding"),
        (TEXTS["chinese"].encode("gbk"), "text of another encoding"),
        (TEXTS["chinese"].encode() + b"\xff" + TEXTS["chinese"].encode(), "damaged UTF-8"),
        (b"#!/bin/sh\n" + random.Random(1).randbytes(3000), "binary data"),
    ],
)
def test_bytes_that_are_not_utf8_are_named(data: bytes, wanted: str) -> None:
    assert kind_of_broken(data).name == wanted


def test_a_head_may_end_within_a_character() -> None:
    head = ("x" + "é" * kinds.HEAD_BYTES).encode()[: kinds.HEAD_BYTES]
    assert kind_of_head(head) is None
    assert packing_of(b"\x1f\x8b\x08") == "gzip"
    assert packing_of(b"\x28\xb5\x2f\xfd") == packing_of(b"\x5e\x2a\x4d\x18") == "zstd"
    assert packing_of(b"text") == ""


def test_no_bytes_make_the_guess_fail() -> None:
    rng = random.Random(0)
    for length in range(200):
        data = rng.randbytes(length)
        assert kind_of_broken(data)
        kind_of_head(data)
        kind_of_head(bytes(rng.choices(b"\0a\xff\xfe", k=length)))
