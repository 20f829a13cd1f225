"""A manifest has one form, says everything about its files, and is refused unless its parts fit each other."""

import pytest

from swarm.config.bounds import check_spec
from swarm.config.load import RunFile, run_spec
from swarm.config.spec import DataSpec
from swarm.errors import BadConfig, VerificationFailed
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import chunk_digests, tensor_hash
from swarm.training.data.dataset import (
    MANIFEST_BYTES_MAX,
    DatasetManifest,
    TokenFile,
    check_hash,
    check_same,
    data_spec,
    read_manifest,
)
from swarm.types import NO_DIGEST, Digest

BIG = bytes(range(256)) * 10_000


def a_half(data: bytes, dtype: str = "uint8", size: int = 1) -> TokenFile:
    root = tensor_hash(dtype, (len(data) // size,), data)
    return TokenFile(root, len(data), b"".join(chunk_digests(data)))


def a_manifest(**changes: object) -> DatasetManifest:
    manifest = DatasetManifest(
        format=1,
        tokenizer="bytes",
        tokenizer_root=NO_DIGEST,
        dtype="uint8",
        num_token_ids=256,
        separator=0,
        heldout_every=20,
        num_documents=40,
        train=a_half(BIG),
        heldout=a_half(b"small"),
    )
    return replace(manifest, **changes)


def of_a_file(**changes: object) -> DatasetManifest:
    return a_manifest(
        **{
            "tokenizer": "file",
            "tokenizer_root": Digest(b"t" * 32),
            "dtype": "uint16",
            "num_token_ids": 1000,
            "train": a_half(BIG, "uint16", 2),
            "heldout": a_half(b"evenly", "uint16", 2),
            **changes,
        }
    )


@pytest.mark.parametrize("manifest", [a_manifest(), of_a_file()])
def test_a_manifest_is_read_as_it_was_written(manifest: DatasetManifest) -> None:
    again = read_manifest(encode(manifest))
    assert again == manifest
    assert again.digest == manifest.digest != a_manifest(num_documents=41).digest
    assert [name for name, _ in manifest.halves] == ["train.bin", "heldout.bin"]
    assert manifest.train.num_chunks == 3


def test_the_spec_of_a_run_says_the_same() -> None:
    data = data_spec(of_a_file())
    assert data == DataSpec(
        tokenizer="file",
        train_root=of_a_file().train.root,
        train_bytes=len(BIG),
        heldout_root=of_a_file().heldout.root,
        heldout_bytes=6,
        dtype="uint16",
        num_token_ids=1000,
        tokenizer_root=Digest(b"t" * 32),
    )
    file = RunFile.model_validate({"model": {"vocab_size": 1024}})
    check_spec(run_spec(file, data=data))
    with pytest.raises(BadConfig, match="vocab_size 256 is below the 1000 token ids") as caught:
        run_spec(RunFile(), data=data)
    assert caught.value.hint == "set vocab_size = 1000 under [model]"


HALF = a_half(BIG)


@pytest.mark.parametrize(
    "manifest",
    [
        a_manifest(format=2),
        a_manifest(tokenizer="../../etc/passwd"),
        a_manifest(tokenizer_root=Digest(b"t" * 32)),
        a_manifest(tokenizer_root=Digest(b"")),
        of_a_file(tokenizer_root=NO_DIGEST),
        a_manifest(dtype="float32"),
        a_manifest(dtype="uint16"),
        a_manifest(dtype="\x1b[2J" * 1000),
        a_manifest(num_token_ids=255),
        a_manifest(num_token_ids=0, separator=-1),
        of_a_file(num_token_ids=1 << 62),
        of_a_file(num_token_ids=256),
        a_manifest(separator=256),
        a_manifest(separator=-1),
        a_manifest(heldout_every=0),
        a_manifest(num_documents=-5),
        a_manifest(train=replace(HALF, num_bytes=0, hashes=b"")),
        a_manifest(train=replace(HALF, num_bytes=-1)),
        a_manifest(train=replace(HALF, num_bytes=1 << 60)),
        a_manifest(train=replace(HALF, num_bytes=len(BIG) - 1)),
        a_manifest(train=replace(HALF, hashes=HALF.hashes[:-1])),
        a_manifest(train=replace(HALF, hashes=HALF.hashes + bytes(32))),
        a_manifest(train=replace(HALF, hashes=HALF.hashes[32:] + HALF.hashes[:32])),
        a_manifest(train=replace(HALF, root=Digest(b"r" * 32))),
        a_manifest(heldout=replace(HALF, root=Digest(b"short"))),
        of_a_file(train=replace(a_half(BIG, "uint16", 2), num_bytes=len(BIG) - 1)),
        of_a_file(train=a_half(BIG)),
    ],
)
def test_parts_that_do_not_fit_are_refused(manifest: DatasetManifest) -> None:
    with pytest.raises(BadConfig, match="not the manifest of a dataset"):
        read_manifest(encode(manifest))


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xc1", b"{}", encode(a_manifest())[:-1], encode(a_manifest()) + b"\x00",
     encode(("a", "path", "/etc/passwd")), bytes(MANIFEST_BYTES_MAX + 1)],
)  # fmt: skip
def test_other_bytes_are_no_manifest(raw: bytes) -> None:
    with pytest.raises(BadConfig, match="not the manifest of a dataset"):
        read_manifest(raw)


def test_a_pinned_hash_takes_one_dataset_and_names_both_hashes_of_another() -> None:
    manifest, other = a_manifest(), a_manifest(heldout_every=3)
    mine, pinned = manifest.digest.hex(), other.digest.hex()
    check_hash(manifest, "", "set", {})
    check_hash(manifest, mine, "set", {})
    with pytest.raises(VerificationFailed) as caught:
        check_hash(manifest, pinned, "set", {})
    assert mine in str(caught.value)
    assert pinned in str(caught.value)
    assert "swarm data build" in caught.value.hint
    with pytest.raises(VerificationFailed) as caught:
        check_hash(manifest, pinned, "set", {pinned: "that-one"})
    assert caught.value.hint == 'dataset = "that-one" under [data]'


def test_a_dataset_to_join_with_is_that_of_the_run_or_both_hashes_are_named() -> None:
    manifest = a_manifest()
    spec = data_spec(manifest)
    check_same(manifest, spec, "set")
    check_same(a_manifest(num_documents=99), spec, "set")  # a run does not say how many there were
    for name in ("train_root", "heldout_root", "tokenizer_root"):
        other = Digest(b"\x07" * 32)
        with pytest.raises(VerificationFailed) as caught:
            check_same(manifest, replace(spec, **{name: other}), "set")
        assert getattr(spec, name).hex() in str(caught.value)
        assert other.hex() in str(caught.value)
        assert "without --dataset" in caught.value.hint
    with pytest.raises(VerificationFailed, match="misnames"):
        check_same(manifest, replace(spec, train_bytes=spec.train_bytes + 1), "set")
