"""Read one column of text from a Parquet file, in a process of its own whose memory has a bound.

Shell: starts that process and reads its output. Entry point of pyarrow, which only that process imports.

A Parquet file states how large its pages become when they are unpacked, and a dictionary can stand for any
number of copies of its values: a kilobyte can ask for terabytes. The process that unpacks it is therefore
bounded: on Linux the kernel limits its memory, and on every system it checks its own size a hundred times a
second and ends itself above the bound. The output, rows without text included, is bounded by the file's size.

    to the reader: the file as its standard input
    from it: for each row 4 bytes of length and the text, then END, or REFUSED with the reason
"""

import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import IO, Any, BinaryIO

from swarm.errors import BadConfig
from swarm.machine import limit_addresses, resident_bytes
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
END, REFUSED = 0xFFFFFFFF, 0xFFFFFFFE
"""Markers in place of a length."""
_MESSAGE_MAX = 4096
_LENGTH = struct.Struct(">I")
_STOP_S = 10.0
_ONE_HEAP = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""An allocator that reserves gigabytes to use megabytes would reach the bound at once."""
_SMALLER = "write it again with smaller row groups and pages"


def read_column(file: BinaryIO, name: str, column: str, row_bytes_max: int) -> Iterator[bytes]:
    """Yield the text of each row as UTF-8; b"" for null.

    Args:
        file: The open Parquet file.
        name: Its name, for error messages.
        column: The column of text to read.
        row_bytes_max: The most bytes of one row.

    Raises:
        BadConfig: pyarrow is not installed, the file is not Parquet or has no such column of text, a row is too
            long, or the file needs more memory or expands to more text than any honest one.
    """
    if find_spec("pyarrow") is None:
        raise BadConfig(f"{name} needs the pyarrow library, which is not installed", hint=PIP_LINE)
    size = os.fstat(file.fileno()).st_size
    room = GROWTH_FREE_BYTES + GROWTH_MAX * size
    command = [sys.executable, "-P", "-m", __name__, column, str(MEMORY_BYTES)]
    reader = subprocess.Popen(  # noqa: S603  our own module
        command,
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_ONE_HEAP, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert reader.stdout is not None, "it is a pipe"
    try:
        row = 0
        while (length := _length(reader.stdout)) is not None and length < REFUSED:
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
            yield reader.stdout.read(length)
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
            out.write(_LENGTH.pack(len(text)))
            out.write(text)
        out.write(_LENGTH.pack(END))
    except BadConfig as error:
        message = json.dumps((str(error)[: _MESSAGE_MAX // 8], error.hint))
        out.write(_LENGTH.pack(REFUSED) + message.encode("ascii"))
    out.flush()


def _rows(column: str, memory_bytes: int) -> Iterator[bytes]:
    import pyarrow  # noqa: PLC0415  only the reader needs it
    from pyarrow import parquet as reader  # noqa: PLC0415

    pa: Any = pyarrow  # which has no types
    open_file: Any = reader.ParquetFile
    _bound_memory(memory_bytes)
    row = 0
    try:
        parquet = open_file(sys.stdin.buffer, pre_buffer=False, buffer_size=1 << 20)
        _check(pa, parquet, column)
        batches = parquet.iter_batches(
            batch_size=_rows_at_once(parquet, column), columns=[column], use_threads=False
        )
        for batch in batches:
            for value in batch.column(0):
                row += 1
                text: str | bytes | None = value.as_py()
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


def _check(pa: Any, parquet: Any, column: str) -> None:  # noqa: ANN401  untyped library
    """Raise ``BadConfig`` unless the file has this column, of text."""
    schema = parquet.schema_arrow
    texts = [field.name for field in schema if _is_text(pa, field.type)]
    shown = ", ".join(repr(text[:40]) for text in texts[:8]) or "none"
    found = [field for field in schema if field.name == column]
    if len(found) != 1:
        raise BadConfig(
            f"has no column {column!r}; its columns of text: {shown}", hint="--column NAME"
        )
    if not _is_text(pa, found[0].type):
        raise BadConfig(
            f"column {column!r} is not text but {str(found[0].type)[:40]}; columns of text: {shown}",
            hint="--column NAME",
        )


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
        sizes = [p.total_uncompressed_size for p in parts if p.path_in_schema == column]
        longest = max([longest, *(size // max(group.num_rows, 1) for size in sizes)])
    return min(max(BATCH_BYTES // longest, 1), BATCH_ROWS)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
