"""Find the documents of a corpus in text, JSON Lines and Parquet files, and the files of a data source.

Shell: reads the disk, one document in memory at a time.

A text file is a document; one longer than ``PIECE_BYTES`` is cut at the ends of lines. A line of JSON Lines
and a row of Parquet are a document each. Malformed input is refused by file and line, not skipped; so is a
file that is written to while it is read, because the text would mix two versions.
"""

import json
import os
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from swarm.errors import BadConfig
from swarm.training.data.disk import FILE_BYTES_MAX, SPLIT_HINT, Progress, open_regular
from swarm.training.data.parquet import read_column

PIECE_BYTES = 1 << 20
"""A longer text file becomes several documents; else one book could fill a whole half."""
DOCUMENT_BYTES_MAX = 16 << 20
"""Longest line or row: a document has to fit into memory."""
FILES_MAX = 200_000
"""Their names are held in memory; more texts than that belong in one JSON Lines file."""
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"
PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip", ".tar", ".tgz", ".7z", ".rar")
"""Refused by suffix: these would otherwise be read as text."""
_BOM = b"\xef\xbb\xbf"
_UTF8_BYTES_MAX = 4
STDLIB = "python-stdlib"
"""Name by which a run file asks for the standard library of the running interpreter."""
_NOT_PROSE = frozenset({"test", "tests", "idle_test", "site-packages", "__pycache__", "lib2to3"})
"""Tests are repetitive, and installed packages differ between machines."""


@dataclass(frozen=True, slots=True)
class Form:
    """Settings for reading inputs."""

    field: str = "text"
    """Name of the text field of an object in JSON Lines."""
    column: str = "text"
    """Name of the text column of a Parquet file."""
    is_utf8: bool = False
    """True if text files must be UTF-8; byte tokens accept anything."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files to read."""

    files: tuple[Path, ...]
    num_links: int
    """Links inside folders, which are not followed."""
    num_bytes: int


def find_inputs(names: Sequence[Path]) -> Inputs:
    """Return the files that the names stand for, folders searched, in order; raise ``BadConfig`` for a bad one.

    Links, hidden files and special files inside folders are skipped; a name given explicitly may be a link.
    """
    files, num_links = list[Path](), 0
    for name in names:
        if not name.is_dir():
            with open_regular(name, follow=True):
                files.append(name.resolve())
            continue
        for path in files_below(name):
            if path.is_symlink():
                num_links += 1
            elif path.is_file():
                files.append(path)
            if len(files) > FILES_MAX:
                raise BadConfig(
                    f"{name} holds more than {FILES_MAX:,} files",
                    hint="put the texts into one file of JSON Lines",
                )
    for path in files:
        if path.suffix.lower() in PACKED:
            raise BadConfig(f"{path} is packed", hint=f"unpack {path.name} first")
    return Inputs(tuple(files), num_links, sum(path.stat().st_size for path in files))


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, hidden ones excluded; links to folders are yielded, not entered."""
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(at, name) for name in folders if Path(at, name).is_symlink())
        yield from (Path(at, name) for name in sorted(names) if not name.startswith("."))


def documents(inputs: Inputs, form: Form, progress: Progress) -> Iterator[bytes]:
    """Yield every non-empty document; raise ``BadConfig`` naming the file and the line of a bad one."""
    for path in inputs.files:
        with open_regular(path) as file:
            before = os.fstat(file.fileno())
            suffix = path.suffix.lower()
            if suffix == PARQUET:
                found = read_column(file, str(path), form.column, DOCUMENT_BYTES_MAX)
            elif suffix in JSON_LINES:
                found = _lines(file, path, form.field)
            else:
                found = _pieces(file, path, is_utf8=form.is_utf8)
            done = 0
            for document in found:
                now = file.tell()
                if now > before.st_size:  # at once: a growing log has no end
                    raise _changed(path)
                if document:
                    yield document
                progress(max(now - done, 0))
                done = max(now, done)
            after = os.fstat(file.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise _changed(path)


def _changed(path: Path) -> BadConfig:
    return BadConfig(f"{path} changed while it was read", hint=f"copy {path.name}, name the copy")


def _pieces(file: BinaryIO, path: Path, *, is_utf8: bool) -> Iterator[bytes]:
    offset, held = 0, file.read(PIECE_BYTES + 1)
    while held:
        cut = len(held) if len(held) <= PIECE_BYTES else _cut(held)
        piece = held[:cut]
        if is_utf8:
            _check_utf8(piece, path, offset)
        yield piece
        offset += cut
        held = held[cut:]
        held += file.read(PIECE_BYTES + 1 - len(held))


def _cut(held: bytes) -> int:
    """Return the length of a piece: after a line, else before a character, at most ``PIECE_BYTES``."""
    if line := held.rfind(b"\n", 0, PIECE_BYTES) + 1:
        return line
    cut = PIECE_BYTES
    while held[cut] & 0xC0 == 0x80 and cut > PIECE_BYTES - _UTF8_BYTES_MAX:
        cut -= 1
    return cut


def _check_utf8(piece: bytes, path: Path, offset: int) -> None:
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadConfig(
            f"{path} is not UTF-8 at byte {offset + error.start}",
            hint=f"iconv -f latin1 -t utf8 {path.name}, or --tokenizer bytes, which takes anything",
        ) from None


def _lines(file: BinaryIO, path: Path, field: str) -> Iterator[bytes]:
    number = 0
    while line := file.readline(DOCUMENT_BYTES_MAX + 1):
        number += 1
        where = f"{path} line {number}"
        if len(line) > DOCUMENT_BYTES_MAX:
            raise BadConfig(
                f"{where} is longer than {DOCUMENT_BYTES_MAX >> 20} MiB",
                hint="cut long documents into several lines",
            )
        if number == 1:
            line = line.removeprefix(_BOM)
        if line.strip():
            yield _field(line, field, where)


def _field(line: bytes, field: str, where: str) -> bytes:
    """Return the text of one object; b"" for null."""
    try:
        found: object = json.loads(line.decode("utf-8"))
        if not isinstance(found, dict):
            raise BadConfig(f"{where} is not an object", hint='one {"text": "..."} in each line')
        if field not in found:
            fields = ", ".join(repr(str(key)[:40]) for key in list(found)[:8]) or "nothing"
            raise BadConfig(f"{where} has no field {field!r}; it has {fields}", hint="--field NAME")
        text: object = found[field]
        if text is None:
            return b""
        if not isinstance(text, str):
            raise BadConfig(
                f"{where}: {field!r} is not text but {type(text).__name__}", hint="--field NAME"
            )
        return text.encode("utf-8")
    except UnicodeError as error:
        raise BadConfig(
            f"{where} is not UTF-8: {error}", hint="write that line again as UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"{where} is not JSON: {str(error)[:100]}", hint="jq . FILE") from None


def read_source(source: str | Sequence[str]) -> Iterator[bytes]:
    """Yield the files that a run file's ``[data] source`` names; raise ``BadConfig`` for an unreadable one."""
    if isinstance(source, str):
        if source != STDLIB:
            raise BadConfig(
                f"unknown data source {source!r}", hint=f'use "{STDLIB}" or a list of paths'
            )
        yield from stdlib_files()
        return
    for name in source:
        yield from _read_path(Path(name).expanduser())


def stdlib_files() -> Iterator[bytes]:
    """Yield the source files of this interpreter's standard library, in order of path."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if not _NOT_PROSE.intersection(path.relative_to(root).parts):
            yield path.read_bytes()


def _read_path(path: Path) -> Iterator[bytes]:
    """Yield a file, or the files below a folder, without links and hidden files (``find_inputs``)."""
    if not path.is_dir():
        yield _read_file(path, follow=True)
        return
    for below in files_below(path):
        if below.is_file() and not below.is_symlink():
            yield _read_file(below, follow=False)


def _read_file(path: Path, *, follow: bool) -> bytes:
    try:
        with open_regular(path, follow=follow) as file:
            data = file.read(FILE_BYTES_MAX + 1)  # bounded whatever size it states
    except (OSError, BadConfig) as error:
        cause = str(error) if isinstance(error, BadConfig) else f"{path}: {error.strerror}"
        raise BadConfig(
            f"the data file cannot be used: {cause}",
            hint="name files that are there under [data] source of the run file",
        ) from None
    if len(data) > FILE_BYTES_MAX:
        raise BadConfig(f"{path} is larger than {FILE_BYTES_MAX >> 20} MiB", hint=SPLIT_HINT)
    return data
