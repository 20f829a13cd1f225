"""Find the documents of a corpus in text, JSON Lines and Parquet files, and the files of a data source.

Shell: reads the disk, one document in memory at a time.

A text file is a document; one longer than ``PIECE_BYTES`` is cut at the ends of lines. A line of JSON Lines
and a row of Parquet are a document each. What a file holds is told by its bytes: files that are no text are
left out and counted by kind, never read as text. Malformed input is refused by file and line, not skipped; so
is a file that is written to while it is read, because the text would mix two versions.
"""

import codecs
import json
import os
import shlex
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from swarm.errors import BadConfig
from swarm.training.data.chat import FIELD, chat_text, field_of, is_chat, program_for
from swarm.training.data.dataset import MANIFEST_FILE, TRAIN_FILE
from swarm.training.data.disk import FILE_BYTES_MAX, SPLIT_HINT, Progress, open_regular
from swarm.training.data.kinds import (
    DAMAGED_WIDE,
    HEAD_BYTES,
    JSON_ARRAY,
    JSON_BROKEN,
    JSON_SPREAD,
    MARKS,
    PACKED_PARQUET,
    PARQUET_ELSEWHERE,
    PARQUET_MAGIC,
    Kind,
    format_of,
    kind_of_broken,
    kind_of_head,
    mark_of,
    packing_of,
)
from swarm.training.data.packed import as_utf8, plain_name, unpacked
from swarm.training.data.parquet import read_column

PIECE_BYTES = 1 << 20
"""A longer text file becomes several documents; else one book could fill a whole half."""
DOCUMENT_BYTES_MAX = 16 << 20
"""Longest line or row: a document has to fit into memory."""
FILES_MAX = 200_000
"""Their names are held in memory; more texts than that belong in one JSON Lines file."""
PARTS_MAX = 16
"""Types of parts of messages that are counted by name; the others are counted together."""
JSON_LINES = (".jsonl", ".ndjson")
JSON = ".json"
"""Text, unless it begins with an object with the field of the text: then it holds JSON Lines."""
PARQUET = ".parquet"
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
    template: str = "plain"
    """Name of the template by which conversations become text (``chat.TEMPLATES``)."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files to read."""

    files: tuple[Path, ...]
    num_links: int
    """Links inside folders, which are not followed."""
    num_bytes: int
    num_hidden: int = 0
    """Hidden files and folders inside folders."""
    num_special: int = 0
    """Pipes, sockets and devices inside folders."""
    num_datasets: int = 0
    """Datasets inside folders: tokens, which are no text."""


@dataclass(slots=True)
class LeftOut:
    """Files of one kind that are no text."""

    kind: Kind
    """Kind of the first of them."""
    example: str
    hint: str
    """Command that makes text of the first of them."""
    num_files: int = 0
    num_bytes: int = 0


@dataclass(slots=True)
class Tally:
    """Counts of what was read and of what was left out, by reason."""

    num_files: int = 0
    """Files that were read as text."""
    text_bytes: int = 0
    """Bytes of all documents found, as UTF-8."""
    num_empty_files: int = 0
    num_empty: int = 0
    """Lines and rows without text."""
    num_chats: int = 0
    """Conversations that a template made text of."""
    parts: Counter[str] = field(default_factory=Counter)
    """Parts of messages that have no text, by type."""
    read_as: Counter[str] = field(default_factory=Counter)
    """Files that were converted while they were read, by what they were."""
    left_out: dict[tuple[str, str], LeftOut] = field(default_factory=dict)
    """Files that are no text, by their kind and by the command that makes text of them."""

    def leave_out(self, kind: Kind, path: Path, num_bytes: int, packing: str = "") -> None:
        """Count a file that is no text, packed or not."""
        new = LeftOut(kind, str(path), kind.hint(str(path), packing))
        found = self.left_out.setdefault((kind.name, kind.hint("", packing)), new)
        found.num_files += 1
        found.num_bytes += num_bytes

    def add_parts(self, parts: Sequence[str]) -> None:
        """Count parts of a conversation that were left out."""
        for part in parts:
            self.parts[part if part in self.parts or len(self.parts) < PARTS_MAX else "other"] += 1


def find_inputs(names: Sequence[Path]) -> Inputs:
    """Return the files that the names stand for, folders searched, in order; raise ``BadConfig`` for a bad one.

    Links, hidden files and special files inside folders are skipped; a name given explicitly may be a link.
    """
    files, counts = list[Path](), Counter[str]()
    for name in names:
        try:
            _find(name, files, counts)
        except OSError as error:
            raise _unreadable(name, error) from None
    return Inputs(
        files=tuple(files),
        num_links=counts["link"],
        num_bytes=counts["bytes"],
        num_hidden=counts["hidden"],
        num_special=counts["special"],
        num_datasets=counts["dataset"],
    )


def _find(name: Path, files: list[Path], counts: Counter[str]) -> None:
    if not name.is_dir():
        with open_regular(name, follow=True) as file:
            files.append(name.resolve())
            counts["bytes"] += os.fstat(file.fileno()).st_size
        return
    for path in files_below(name, counts):
        if path.is_symlink():
            counts["link"] += 1
        elif path.is_file():
            files.append(path)
            counts["bytes"] += path.stat().st_size
        else:
            counts["special"] += 1
        if len(files) > FILES_MAX:
            raise BadConfig(
                f"{name} holds more than {FILES_MAX:,} files",
                hint="put the texts into one file of JSON Lines",
            )


def _unreadable(name: Path, error: OSError) -> BadConfig:
    path = str(error.filename or name)
    return BadConfig(
        f"{path} cannot be read: {error.strerror}", hint=f"chmod -R u+rX {shlex.quote(path)}"
    )


def files_below(folder: Path, counts: Counter[str] | None = None) -> Iterator[Path]:
    """Yield the files below a folder, hidden ones excluded; links to folders are yielded, not entered.

    Raises ``OSError`` for a folder that cannot be read: it may hold text. ``counts`` gets what is hidden,
    and datasets, which are then not yielded.
    """

    def fail(error: OSError) -> None:
        raise error

    for at, folders, names in os.walk(folder, onerror=fail):
        if counts is not None and {MANIFEST_FILE, TRAIN_FILE} <= set(names):
            counts["dataset"] += 1
            folders.clear()
            continue
        shown = [[name for name in some if not name.startswith(".")] for some in (folders, names)]
        if counts is not None:
            counts["hidden"] += len(folders) + len(names) - sum(map(len, shown))
        folders[:] = sorted(shown[0])
        yield from (Path(at, name) for name in folders if Path(at, name).is_symlink())
        yield from (Path(at, name) for name in sorted(shown[1]))


def documents(
    inputs: Inputs, form: Form, progress: Progress, tally: Tally | None = None
) -> Iterator[bytes]:
    """Yield every non-empty document; raise ``BadConfig`` naming the file and the line of a bad one.

    ``tally`` gets the counts of what is read, and of what is left out because it is no text.
    """
    tally = Tally() if tally is None else tally
    for path in inputs.files:
        with open_regular(path) as file:
            before = os.fstat(file.fileno())
            done = 0
            try:
                for document in _File(file, path, form, tally, progress).documents():
                    now = file.tell()
                    if now > before.st_size:  # at once: a growing log has no end
                        raise _changed(path)
                    if document:
                        tally.text_bytes += len(document)
                        yield document
                    else:
                        tally.num_empty += 1
                    progress(max(now - done, 0))
                    done = max(now, done)
            except OSError as error:
                raise _unreadable(path, error) from None
            except UnicodeDecodeError:  # all of it was of its encoding when it was looked at
                raise _changed(path) from None
            after = os.fstat(file.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise _changed(path)
            progress(max(before.st_size - done, 0))


def _changed(path: Path) -> BadConfig:
    copy = shlex.join(["cp", str(path), f"{path}.copy"])
    return BadConfig(f"{path} changed while it was read", hint=f"{copy}, and name the copy")


class _File:
    """One open input file: what it holds, and its documents."""

    def __init__(
        self, file: BinaryIO, path: Path, form: Form, tally: Tally, progress: Progress
    ) -> None:
        self._file, self._path, self._form, self._tally = file, path, form, tally
        self._progress = progress
        self._size = os.fstat(file.fileno()).st_size
        self._packing = ""

    def documents(self) -> Iterator[bytes]:
        """Yield the documents; none, and counted, if it is no text. b"" stands for one without text."""
        stream = self._opened()
        head = stream.read(HEAD_BYTES)
        if not head or head in MARKS:
            self._tally.num_empty_files += 1
            return
        if stream is not self._file:
            self._file.seek(0)
            self._packing = packing_of(self._file.read(HEAD_BYTES))
        name, mark = plain_name(self._path), mark_of(head)
        if name.endswith(PARQUET) and (head.startswith(PARQUET_MAGIC) or format_of(head) is None):
            yield from self._rows()
            return
        is_lines, kind = name.endswith(JSON_LINES), None
        if name.endswith(JSON):
            is_lines, kind = self._json(mark)
        kind = self._kind(head, mark, is_lines=is_lines) or kind
        if kind is not None:
            self._tally.leave_out(kind, self._path, self._size, self._packing)
            return
        self._tally.num_files += 1
        if self._packing:
            self._tally.read_as["gzip or zstandard"] += 1
        if mark in _WIDE:
            self._tally.read_as[mark.upper()] += 1
        yield from self._lines(mark) if is_lines else self._pieces(mark)

    def _opened(self, mark: str = "") -> BinaryIO:
        """Return the content from its start, unpacked, and as UTF-8 if a mark states another encoding."""
        stream = unpacked(self._file, self._path)
        return as_utf8(stream, mark) if mark in _WIDE else stream

    def _kind(self, head: bytes, mark: str, *, is_lines: bool) -> Kind | None:
        """Return the kind of a file that is no text, all of it looked at; None for text."""
        if mark in _WIDE:
            return self._broken(mark)
        if is_lines:  # a bad line is named when it is reached
            return format_of(head) or (kind_of_head(head) if 0 in head[:4] else None)
        return kind_of_head(head) or self._broken(mark)

    def _broken(self, mark: str) -> Kind | None:
        """Return the kind of a content that is not of its encoding from the first byte to the last."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        stream, chunk = self._opened(mark), b""
        try:
            while following := stream.read(PIECE_BYTES):
                chunk = following
                if self._file.tell() > self._size:  # a growing log has no end
                    raise _changed(self._path)
                decoder.decode(chunk)
                self._progress(0)  # a long file is not looked at in silence
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            return DAMAGED_WIDE if mark in _WIDE else kind_of_broken(_around(chunk, error.start))
        return None

    def _json(self, mark: str) -> tuple[bool, Kind | None]:
        """Return whether a .json file holds JSON Lines, and its kind if its texts have another form."""
        try:
            head = self._opened(mark).read(DOCUMENT_BYTES_MAX).removeprefix(_BOM).lstrip()
            is_array = head.startswith(b"[")
            text = head.removeprefix(b"[").lstrip().decode("utf-8", "replace")
            found, end = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            return False, None
        if not isinstance(found, dict) or not self._has_text(found):
            return False, None
        if is_array:
            return False, JSON_ARRAY
        is_line = "\n" not in text[:end] and not text[end:].partition("\n")[0].strip()
        return is_line, None if is_line else JSON_SPREAD

    def _has_text(self, found: dict[str, object]) -> bool:
        return isinstance(found.get(self._form.field), str) or is_chat(found.get(FIELD))

    def _rows(self) -> Iterator[bytes]:
        if self._packing:
            self._tally.leave_out(PACKED_PARQUET, self._path, self._size, self._packing)
            return
        self._tally.num_files += 1
        self._file.seek(0)
        name, column = str(self._path), self._form.column
        yield from read_column(self._file, name, column, DOCUMENT_BYTES_MAX, self._written)

    def _pieces(self, mark: str) -> Iterator[bytes]:
        stream = self._opened(mark)
        held = stream.read(PIECE_BYTES + 1).removeprefix(_BOM)
        while held:
            cut = len(held) if len(held) <= PIECE_BYTES else _cut(held)
            yield held[:cut]
            held = held[cut:]
            held += stream.read(PIECE_BYTES + 1 - len(held))

    def _lines(self, mark: str) -> Iterator[bytes]:
        stream, number = self._opened(mark), 0
        while line := stream.readline(DOCUMENT_BYTES_MAX + 1):
            number += 1
            where = f"{self._path} line {number}"
            if len(line) > DOCUMENT_BYTES_MAX:
                raise BadConfig(
                    f"{where} is longer than {DOCUMENT_BYTES_MAX >> 20} MiB",
                    hint="cut long documents into several lines",
                )
            if number == 1:
                line = line.removeprefix(_BOM)
            if line.strip():
                yield self._text(line, where, is_first=number == 1)

    def _text(self, line: bytes, where: str, *, is_first: bool) -> bytes:
        """Return the text of one object; b"" for null."""
        try:
            found = json.loads(line.decode("utf-8"))
            return self._chosen(found, where, is_first=is_first).encode("utf-8")
        except UnicodeDecodeError as error:
            kind = kind_of_broken(_around(line, error.start))
            cause = f"is not UTF-8 ({kind.name})"
        except UnicodeEncodeError:
            kind, cause = JSON_BROKEN, "is not UTF-8: a half of a character, \\ud800 or the like"
        except (ValueError, RecursionError) as error:
            kind = _form_of(line) if is_first else JSON_BROKEN
            cause = f"is not JSON: {str(error)[:100]}"
        raise BadConfig(f"{where} {cause}", hint=self._instead(kind))

    def _instead(self, kind: Kind) -> str:
        """Return the hint of a kind, for a file that is named itself or lies in a folder."""
        command = kind.hint(str(self._path), self._packing)
        return f"{command}, and name that file instead" if " > " in kind.command else command

    def _chosen(self, found: object, where: str, *, is_first: bool) -> str:
        """Return the text of a field, or that of a conversation; "" for null."""
        name = self._form.field
        if not isinstance(found, dict):
            hint = 'one {"text": "..."} in each line'
            is_array = is_first and isinstance(found, list)
            raise BadConfig(
                f"{where} is not an object", hint=self._instead(JSON_ARRAY) if is_array else hint
            )
        text, chat = found.get(name), found.get(FIELD)
        if (not text or name == FIELD) and FIELD in found and (not chat or is_chat(chat)):
            text = chat or None
        elif name not in found:
            fields = ", ".join(repr(str(key)[:40]) for key in list(found)[:8]) or "nothing"
            raise BadConfig(
                f"{where} has no field {name!r}; it has {fields}", hint=self._field_hint(found)
            )
        if text is None:
            return ""
        if is_chat(text):
            return self._written(text, where).decode("utf-8")
        if not isinstance(text, str):
            raise BadConfig(
                f"{where}: {name!r} is not text but {type(text).__name__}", hint="--field NAME"
            )
        return text

    def _written(self, messages: list[object], where: str) -> bytes:
        """Return the text of a conversation, counted."""
        chat = chat_text(messages, self._form.template, where)
        self._tally.num_chats += bool(chat.text)
        self._tally.add_parts(chat.parts)
        return chat.text.encode("utf-8")

    def _field_hint(self, found: dict[str, object]) -> str:
        """Return a hint for an object without the field: the field that is meant, or what makes one."""
        if program := program_for(found):
            quoted = shlex.quote(program).replace("{", "{{").replace("}", "}}")
            return self._instead(Kind("", f"jq -c {quoted} {{path}} > {{lines}}"))
        field = field_of(found)
        return f"--field {shlex.quote(field)}" if field else "--field NAME"


def _form_of(line: bytes) -> Kind:
    """Return the form of JSON that begins with a line that is none by itself."""
    start = line.translate(None, b" \t\r\n")
    if start in {b"[", b"[{"}:
        return JSON_ARRAY
    return JSON_SPREAD if start == b"{" or b"}{" in start else JSON_BROKEN


_WIDE = frozenset({"utf-16", "utf-32"})
"""Encodings that a byte order mark states, and that are converted."""


def _around(data: bytes, offset: int) -> bytes:
    """Return the bytes around an offset; they begin where a unit of UTF-32 does."""
    start = max(offset - HEAD_BYTES // 2, 0) & ~3
    return data[start : start + HEAD_BYTES]


def _cut(held: bytes) -> int:
    """Return the length of a piece: after a line, else before a character, at most ``PIECE_BYTES``."""
    if line := held.rfind(b"\n", 0, PIECE_BYTES) + 1:
        return line
    cut = PIECE_BYTES
    while held[cut] & 0xC0 == 0x80 and cut > PIECE_BYTES - _UTF8_BYTES_MAX:
        cut -= 1
    return cut


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
    if path.name.lower().endswith(JSON_LINES):
        raise _no_source(path, "JSON Lines")
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
    mark = mark_of(data)
    try:
        if mark in _WIDE:
            return data.decode(mark).encode("utf-8")
        if (kind := kind_of_head(data[:HEAD_BYTES])) is None:
            data.decode("utf-8")
            return data.removeprefix(_BOM)
    except UnicodeDecodeError as error:
        kind = DAMAGED_WIDE if mark in _WIDE else kind_of_broken(_around(data, error.start))
    name = packing_of(data) or ("Parquet" if kind is PARQUET_ELSEWHERE else kind.name)
    raise _no_source(path, name)


def _no_source(path: Path, name: str) -> BadConfig:
    return BadConfig(
        f"{path} under [data] source is no text but {name}",
        hint="swarm data build INPUT --out NAME, which reads it or says what makes text of it, and"
        ' dataset = "NAME" under [data]',
    )
