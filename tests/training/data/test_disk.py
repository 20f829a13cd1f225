"""A token file is a blob of its dtype, whatever the pieces it came in; the first bad chunk is named."""

import os
from pathlib import Path

import numpy as np
import pytest

from swarm.config.bounds import BOUNDS
from swarm.errors import BadConfig, VerificationFailed
from swarm.gossip.blobs.chunks import blob_manifest, blob_root
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES
from swarm.training.data.disk import TokenWriter, check_token_file, root_of_file

SIZES = {"uint8": 1, "uint16": 2, "uint32": 4}


@pytest.mark.rule("T13a")
@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("count", [1, 5, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_what_is_written_is_the_blob_that_peers_fetch(
    tmp_path: Path, dtype: str, count: int
) -> None:
    tokens = (np.arange(count) % 251).astype(dtype)
    writer = TokenWriter(tmp_path / "t", dtype)
    for piece in np.array_split(tokens, 7):
        writer.add(piece)
    half = writer.close()
    data = (tmp_path / "t").read_bytes()
    assert data == tokens.astype(tokens.dtype.newbyteorder("<")).tobytes()
    blob = blob_manifest(data, dtype=dtype, shape=(count,))
    assert half.root == blob_root(blob)
    assert not blob.hashes or half.hashes == blob.hashes
    assert root_of_file(tmp_path / "t", dtype, 251) == half.root
    progress: list[int] = []
    check_token_file(tmp_path / "t", half, dtype, 251, progress.append)
    assert sum(progress) == half.num_bytes == count * SIZES[dtype]


@pytest.mark.rule("S2", "T13a")
def test_the_first_bad_chunk_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t"
    writer = TokenWriter(path, "uint8")
    writer.add(np.zeros(3 * TENSOR_CHUNK_BYTES + 10, dtype=np.uint8))
    half = writer.close()
    whole = path.read_bytes()

    def message_of(data: bytes) -> str:
        path.write_bytes(data)
        with pytest.raises(VerificationFailed) as caught:
            check_token_file(path, half, "uint8", 256)
        assert caught.value.exit_code == 6
        return str(caught.value)

    bad = bytearray(whole)
    bad[2 * TENSOR_CHUNK_BYTES + 5] = bad[-1] = 1
    assert "chunk 2 of 4, bytes 2097152 to 3145728" in message_of(bytes(bad))
    assert "chunk 3 of 4, bytes 3145728 to 3145738" in message_of(whole[:-1])
    assert "it ends at byte 1500000" in message_of(whole[:1_500_000])
    assert "chunk 0" in message_of(b"")
    assert "goes on after its last chunk" in message_of(whole + b"x")


def test_a_small_file_of_another_root_is_refused(tmp_path: Path) -> None:
    writer = TokenWriter(tmp_path / "t", "uint8")
    writer.add(np.arange(9, dtype=np.uint8))
    half = writer.close()
    with pytest.raises(VerificationFailed, match="not that of the root"):
        check_token_file(tmp_path / "t", half.__class__(b"r" * 32, 9, half.hashes), "uint8", 256)  # type: ignore[arg-type]


@pytest.mark.rule("S2", "T13a")
def test_a_token_out_of_the_vocabulary_is_named(tmp_path: Path) -> None:
    tokens = np.zeros(TENSOR_CHUNK_BYTES, dtype=np.uint16)
    tokens[700_000] = 1000
    writer = TokenWriter(tmp_path / "t", "uint16")
    writer.add(tokens)
    half = writer.close()
    check_token_file(tmp_path / "t", half, "uint16", 1001)
    root_of_file(tmp_path / "t", "uint16", 1001)
    with pytest.raises(VerificationFailed, match="token 700000 is 1000, and there are 1000 ids"):
        check_token_file(tmp_path / "t", half, "uint16", 1000)
    with pytest.raises(BadConfig, match="token 700000 is 1000"):
        root_of_file(tmp_path / "t", "uint16", 1000)


@pytest.mark.rule("S2")
def test_half_a_token_a_link_and_a_pipe_are_refused(tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(b"abc")
    with pytest.raises(BadConfig, match="no whole number of uint16"):
        root_of_file(tmp_path / "odd", "uint16", 1000)
    (tmp_path / "link").symlink_to(tmp_path / "odd")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "gone"):
        with pytest.raises(BadConfig, match=name):
            root_of_file(tmp_path / name, "uint8", 256)


def test_more_than_a_blob_can_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BOUNDS, "train_bytes", (1, 100))
    writer = TokenWriter(tmp_path / "t", "uint8")
    writer.add(np.zeros(100, dtype=np.uint8))
    with pytest.raises(BadConfig, match="of tokens to train on"):
        writer.add(np.zeros(1, dtype=np.uint8))
    writer.abandon()
