"""A tensor has one name, and a large one can be checked chunk by chunk."""

import numpy as np
import pytest
import torch

from swarm.primitives.commitments import (
    TENSOR_CHUNK_BYTES,
    chunk_digest,
    chunk_digests,
    hash_of,
    tensor_hash,
    tensor_root,
)


def test_dtype_shape_and_bytes_all_change_the_name() -> None:
    data = bytes(range(16))
    names = {
        tensor_hash("float32", (4,), data),
        tensor_hash("int32", (4,), data),
        tensor_hash("float32", (2, 2), data),
        tensor_hash("float32", (4,), data[::-1]),
    }
    assert len(names) == 4


def test_views_of_arrays_and_bytes_give_one_name() -> None:
    array = np.arange(300_000, dtype="<f4")
    assert tensor_hash("float32", array.shape, array.data) == tensor_hash(
        "float32", array.shape, array.tobytes()
    )


@pytest.mark.parametrize("extra", [1, TENSOR_CHUNK_BYTES, TENSOR_CHUNK_BYTES + 7])
def test_a_large_tensor_is_named_by_the_digests_of_its_chunks(extra: int) -> None:
    data = bytes(TENSOR_CHUNK_BYTES) + b"\x05" * extra
    chunks = chunk_digests(data)
    assert len(chunks) == -(-len(data) // TENSOR_CHUNK_BYTES)
    assert chunks[0] == chunk_digest(data[:TENSOR_CHUNK_BYTES])
    root = tensor_hash("uint8", (len(data),), data)
    assert root == tensor_root("uint8", (len(data),), len(data), chunks)


def test_exactly_one_mebibyte_is_still_hashed_directly() -> None:
    data = bytes(TENSOR_CHUNK_BYTES)
    direct = tensor_hash("uint8", (len(data),), data)
    assert direct != tensor_root("uint8", (len(data),), len(data), chunk_digests(data))


@pytest.mark.parametrize("shape", [(0,), (), (3,), (2, 3), (300_000,)])
def test_a_torch_tensor_is_named_by_its_bytes(shape: tuple[int, ...]) -> None:
    tensor = torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape)
    assert hash_of(tensor) == tensor_hash("float32", shape, tensor.numpy().tobytes())


def test_a_strided_tensor_is_named_like_its_copy() -> None:
    tensor = torch.arange(12, dtype=torch.int64).reshape(3, 4).t()
    assert hash_of(tensor) == hash_of(tensor.contiguous())
