"""A safetensors header is believed as far as its file reaches; 16-bit floats become float32 exactly."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save

from swarm.errors import BadConfig
from swarm.training.hf.weights import (
    HEADER_BYTES_MAX,
    LENGTH_BYTES,
    SHARDS_MAX,
    as_float32,
    header_length,
    read_header,
    read_index,
)


def header(**tensors: object) -> bytes:
    return json.dumps(tensors).encode()


def test_the_spans_of_a_real_file() -> None:
    data = save({"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)})
    length = header_length(data[:LENGTH_BYTES], len(data), "x")
    spans = read_header(data[LENGTH_BYTES : LENGTH_BYTES + length], len(data), "x")
    assert spans["a"].shape == (2, 3)
    piece = data[spans["a"].start : spans["a"].stop]
    assert as_float32(piece, "F32").tolist() == [0, 1, 2, 3, 4, 5]
    assert as_float32(data[spans["b"].start : spans["b"].stop], "BF16").tolist() == [1.0] * 4


@pytest.mark.parametrize(("name", "dtype"), [("F16", torch.float16), ("BF16", torch.bfloat16)])
def test_every_short_float_is_exact(name: str, dtype: torch.dtype) -> None:
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(dtype)
    bits = bits[torch.isfinite(bits)]
    raw = bits.view(torch.uint16).numpy().astype("<u2").tobytes()
    assert np.array_equal(as_float32(raw, name), bits.float().numpy())


@pytest.mark.rule("S34", "T30")
@pytest.mark.parametrize(
    ("head", "file_bytes"),
    [
        (b"", 100),
        (b"\2", 100),
        (bytes(8), 100),
        ((93).to_bytes(8, "little"), 100),
        (b"\xff" * 8, 100),
    ],
)
def test_a_header_longer_than_its_file_is_refused(head: bytes, file_bytes: int) -> None:
    with pytest.raises(BadConfig):
        header_length(head, file_bytes, "x")


@pytest.mark.rule("T30")
def test_a_giant_header_is_refused_before_it_is_read() -> None:
    length = HEADER_BYTES_MAX + 1
    with pytest.raises(BadConfig, match=str(length)):
        header_length(length.to_bytes(8, "little"), 1 << 40, "x")


def entry(**changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "I64"},
        {"dtype": 7},
        {"shape": [2, 3]},
        {"shape": [-2, -2]},
        {"shape": [1] * 9},
        {"shape": "22"},
        {"shape": [True, 4]},
        {"data_offsets": [0, 17]},
        {"data_offsets": [16, 0]},
        {"data_offsets": [0]},
        {"data_offsets": None},
        {"data_offsets": [1 << 60, (1 << 60) + 16]},
    ],
)
def test_a_tensor_that_cannot_lie_there_is_refused(changes: dict[str, object]) -> None:
    raw = header(a=entry(**changes))
    with pytest.raises(BadConfig):
        read_header(raw, LENGTH_BYTES + len(raw) + 16, "x")


def test_a_tensor_past_the_end_is_refused() -> None:
    raw = header(a=entry())
    read_header(raw, LENGTH_BYTES + len(raw) + 16, "x")
    with pytest.raises(BadConfig, match="past the end"):
        read_header(raw, LENGTH_BYTES + len(raw) + 15, "x")


@pytest.mark.parametrize(
    "file",
    [
        "../x.safetensors",
        "/x.safetensors",
        "a\\b.safetensors",
        "x.bin",
        "",
        3,
        "a" * 300 + ".safetensors",
    ],
)
def test_an_index_names_files_of_its_folder_only(file: object) -> None:
    with pytest.raises(BadConfig):
        read_index(json.dumps({"weight_map": {"a": file}}).encode())


def test_a_model_of_endless_files_is_refused() -> None:
    def index(count: int) -> bytes:
        return json.dumps(
            {"weight_map": {f"t{n}": f"{n}.safetensors" for n in range(count)}}
        ).encode()

    assert len(read_index(index(SHARDS_MAX))) == SHARDS_MAX
    with pytest.raises(BadConfig, match=f"at most {SHARDS_MAX} files"):
        read_index(index(SHARDS_MAX + 1))


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {}}'])
def test_what_is_no_index_is_refused(raw: bytes) -> None:
    with pytest.raises(BadConfig):
        read_index(raw)
