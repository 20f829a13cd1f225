"""Read a folder of transformers' Llama, in one file or many, into the flat vector of a stage.

Shell: reads the disk; ``training/hf/config.py`` and ``training/hf/weights.py`` check the files' contents.

Nothing is allocated before the shapes in the files' headers are those of the model, and the files are as long
as the headers say. Pickles are never read. Legend: P parameters of a stage.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from swarm.config.spec import ModelSpec
from swarm.errors import BadConfig
from swarm.training.data.disk import open_regular
from swarm.training.data.tokenizer import TOKENIZER_BYTES_MAX, is_bytes_file
from swarm.training.hf.config import CONFIG_BYTES_MAX, CONFIG_FILE, HINT, read_config
from swarm.training.hf.weights import (
    DTYPE_BYTES,
    INDEX_BYTES_MAX,
    INDEX_FILE,
    LENGTH_BYTES,
    TensorSpan,
    as_float32,
    header_length,
    read_header,
    read_index,
)
from swarm.training.model.stages import StagePlan, plan_stages

WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
PIECE_BYTES = 16 << 20
"""Bytes read and converted at once."""
_IGNORED = (".rotary_emb.inv_freq",)
"""Buffers that old releases saved: they follow from ``rope_theta``."""


@dataclass(frozen=True, slots=True)
class HfFolder:
    """A folder whose files are consistent; the weights are still on the disk."""

    folder: Path
    model: ModelSpec
    spans: dict[str, tuple[str, TensorSpan]]
    """File and position of each tensor by name."""
    tokenizer: bytes
    """Its ``tokenizer.json``, or nothing where there is none, or the one of bytes."""


def open_folder(folder: Path) -> HfFolder:
    """Check a folder without reading its weights.

    Raises ``BadConfig`` naming the file and the key, tensor or shape that is missing or unsupported.
    """
    if not folder.is_dir():
        raise BadConfig(f"there is no folder {folder}", hint="a folder with config.json")
    if not (folder / CONFIG_FILE).exists():
        raise BadConfig(
            f"{folder} is no folder of transformers: it has no {CONFIG_FILE}",
            hint="swarm export FOLDER and save_pretrained(FOLDER) write one",
        )
    try:
        model = read_config(_small_file(folder / CONFIG_FILE, CONFIG_BYTES_MAX))
        spans = _tensor_spans(folder)
        _check_tensors(model, {name: span for name, (_, span) in spans.items()})
    except BadConfig as error:
        raise BadConfig(f"{folder}: {error}", hint=error.hint) from None
    raw = b""
    if (folder / TOKENIZER_FILE).is_file():
        raw = _small_file(folder / TOKENIZER_FILE, TOKENIZER_BYTES_MAX)
    raw = b"" if is_bytes_file(raw) else raw
    return HfFolder(folder, model, spans, raw)


def read_stage(found: HfFolder, plan: StagePlan) -> Tensor:
    """Return the flat vector P of one stage, float32; raise ``BadConfig`` for a non-finite value."""
    flat_P, at = np.empty(plan.num_parameters, dtype=np.float32), 0
    for part in plan.tensors:
        file, span = found.spans[part.name]
        at = _read_into(flat_P, at, found.folder / file, part.name, span)
    return torch.from_numpy(flat_P)


def _read_into(
    flat_P: "np.ndarray[tuple[int], np.dtype[np.float32]]",
    at: int,
    path: Path,
    name: str,
    span: TensorSpan,
) -> int:
    """Convert one tensor, a piece at a time; return the index for the next one."""
    width = DTYPE_BYTES[span.dtype]
    with open_regular(path, follow=True) as file:
        file.seek(span.start)
        left = span.stop - span.start
        while left:
            raw = file.read(min(left, PIECE_BYTES))
            if not raw or len(raw) % width:
                raise BadConfig(f"{path} was cut short while it was read", hint=f"ls -l {path}")
            values = as_float32(raw, span.dtype)
            if not np.isfinite(values).all():
                raise BadConfig(f"{path}: {name} holds values that are not finite", hint=HINT)
            flat_P[at : at + len(values)] = values
            at, left = at + len(values), left - len(raw)
    return at


def _tensor_spans(folder: Path) -> dict[str, tuple[str, TensorSpan]]:
    """Return the file and position of every tensor, from one weights file or the files of the index."""
    if (folder / WEIGHTS_FILE).exists():
        return {name: (WEIGHTS_FILE, span) for name, span in _header(folder, WEIGHTS_FILE)}
    if not (folder / INDEX_FILE).exists():
        raise BadConfig(
            f"there is no {WEIGHTS_FILE} and no {INDEX_FILE}",
            hint="save_pretrained(FOLDER, safe_serialization=True): pickles are not read",
        )
    index = read_index(_small_file(folder / INDEX_FILE, INDEX_BYTES_MAX))
    spans = dict[str, tuple[str, TensorSpan]]()
    for file in sorted({*index.values()}):
        for name, span in _header(folder, file):
            if name in spans:
                raise BadConfig(f"{name} is in {spans[name][0]} and in {file}", hint=HINT)
            spans[name] = (file, span)
    return spans


def _header(folder: Path, name: str) -> list[tuple[str, TensorSpan]]:
    with open_regular(folder / name, follow=True) as file:
        file_bytes = os.fstat(file.fileno()).st_size
        length = header_length(file.read(LENGTH_BYTES), file_bytes, name)
        return list(read_header(file.read(length), file_bytes, name).items())


def _check_tensors(model: ModelSpec, spans: dict[str, TensorSpan]) -> None:
    (plan,) = plan_stages(model, 1)
    wanted = {part.name: part.shape for part in plan.tensors}
    for name, shape in wanted.items():
        if name not in spans:
            why = ": tie_word_embeddings is not supported" if name == "lm_head.weight" else ""
            raise BadConfig(f"the weights lack {name}{why}", hint=HINT)
        if spans[name].shape != shape:
            raise BadConfig(
                f"{name} has the shape {list(spans[name].shape)}; {CONFIG_FILE} says {list(shape)}",
                hint=HINT,
            )
    for name in spans:
        if name not in wanted and not name.endswith(_IGNORED):
            raise BadConfig(f"the weights hold {name[:100]}, which plain Llama has not", hint=HINT)


def _small_file(path: Path, bytes_max: int) -> bytes:
    """Return a file, or one byte more than allowed, which its parser refuses."""
    with open_regular(path, follow=True) as file:
        return file.read(bytes_max + 1)
