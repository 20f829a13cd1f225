"""What is on the shelf is whole, within the quota, and never served rotten."""

from pathlib import Path

import pytest

from swarm.errors import BadConfig
from swarm.gossip.chunks import BlobManifest, blob_manifest, blob_root
from swarm.gossip.shelf import Shelf
from swarm.tensors import TENSOR_CHUNK_BYTES, tensor_hash
from swarm.types import NO_DIGEST, Digest

SMALL = b"a small blob"
BIG = bytes(range(251)) * 10_000


def a_shelf(tmp_path: Path, *, quota_bytes: int = 1 << 30) -> Shelf:
    return Shelf(tmp_path / "blobs", quota_bytes=quota_bytes)


def manifest_of(data: bytes) -> BlobManifest:
    return blob_manifest(data, dtype="uint8", shape=(len(data),))


def add(shelf: Shelf, data: bytes) -> Digest:
    return shelf.add_bytes(memoryview(data), "uint8", (len(data),))


@pytest.mark.parametrize("data", [b"", SMALL, BIG], ids=["empty", "small", "big"])
def test_bytes_and_files_have_one_name_and_come_back(tmp_path: Path, data: bytes) -> None:
    shelf, source = a_shelf(tmp_path), tmp_path / "source"
    source.write_bytes(data)
    root = add(shelf, data)
    assert root == tensor_hash("uint8", (len(data),), data)
    assert shelf.add_file(source, "uint8", None) == root
    assert shelf.path(root).read_bytes() == data
    assert shelf.load(root) == manifest_of(data)
    assert shelf.roots() == [root]


def test_a_tensor_is_named_as_a_tensor(tmp_path: Path) -> None:
    shelf = a_shelf(tmp_path)
    assert shelf.add_bytes(memoryview(SMALL), "float32", (3,)) == tensor_hash(
        "float32", (3,), SMALL
    )


def test_a_blob_begun_is_not_here_until_it_is_kept(tmp_path: Path) -> None:
    shelf, manifest = a_shelf(tmp_path), manifest_of(BIG)
    root = blob_root(manifest)
    assert shelf.begin(root, manifest) == frozenset()
    for index in (2, 0):
        shelf.write_chunk(root, index, BIG[TENSOR_CHUNK_BYTES * index :][:TENSOR_CHUNK_BYTES])
    assert not shelf.has(root)
    assert shelf.roots() == []
    again = a_shelf(tmp_path)
    assert again.load(root) == manifest
    assert again.begin(root, manifest) == {0, 2}
    again.write_chunk(root, 1, BIG[TENSOR_CHUNK_BYTES : 2 * TENSOR_CHUNK_BYTES])
    again.keep(root)
    assert again.path(root).read_bytes() == BIG


def test_a_partial_chunk_on_the_disk_is_not_believed(tmp_path: Path) -> None:
    shelf, manifest = a_shelf(tmp_path), manifest_of(BIG)
    root = blob_root(manifest)
    shelf.begin(root, manifest)
    shelf.write_chunk(root, 0, BIG[: TENSOR_CHUNK_BYTES - 1])
    assert shelf.begin(root, manifest) == frozenset()


def test_an_inline_blob_is_whole_at_once(tmp_path: Path) -> None:
    shelf, manifest = a_shelf(tmp_path), manifest_of(SMALL)
    root = blob_root(manifest)
    assert shelf.begin(root, manifest) == frozenset()
    shelf.keep(root)
    assert shelf.load(root) == manifest


def test_the_quota_is_kept_and_the_message_says_how_to_raise_it(tmp_path: Path) -> None:
    shelf = a_shelf(tmp_path, quota_bytes=len(BIG) + 1000)
    add(shelf, BIG)
    with pytest.raises(BadConfig) as caught:
        add(shelf, BIG + b"x")
    assert "disk_quota_mb" in caught.value.hint
    other = manifest_of(BIG + b"y")
    with pytest.raises(BadConfig):
        shelf.begin(blob_root(other), other)
    shelf.remove(blob_root(manifest_of(BIG)))
    add(shelf, BIG + b"x")


def test_a_rotten_chunk_is_not_served_and_the_blob_is_forgotten(tmp_path: Path) -> None:
    shelf = a_shelf(tmp_path)
    root = add(shelf, BIG)
    manifest = shelf.load(root)
    assert manifest is not None
    assert shelf.read_chunk(root, manifest, 1) == BIG[TENSOR_CHUNK_BYTES : 2 * TENSOR_CHUNK_BYTES]
    with shelf.path(root).open("r+b") as file:
        file.seek(TENSOR_CHUNK_BYTES)
        file.write(b"rot")
    assert shelf.read_chunk(root, manifest, 0) is not None
    assert shelf.read_chunk(root, manifest, 1) is None
    assert not shelf.has(root)


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x95\xa5uint8\x91\x0c\x0c\xc4\x00\xc4\x00"])
def test_a_damaged_manifest_counts_as_absent(tmp_path: Path, garbage: bytes) -> None:
    shelf = a_shelf(tmp_path)
    root = add(shelf, BIG)
    (tmp_path / "blobs" / f"{root.hex()}.list").write_bytes(garbage)
    assert shelf.load(root) is None
    assert not shelf.has(root)


def test_what_is_not_ours_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    shelf = a_shelf(tmp_path)
    (tmp_path / "blobs" / "notes.list").write_text("hello")
    assert shelf.roots() == []
    assert shelf.load(NO_DIGEST) is None
