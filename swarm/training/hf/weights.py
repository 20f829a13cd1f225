"""Parse the header of an untrusted safetensors file, and convert its numbers to float32.

Core: bytes in, positions and tensors out; files are read by ``training/hf/load.py``.

The format: eight bytes with the header's length, the header (JSON: name to dtype, shape and offsets), the data.
No position beyond the file's length is accepted. A model in several files has an index, which names the file of
each tensor.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from swarm.errors import BadConfig
from swarm.training.hf.config import read_object

LENGTH_BYTES = 8
HEADER_BYTES_MAX = 16 << 20
"""100 bytes for each of a hundred thousand tensors; the largest models in use have a few thousand."""
INDEX_FILE = "model.safetensors.index.json"
INDEX_BYTES_MAX = 16 << 20
SHARDS_MAX = 1_000
"""The largest models in use come in two hundred files."""
NAME_CHARS_MAX = 200
DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
"""Dtypes of stored weights, and their width in bytes."""
_FILE_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class TensorSpan:
    """Position of one tensor in its file: bytes [start, stop), counted from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def header_length(head: bytes, file_bytes: int, name: str) -> int:
    """Return the header length that a file's first bytes state; raise ``BadConfig`` if it is impossible."""
    length = int.from_bytes(head, "little")
    if len(head) != LENGTH_BYTES or not 2 <= length <= file_bytes - LENGTH_BYTES:
        raise BadConfig(f"{name} is not a safetensors file")
    if length > HEADER_BYTES_MAX:
        raise BadConfig(f"{name} has a header of {length} bytes; {HEADER_BYTES_MAX} are read")
    return length


def read_header(raw: bytes, file_bytes: int, name: str) -> dict[str, TensorSpan]:
    """Return the tensors of a file by name.

    Raises ``BadConfig`` for a header that is damaged, has a dtype other than ``DTYPE_BYTES``, or names bytes
    beyond the file.
    """
    first = LENGTH_BYTES + len(raw)
    spans = dict[str, TensorSpan]()
    for tensor, value in read_object(raw, name, HEADER_BYTES_MAX).items():
        if tensor == "__metadata__":
            continue
        spans[tensor] = _tensor_span(value, first, file_bytes, f"{name}: {tensor[:NAME_CHARS_MAX]}")
    return spans


def read_index(raw: bytes) -> dict[str, str]:
    """Return file name by tensor name; raise ``BadConfig`` for one that is not a plain file of the folder."""
    found = read_object(raw, INDEX_FILE, INDEX_BYTES_MAX).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise BadConfig(f"{INDEX_FILE}: weight_map is missing")
    files = cast("dict[str, object]", found)
    for file in files.values():
        if not isinstance(file, str) or not _is_plain(file):
            raise BadConfig(f"{INDEX_FILE}: {str(file)[:60]!r} is not a file of this folder")
    named = cast("dict[str, str]", files)
    if len({*named.values()}) > SHARDS_MAX:
        raise BadConfig(f"{INDEX_FILE}: at most {SHARDS_MAX} files make a model")
    return named


def as_float32(raw: bytes, dtype: str) -> npt.NDArray[np.float32]:
    """Return the numbers of a piece of a tensor, exactly: every F16 and BF16 is a float32."""
    if dtype == "BF16":
        return (np.frombuffer(raw, dtype="<u2").astype("<u4") << 16).view("<f4")
    found: npt.NDArray[Any] = np.frombuffer(raw, dtype="<f2" if dtype == "F16" else "<f4")
    return found.astype(np.float32)


def _tensor_span(value: object, first: int, file_bytes: int, where: str) -> TensorSpan:
    fields = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    dtype, shape, offsets = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if dtype not in DTYPE_BYTES:
        kinds = ", ".join(DTYPE_BYTES)
        raise BadConfig(f"{where} is of dtype {str(dtype)[:20]}; weights are {kinds}")
    extents, span = _counts(shape, where), _counts(offsets, where)
    if len(span) != 2 or span[1] - span[0] != prod(extents) * DTYPE_BYTES[str(dtype)]:
        raise BadConfig(f"{where} has another length than its shape")
    start, stop = first + span[0], first + span[1]
    if stop > file_bytes:
        raise BadConfig(f"{where} lies past the end of its file")
    return TensorSpan(str(dtype), extents, start, stop)


def _counts(value: object, where: str) -> tuple[int, ...]:
    """Return a short list of non-negative integers; raise ``BadConfig`` for anything else."""
    items = cast("list[object]", value) if isinstance(value, list) else [None]
    counts = [item for item in items if isinstance(item, int) and not isinstance(item, bool)]
    if len(counts) != len(items) or len(items) > 8 or any(count < 0 for count in counts):
        raise BadConfig(f"{where} has a strange shape or offset")
    return tuple(counts)


def _is_plain(file: str) -> bool:
    is_safe = "/" not in file and "\\" not in file and "\0" not in file
    return is_safe and len(file) <= NAME_CHARS_MAX and file.endswith(_FILE_SUFFIX)
