"""Read a column of text or conversations from Parquet, in a process of its own whose memory has a bound.

Shell: starts that process and reads its output. Entry point of pyarrow, which only that process imports.

A Parquet file states how large its pages become when they are unpacked, and a dictionary can stand for any
number of copies of its values: a kilobyte can ask for terabytes. The process that unpacks it is therefore
bounded: on Linux the kernel limits its memory, and on every system it checks its own size a hundred times a
second and ends itself above the bound. The output, rows without text included, is bounded by the file's size.

    to the reader: the file as its standard input
    from it: CHATS, if the rows are conversations; for each row 4 bytes of length and the text, or the messages
        as JSON; then END, or REFUSED with the reason
"""

import json
import os
import shlex
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import IO, Any, BinaryIO

from swarm.errors import BadConfig
from swarm.machine import limit_addresses, resident_bytes
from swarm.training.data.chat import FIELD
from swarm.training.data.tokenizer import PIP_LINE

BATCH_ROWS = 256
BATCH_BYTES = 64 << 20
"""Bytes per batch; fewer rows are read at once if they are long."""
MEMORY_BYTES = 1 << 30
"""Memory of the reader beside its libraries: row groups as usually written need a tenth of it."""
GROWTH_MAX = 1000
"""Bytes of text per byte of the file: ten times the zstandard ratio of the most monotonous prose."""
GROWTH_FREE_BYTES = 64 << 20
"""Bytes of text allowed for a small file, however repetitive."""
ROW_BYTES = 1
"""Bytes counted for a row at least: a kilobyte can also stand for any number of rows without text."""
POLL_S = 0.01
"""Seconds between the reader's checks of its own size: it unpacks some 10 MB in this time."""
GUARD_SLACK_BYTES = 64 << 20
"""Bytes above the kernel's bound, which names the row; this guard only ends the process."""
END, REFUSED, CHATS = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
"""Markers in place of a length."""
_MESSAGE_MAX = 1 << 14
_MESSAGE_CHARS_MAX = 512
"""Characters of a reason, and of a hint; one is at most 12 bytes of JSON."""
_NAME_CHARS_MAX = 40
_LENGTH = struct.Struct(">I")
_STOP_S = 10.0
_ONE_HEAP = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""An allocator that reserves gigabytes to use megabytes would reach the bound at once."""
_SMALLER = "write it again with smaller row groups and pages"


Written = Callable[[list[object], str], bytes]
"""Makes a text of the messages of a conversation, and of the place where they are for errors."""


def read_column(
    file: BinaryIO, name: str, column: str, row_bytes_max: int, written: Written
) -> Iterator[bytes]:
    """Yield the text of each row as UTF-8; b"" for null.

    Without such a column, that of ``messages`` is read if it holds conversations.

    Args:
        file: The open Parquet file.
        name: Its name, for error messages.
        column: The column of text to read.
        row_bytes_max: The most bytes of one row.
        written: Called with each conversation.

    Raises:
        BadConfig: pyarrow is not installed, the file is not Parquet or has no such column of text, a row is too
            long, or the file needs more memory or expands to more text than any honest one.
    """
    if find_spec("pyarrow") is None:
        raise BadConfig(f"{name} needs the pyarrow library, which is not installed", hint=PIP_LINE)
    size = os.fstat(file.fileno()).st_size
    room = GROWTH_FREE_BYTES + GROWTH_MAX * size
    reader = _started(file, column)
    assert reader.stdout is not None, "it is a pipe"
    try:
        row, is_chats = 0, False
        while (length := _length(reader.stdout)) is not None and length < REFUSED:
            if length == CHATS:
                is_chats = True
                continue
            row += 1
            if length > row_bytes_max:
                raise BadConfig(
                    f"{name} row {row} is longer than {row_bytes_max >> 20} MiB",
                    hint="cut long documents into several rows",
                )
            room -= length + ROW_BYTES
            if room < 0:
                raise BadConfig(
                    f"{name} has {size} bytes and grows to more than {GROWTH_MAX} times as much text, at row"
                    f" {row}",
                    hint="leave it out, or write it again without the doubles",
                )
            text = reader.stdout.read(length)
            yield _conversation(text, f"{name} row {row}", written) if is_chats and text else text
        if length is None:
            raise BadConfig(
                f"{name} needs more than {MEMORY_BYTES >> 20} MiB of memory to be read, or is damaged, after"
                f" row {row}",
                hint=_SMALLER,
            )
        if length == REFUSED:
            message, hint = json.loads(reader.stdout.read(_MESSAGE_MAX))
            raise BadConfig(f"{name} {message}", hint=hint)
    finally:
        reader.kill()
        reader.stdout.close()
        reader.wait(_STOP_S)


def _started(file: BinaryIO, column: str) -> subprocess.Popen[bytes]:
    """Start the process that reads a column of an open file."""
    return subprocess.Popen(  # noqa: S603  our own module
        [sys.executable, "-P", "-m", __name__, column, str(MEMORY_BYTES)],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_ONE_HEAP, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def _conversation(text: bytes, where: str, written: Written) -> bytes:
    try:
        return written(json.loads(text), where)
    except (ValueError, RecursionError):
        raise BadConfig(f"{where} is no conversation", hint="--column NAME") from None


def _length(pipe: IO[bytes]) -> int | None:
    """Return the next length; None if the reader has died."""
    head = pipe.read(_LENGTH.size)
    return int(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else None


# --- the reader ---


def main(column: str, memory_bytes: int) -> None:
    """Write the column of the Parquet file on standard input to standard output."""
    out = sys.stdout.buffer
    try:
        for text in _rows(column, memory_bytes):
            if text is None:
                out.write(_LENGTH.pack(CHATS))
                continue
            out.write(_LENGTH.pack(len(text)))
            out.write(text)
        out.write(_LENGTH.pack(END))
    except BadConfig as error:
        message = json.dumps((str(error)[:_MESSAGE_CHARS_MAX], error.hint[:_MESSAGE_CHARS_MAX]))
        out.write(_LENGTH.pack(REFUSED) + message.encode("ascii"))
    out.flush()


def _rows(wanted: str, memory_bytes: int) -> Iterator[bytes | None]:
    """Yield the rows; None before those of conversations."""
    import pyarrow  # noqa: PLC0415  only the reader needs it
    from pyarrow import parquet as reader  # noqa: PLC0415

    pa: Any = pyarrow  # which has no types
    open_file: Any = reader.ParquetFile
    _bound_memory(memory_bytes)
    row, column = 0, wanted
    try:
        parquet = open_file(sys.stdin.buffer, pre_buffer=False, buffer_size=1 << 20)
        column, is_chats = _column(pa, parquet, wanted)
        if is_chats:
            yield None
        batches = parquet.iter_batches(
            batch_size=_rows_at_once(parquet, column), columns=[column], use_threads=False
        )
        for batch in batches:
            for value in batch.column(0):
                row += 1
                text: Any = value.as_py()
                if is_chats and text is not None:
                    text = json.dumps(text, ensure_ascii=False, default=_plain)
                yield b"" if text is None else _utf8(text)
    except UnicodeError:
        raise BadConfig(
            f"column {column!r} is not UTF-8 at row {row}",
            hint="--column NAME, or write it as text",
        ) from None
    except MemoryError:
        raise BadConfig(
            f"needs more than {memory_bytes >> 20} MiB of memory to be read, after row {row}",
            hint=_SMALLER,
        ) from None
    except (pa.lib.ArrowException, OSError) as error:
        message = " ".join(str(error).split())[:200]
        raise BadConfig(
            f"is not a whole Parquet file: {message}", hint="write or download it again"
        ) from None


def _utf8(text: str | bytes) -> bytes:
    """Return text as UTF-8; raise ``UnicodeError`` for bytes that are none."""
    if isinstance(text, bytes):
        text.decode("utf-8")
        return text
    return text.encode("utf-8")


def _plain(value: object) -> str:
    """Return a value that JSON does not have as text; raise ``UnicodeError`` for bytes that are none."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _bound_memory(num_bytes: int) -> None:
    """Limit the memory of this process to ``num_bytes`` more than it has now.

    On Linux the kernel refuses the rest. Other kernels do not enforce the limit (macOS ignores it), so a thread
    checks the resident size and ends the process: the pipe breaks off, which is reported as too much memory.
    """
    limit = resident_bytes() + num_bytes + GUARD_SLACK_BYTES
    threading.Thread(target=_guard, args=(limit,), name="guard", daemon=True).start()
    limit_addresses(num_bytes)


def _guard(limit_bytes: int) -> None:
    while resident_bytes() <= limit_bytes:
        time.sleep(POLL_S)
    os._exit(1)


def _column(pa: Any, parquet: Any, column: str) -> tuple[str, bool]:  # noqa: ANN401  untyped library
    """Return the column to read, and whether it holds conversations; raise ``BadConfig`` if there is none."""
    schema, is_null = parquet.schema_arrow, pa.types.is_null
    texts = [field.name for field in schema if _is_text(pa, field.type)]
    shown = ", ".join(repr(text[:_NAME_CHARS_MAX]) for text in texts[:8]) or "none"
    found = [field for field in schema if field.name == column]
    if all(is_null(field.type) for field in found):
        chats = [field for field in schema if field.name == FIELD and _is_chats(pa, field.type)]
        found = chats or found
    if len(found) != 1:
        cause = f"has no column {column!r}" if not found else f"has several columns {column!r}"
        raise BadConfig(f"{cause}; its columns of text: {shown}", hint=_column_hint(texts))
    kind = found[0].type
    if not _is_chats(pa, kind) and not _is_text(pa, kind) and not is_null(kind):
        raise BadConfig(
            f"column {column!r} is not text but {str(kind)[:40]}; columns of text: {shown}",
            hint=_column_hint(texts),
        )
    return found[0].name, _is_chats(pa, kind)


def _column_hint(texts: list[str]) -> str:
    if not texts:
        return "write the text into a column of strings, or messages with a role and a content"
    is_clear = len(texts) == 1 and len(texts[0]) <= _NAME_CHARS_MAX
    return f"--column {shlex.quote(texts[0])}" if is_clear else "--column NAME"


def _is_chats(pa: Any, kind: Any) -> bool:  # noqa: ANN401
    """Return True for a type of lists of objects with a role."""
    types = pa.types
    if not any(is_kind(kind) for is_kind in (types.is_list, types.is_large_list)):
        return False
    item = kind.value_type
    return bool(types.is_struct(item) and item.get_field_index("role") >= 0)


def _is_text(pa: Any, kind: Any) -> bool:  # noqa: ANN401
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    kinds = (types.is_string, types.is_large_string, types.is_string_view)
    bare = (types.is_binary, types.is_large_binary, types.is_binary_view)  # as Spark writes strings
    return any(is_kind(kind) for is_kind in (*kinds, *bare))


def _rows_at_once(parquet: Any, column: str) -> int:  # noqa: ANN401
    """Return the rows per batch of about ``BATCH_BYTES``, if the sizes that the file states are true."""
    metadata, longest = parquet.metadata, 1
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        parts = [group.column(leaf) for leaf in range(group.num_columns)]
        size = sum(p.total_uncompressed_size for p in parts if _is_of(p.path_in_schema, column))
        longest = max(longest, size // max(group.num_rows, 1))
    return min(max(BATCH_BYTES // longest, 1), BATCH_ROWS)


def _is_of(path: str, column: str) -> bool:
    return path == column or path.startswith(f"{column}.")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
