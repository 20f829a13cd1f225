"""Read one column of text from a Parquet file.

Shell: reads the disk, a few hundred rows at a time. Door: pyarrow, imported when a file asks for it.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

from swarm.errors import BadConfig
from swarm.training.tokenizer import PIP_LINE

BATCH_ROWS = 256
ROW_GROUP_BYTES_MAX = 1 << 30
"""Largest column of a row group: a reader holds it whole."""


def read_column(file: BinaryIO, name: str, column: str) -> Iterator[bytes]:
    """The text of each row as UTF-8; nothing for null.

    Raises ``BadConfig`` when pyarrow is not installed, when this is no Parquet file, or when it has no such
    column of text.
    """
    try:
        import pyarrow  # noqa: PLC0415  most datasets do without it
        from pyarrow import parquet as reader  # noqa: PLC0415
    except ImportError:
        raise BadConfig(
            f"{name} needs the pyarrow library, which is not installed", hint=PIP_LINE
        ) from None
    pa: Any = pyarrow  # which has no types
    open_file: Any = reader.ParquetFile
    row = 0
    try:
        parquet = open_file(file, pre_buffer=False)
        _check(pa, parquet, name, column)
        batches = parquet.iter_batches(batch_size=BATCH_ROWS, columns=[column], use_threads=False)
        for batch in batches:
            for value in batch.column(0):
                row += 1
                text: str | None = value.as_py()
                yield b"" if text is None else text.encode("utf-8")
    except UnicodeError:
        raise BadConfig(f"{name} row {row} is not UTF-8", hint="write it again as text") from None
    except (pa.lib.ArrowException, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise BadConfig(f"{name} is not a whole Parquet file: {said}") from None


def _check(pa: Any, parquet: Any, name: str, column: str) -> None:  # noqa: ANN401  untyped library
    """Raise ``BadConfig`` unless the file has this column, of text, in groups that fit into memory."""
    schema = parquet.schema_arrow
    texts = [field.name for field in schema if _is_text(pa, field.type)]
    shown = ", ".join(repr(text[:40]) for text in texts[:8]) or "none"
    found = [field for field in schema if field.name == column]
    if len(found) != 1:
        raise BadConfig(
            f"{name} has no column {column!r}; its columns of text: {shown}", hint="--column NAME"
        )
    if not _is_text(pa, found[0].type):
        raise BadConfig(
            f"{name}: column {column!r} is not text but {found[0].type}; columns of text: {shown}",
            hint="--column NAME",
        )
    metadata = parquet.metadata
    for group in range(metadata.num_row_groups):
        for leaf in range(metadata.num_columns):
            part = metadata.row_group(group).column(leaf)
            if part.path_in_schema == column and part.total_uncompressed_size > ROW_GROUP_BYTES_MAX:
                raise BadConfig(
                    f"{name}: row group {group} holds {part.total_uncompressed_size >> 20} MiB of"
                    f" {column!r}, more than {ROW_GROUP_BYTES_MAX >> 20}",
                    hint="write it again with smaller row groups",
                )


def _is_text(pa: Any, kind: Any) -> bool:  # noqa: ANN401
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
