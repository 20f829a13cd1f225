"""What is in the store is whole, within the quota, and never served damaged."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swarm.errors import BadConfig
from swarm.gossip.blobs.chunks import BlobManifest, blob_manifest, blob_root
from swarm.gossip.blobs.disk import BlobStore, partials
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES, tensor_hash
from swarm.types import NO_DIGEST, Digest

SMALL = b"a small blob"
BIG = bytes(range(251)) * 10_000


def a_store(tmp_path: Path, *, quota_bytes: int = 1 << 30) -> BlobStore:
    return BlobStore(tmp_path / "blobs", quota_bytes=quota_bytes)


def manifest_of(data: bytes) -> BlobManifest:
    return blob_manifest(data, dtype="uint8", shape=(len(data),))


def add(store: BlobStore, data: bytes) -> Digest:
    return store.add_bytes(memoryview(data), "uint8", (len(data),))


@pytest.mark.rule("G15")
@pytest.mark.parametrize("data", [b"", SMALL, BIG], ids=["empty", "small", "big"])
def test_bytes_and_files_have_one_name_and_come_back(tmp_path: Path, data: bytes) -> None:
    store, source = a_store(tmp_path), tmp_path / "source"
    source.write_bytes(data)
    root = add(store, data)
    assert root == tensor_hash("uint8", (len(data),), data)
    assert store.add_file(source, "uint8", None) == root
    assert store.path(root).read_bytes() == data
    assert store.load(root) == manifest_of(data)
    assert store.roots() == [root]


def test_a_tensor_is_named_as_a_tensor(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    assert store.add_bytes(memoryview(SMALL), "float32", (3,)) == tensor_hash(
        "float32", (3,), SMALL
    )


@pytest.mark.rule("G18")
def test_a_blob_begun_is_not_here_until_it_is_kept(tmp_path: Path) -> None:
    store, manifest = a_store(tmp_path), manifest_of(BIG)
    root = blob_root(manifest)
    assert store.begin(root, manifest) == frozenset()
    for index in (2, 0):
        store.write_chunks(root, index, BIG[TENSOR_CHUNK_BYTES * index :][:TENSOR_CHUNK_BYTES])
    assert not store.has(root)
    assert store.roots() == []
    again = a_store(tmp_path)
    assert again.load(root) == manifest
    assert again.begin(root, manifest) == {0, 2}
    again.write_chunks(root, 1, BIG[TENSOR_CHUNK_BYTES : 2 * TENSOR_CHUNK_BYTES])
    again.keep(root)
    assert again.path(root).read_bytes() == BIG


@pytest.mark.rule("G18")
def test_a_partial_chunk_on_the_disk_is_not_believed(tmp_path: Path) -> None:
    store, manifest = a_store(tmp_path), manifest_of(BIG)
    root = blob_root(manifest)
    store.begin(root, manifest)
    store.write_chunks(root, 0, BIG[: TENSOR_CHUNK_BYTES - 1])
    assert store.begin(root, manifest) == frozenset()


@pytest.mark.rule("G15")
def test_an_inline_blob_is_whole_at_once(tmp_path: Path) -> None:
    store, manifest = a_store(tmp_path), manifest_of(SMALL)
    root = blob_root(manifest)
    assert store.begin(root, manifest) == frozenset()
    store.keep(root)
    assert store.load(root) == manifest


@pytest.mark.rule("G20")
def test_the_quota_is_kept_and_the_message_says_how_to_raise_it(tmp_path: Path) -> None:
    store = a_store(tmp_path, quota_bytes=len(BIG) + 1000)
    add(store, BIG)
    with pytest.raises(BadConfig) as caught:
        add(store, BIG + b"x")
    assert "disk_quota_mb" in caught.value.hint
    other = manifest_of(BIG + b"y")
    with pytest.raises(BadConfig):
        store.begin(blob_root(other), other)
    store.remove(blob_root(manifest_of(BIG)))
    add(store, BIG + b"x")


@pytest.mark.rule("G19")
def test_a_rotten_chunk_is_not_served_and_the_blob_is_forgotten(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    root = add(store, BIG)
    manifest = store.load(root)
    assert manifest is not None
    assert (
        bytes(store.read_chunks(root, manifest, 1, 1) or b"")
        == BIG[TENSOR_CHUNK_BYTES : 2 * TENSOR_CHUNK_BYTES]
    )
    with store.path(root).open("r+b") as file:
        file.seek(TENSOR_CHUNK_BYTES)
        file.write(b"rot")
    assert store.read_chunks(root, manifest, 0, 1) is not None
    assert store.read_chunks(root, manifest, 1, 1) is None
    assert not store.has(root)


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x95\xa5uint8\x91\x0c\x0c\xc4\x00\xc4\x00"])
def test_a_damaged_manifest_counts_as_absent(tmp_path: Path, garbage: bytes) -> None:
    store = a_store(tmp_path)
    root = add(store, BIG)
    (tmp_path / "blobs" / f"{root.hex()}.list").write_bytes(garbage)
    assert store.load(root) is None
    assert not store.has(root)


def test_a_blob_that_is_read_while_it_is_added_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch that waits for it looks between its list and its file: it is absent, and then it is there."""
    store, seen = a_store(tmp_path), list[object]()
    keep = store.keep

    def looked_at(root: Digest) -> None:
        seen.append(store.load(root))
        keep(root)

    monkeypatch.setattr(store, "keep", looked_at)
    root = add(store, SMALL)
    assert seen == [None]
    assert store.has(root)
    assert store.load(root) is not None


def test_what_is_not_ours_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    (tmp_path / "blobs" / "notes.list").write_text("hello")
    assert store.roots() == []
    assert store.load(NO_DIGEST) is None


def begun(store: BlobStore, data: bytes, touched_s: float) -> Digest:
    """A blob of which one chunk came, long ago."""
    manifest = manifest_of(data)
    root = blob_root(manifest)
    store.begin(root, manifest)
    store.write_chunks(root, 0, data[:TENSOR_CHUNK_BYTES])
    os.utime(store.path(root).with_suffix(".part"), (touched_s, touched_s))
    return root


@pytest.mark.rule("G20")
def test_an_abandoned_download_makes_room_the_longest_untouched_first(tmp_path: Path) -> None:
    store = a_store(tmp_path, quota_bytes=3 * len(BIG) + 5000)
    older, newer, used = (begun(store, BIG + bytes([n]), 1000.0 * n) for n in (2, 3, 1))
    store.in_use.add(used)
    assert [found.root for found in partials(tmp_path / "blobs")] == [used, older, newer]
    root = add(store, BIG)
    assert [found.root for found in partials(tmp_path / "blobs")] == [used, newer]
    assert (store.has(root), store.load(older)) == (True, None)
    assert not list((tmp_path / "blobs").glob(f"{older.hex()}*"))
    assert store.begin(newer, manifest_of(BIG + b"\x03")) == {0}, "what was not in the way stays"


@pytest.mark.rule("G20")
def test_nothing_is_given_up_where_that_would_not_be_enough(tmp_path: Path) -> None:
    store = a_store(tmp_path, quota_bytes=2 * len(BIG) + 5000)
    old, used = begun(store, BIG + b"1", 1.0), begun(store, BIG + b"2", 2.0)
    store.in_use.add(used)
    with pytest.raises(BadConfig, match="more do not fit"):
        add(store, BIG * 2)
    assert [found.root for found in partials(tmp_path / "blobs")] == [old, used]


def test_what_is_given_up_on_request_is_all_that_is_not_in_use(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    complete, old, used = (
        add(store, BIG),
        begun(store, BIG + b"1", 1.0),
        begun(store, BIG + b"2", 2.0),
    )
    (tmp_path / "blobs" / "incoming.part").write_bytes(b"of a process that was killed")
    store.in_use.add(used)
    assert store.give_up() > len(BIG)
    assert [found.root for found in partials(tmp_path / "blobs")] == [used]
    assert store.has(complete)
    assert store.load(old) is None


def test_what_is_on_its_way_says_how_much_of_it_is_here(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    begun(store, BIG, 5.0)
    (found,) = partials(tmp_path / "blobs")
    assert (found.num_bytes, found.touched_s) == (len(BIG), 5.0)
    assert TENSOR_CHUNK_BYTES <= found.held_bytes <= len(BIG)
    assert partials(tmp_path / "nowhere") == []


@pytest.mark.rule("G18")
def test_a_part_of_another_length_is_begun_again(tmp_path: Path) -> None:
    """Whatever is in the folder, a blob becomes as long as its manifest says, and no longer."""
    store = a_store(tmp_path)
    root = begun(store, BIG, 5.0)
    with store.path(root).with_suffix(".part").open("ab") as file:
        file.write(b"more")
    assert store.begin(root, manifest_of(BIG)) == frozenset()
    assert partials(tmp_path / "blobs")[0].num_bytes == len(BIG)


def test_a_file_that_grows_while_it_is_copied_is_refused(tmp_path: Path) -> None:
    store, source = a_store(tmp_path), tmp_path / "source"
    source.write_bytes(BIG)
    real = Path.stat

    def short(path: Path, **more: Any) -> Any:  # noqa: ANN401
        found = real(path, **more)
        return SimpleNamespace(st_size=found.st_size - 1) if path == source else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "stat", short)
        with pytest.raises(BadConfig, match="changed while it was copied"):
            store.add_file(source, "uint8", None)
    assert list((tmp_path / "blobs").iterdir()) == []
