"""Read a folder of transformers' Llama, in one file or many, into the flat vector of a stage.

Shell: reads the disk; ``training/hf/config.py`` and ``training/hf/weights.py`` check the files' contents.

Nothing is allocated before the shapes in the files' headers are those of the model, and the files are as long
as the headers say. Pickles are never read. Where embedding and head are tied, stages hold a copy each.

Legend: P parameters of a stage.
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
from swarm.training.hf.config import CONFIG_BYTES_MAX, CONFIG_FILE, HINT, read_config, read_tied
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
from swarm.training.model.llama import EMBEDDING_NAME, HEAD_NAME
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
    is_tied: bool = False
    """True if the head is the embedding."""


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
        config = small_file(folder / CONFIG_FILE, CONFIG_BYTES_MAX)
        model, is_tied = read_config(config), read_tied(config)
        spans = _tensor_spans(folder)
        if is_tied and EMBEDDING_NAME in spans:
            spans.setdefault(HEAD_NAME, spans[EMBEDDING_NAME])
        _check_tensors(model, {name: span for name, (_, span) in spans.items()})
    except BadConfig as error:
        raise BadConfig(f"{folder}: {error}", hint=error.hint) from None
    raw = b""
    if (folder / TOKENIZER_FILE).is_file():
        raw = small_file(folder / TOKENIZER_FILE, TOKENIZER_BYTES_MAX)
    raw = b"" if is_bytes_file(raw) else raw
    return HfFolder(folder, model, spans, raw, is_tied)


def read_stage(found: HfFolder, plan: StagePlan) -> Tensor:
    """Return the flat vector P of one stage, float32.

    Raises ``BadConfig`` for a value that is not finite, and for a tied head that is not the embedding.
    """
    flat_P, at = np.empty(plan.num_parameters, dtype=np.float32), 0
    for part in plan.tensors:
        file, span = found.spans[part.name]
        begin, at = at, read_into(flat_P, at, found.folder / file, part.name, span)
        if part.name == HEAD_NAME and found.is_tied:
            _check_tied(found, flat_P[begin:at])
    return torch.from_numpy(flat_P)


def _check_tied(found: HfFolder, head: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> None:
    """Raise ``BadConfig`` if the weights hold another head than the embedding that it is tied to."""
    file, span = found.spans[EMBEDDING_NAME]
    if found.spans[HEAD_NAME] == (file, span):
        return
    embedding = np.empty_like(head)
    read_into(embedding, 0, found.folder / file, EMBEDDING_NAME, span)
    if not np.array_equal(embedding, head):
        raise BadConfig(
            f"{found.folder}: tie_word_embeddings is true, and {HEAD_NAME} is not {EMBEDDING_NAME}",
            hint='"tie_word_embeddings": false in config.json, if they are two',
        )


def read_into(
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
        return {name: (WEIGHTS_FILE, span) for name, span in tensors_of(folder, WEIGHTS_FILE)}
    if not (folder / INDEX_FILE).exists():
        raise BadConfig(
            f"there is no {WEIGHTS_FILE} and no {INDEX_FILE}",
            hint="save_pretrained(FOLDER, safe_serialization=True): pickles are not read",
        )
    index = read_index(small_file(folder / INDEX_FILE, INDEX_BYTES_MAX))
    spans = dict[str, tuple[str, TensorSpan]]()
    for file in sorted({*index.values()}):
        for name, span in tensors_of(folder, file):
            if name in spans:
                raise BadConfig(f"{name} is in {spans[name][0]} and in {file}", hint=HINT)
            spans[name] = (file, span)
    return spans


def tensors_of(folder: Path, name: str) -> list[tuple[str, TensorSpan]]:
    """Return the tensors of one file by name; raise ``BadConfig`` for a file that is damaged."""
    with open_regular(folder / name, follow=True) as file:
        file_bytes = os.fstat(file.fileno()).st_size
        length = header_length(file.read(LENGTH_BYTES), file_bytes, name)
        return list(read_header(file.read(length), file_bytes, name).items())


def _check_tensors(model: ModelSpec, spans: dict[str, TensorSpan]) -> None:
    (plan,) = plan_stages(model, 1)
    wanted = {part.name: part.shape for part in plan.tensors}
    for name, shape in wanted.items():
        if name not in spans:
            why = ", and tie_word_embeddings is not true" if name == HEAD_NAME else ""
            raise BadConfig(f"the weights lack {name}{why}", hint=HINT)
        if spans[name].shape != shape:
            raise BadConfig(
                f"{name} has the shape {list(spans[name].shape)}; {CONFIG_FILE} says {list(shape)}",
                hint=HINT,
            )
    for name in spans:
        if name not in wanted and not name.endswith(_IGNORED):
            raise BadConfig(f"the weights hold {name[:100]}, which plain Llama has not", hint=HINT)


def small_file(path: Path, bytes_max: int) -> bytes:
    """Return a file, or one byte more than allowed, which its parser refuses."""
    with open_regular(path, follow=True) as file:
        return file.read(bytes_max + 1)
