"""Chunks are believed one by one, and a manifest only under the root that names it."""

import pytest

from swarm.errors import BrokenPromise
from swarm.gossip.blobs.chunks import (
    BLOB_BYTES_MAX,
    BlobManifest,
    Manifest,
    blob_manifest,
    blob_root,
    check_blob_manifest,
    check_manifest,
    manifest,
    verify_blob_chunk,
    verify_chunk,
)
from swarm.primitives.codec import replace
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES, tensor_hash
from swarm.types import NO_DIGEST

DATA = bytes(range(256)) * 10
BIG = bytes(range(251)) * 10_000


def test_every_chunk_verifies_in_its_place_and_nowhere_else() -> None:
    listed = manifest(DATA, 1000)
    assert listed.num_chunks == 3
    for index in range(3):
        verify_chunk(listed, index, DATA[1000 * index : 1000 * (index + 1)])
    with pytest.raises(BrokenPromise):
        verify_chunk(listed, 1, DATA[:1000])
    with pytest.raises(BrokenPromise):
        verify_chunk(listed, 2, DATA[2000:] + b"x")
    with pytest.raises(BrokenPromise):
        verify_chunk(listed, 3, b"")


def test_a_manifest_is_checked_against_its_root() -> None:
    listed = manifest(DATA, 1000)
    check_manifest(listed, listed.root)
    for lie in (
        replace(listed, num_bytes=len(DATA) - 1),
        replace(listed, num_bytes=-1),
        replace(listed, chunk_bytes=999),
        replace(listed, chunk_bytes=0),
        replace(listed, hashes=listed.hashes[:-32]),
        replace(listed, hashes=bytes(len(listed.hashes))),
    ):
        with pytest.raises(BrokenPromise):
            check_manifest(lie, listed.root)


def test_nothing_has_a_manifest_of_no_chunks() -> None:
    assert manifest(b"", 1000) == Manifest(0, 1000, b"")


@pytest.mark.rule("G15")
@pytest.mark.parametrize("data", [b"", DATA, BIG], ids=["empty", "inline", "chunked"])
def test_a_blob_is_named_by_its_tensor_hash(data: bytes) -> None:
    blob = blob_manifest(data, dtype="uint8", shape=(len(data),))
    assert blob_root(blob) == tensor_hash("uint8", (len(data),), data)
    check_blob_manifest(blob, blob_root(blob), len(data))


@pytest.mark.rule("G15")
def test_a_float_tensor_is_fetched_under_the_name_the_ledger_knows() -> None:
    shape = (len(BIG) // 8, 2)
    blob = blob_manifest(BIG, dtype="float32", shape=shape)
    assert blob_root(blob) == tensor_hash("float32", shape, BIG)


def test_blob_chunks_are_checked_one_by_one() -> None:
    blob = blob_manifest(BIG, dtype="uint8", shape=(len(BIG),))
    assert blob.num_chunks == 3
    size = TENSOR_CHUNK_BYTES
    for index in range(3):
        assert blob.chunk_length(index) == len(BIG[size * index : size * (index + 1)])
        verify_blob_chunk(blob, index, BIG[size * index : size * (index + 1)])
    with pytest.raises(BrokenPromise):
        verify_blob_chunk(blob, 0, BIG[size : 2 * size])


def lies() -> list[tuple[str, BlobManifest, BlobManifest]]:
    big = blob_manifest(BIG, dtype="uint8", shape=(len(BIG),))
    small = blob_manifest(DATA, dtype="uint8", shape=(len(DATA),))
    return [
        ("huge", big, replace(big, num_bytes=BLOB_BYTES_MAX + 1)),
        ("negative", big, replace(big, num_bytes=-1)),
        ("long dtype", big, replace(big, dtype="x" * 17)),
        ("long shape", big, replace(big, shape=(1,) * 9)),
        ("other shape", big, replace(big, shape=(5,))),
        ("missing hash", big, replace(big, hashes=big.hashes[:-32])),
        ("odd hash bytes", big, replace(big, hashes=big.hashes[:-1])),
        ("inline too", big, replace(big, inline=b"x")),
        ("not inline", small, replace(small, inline=b"")),
        ("hashes too", small, replace(small, hashes=bytes(32))),
        ("other bytes", small, replace(small, inline=DATA[::-1])),
    ]


@pytest.mark.rule("G16")
@pytest.mark.parametrize(
    ("truth", "lie"), [(t, lie) for _, t, lie in lies()], ids=[n for n, _, _ in lies()]
)
def test_a_false_blob_manifest_is_refused(truth: BlobManifest, lie: BlobManifest) -> None:
    with pytest.raises(BrokenPromise):
        check_blob_manifest(lie, blob_root(truth), BLOB_BYTES_MAX)


@pytest.mark.parametrize(("dtype", "shape"), [("x" * 17, (2560,)), ("uint8", (1,) * 8 + (2560,))])
def test_a_type_without_end_is_refused_though_it_is_what_was_asked_for(
    dtype: str, shape: tuple[int, ...]
) -> None:
    blob = blob_manifest(DATA, dtype=dtype, shape=shape)
    with pytest.raises(BrokenPromise, match="absurd type"):
        check_blob_manifest(blob, blob_root(blob), BLOB_BYTES_MAX)


@pytest.mark.rule("G16")
def test_a_blob_larger_than_allowed_is_refused_before_anything_is_fetched() -> None:
    blob = blob_manifest(BIG, dtype="uint8", shape=(len(BIG),))
    with pytest.raises(BrokenPromise):
        check_blob_manifest(blob, blob_root(blob), len(BIG) - 1)
    with pytest.raises(BrokenPromise):
        check_blob_manifest(blob, NO_DIGEST, len(BIG))
