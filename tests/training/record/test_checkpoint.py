"""A saved shard comes back bit for bit, or not at all."""

import pytest
import torch

from swarm.errors import BrokenPromise, Corrupt
from swarm.primitives.commitments import hash_of, tensor_hash
from swarm.training.record.checkpoint import (
    SavedShard,
    decode_phi,
    decode_shard,
    encode_shard,
    joined,
    phi_bytes,
)
from swarm.types import Digest


def a_shard(numel: int = 50) -> SavedShard:
    rng = torch.Generator().manual_seed(0)
    tensors = [torch.randn(numel, generator=rng) for _ in range(5)]
    params_P, m_P, v_A, phi_P, momentum_P = tensors
    return SavedShard(
        run_digest=Digest(bytes(32)),
        stage=1,
        seat=3,
        round=7,
        step=99,
        tokens=12345,
        tokens_at_sync=(0, 12000),
        anchor_root=Digest(b"\x01" * 32),
        params_P=params_P,
        m_P=m_P,
        v_A=v_A,
        phi_P=phi_P,
        momentum_P=momentum_P,
        residual_P=torch.zeros(0),
    )


def file_of(saved: SavedShard) -> bytes:
    return b"".join(encode_shard(saved))


@pytest.mark.rule("T23")
def test_a_shard_comes_back_as_it_was() -> None:
    saved = a_shard()
    again = decode_shard(file_of(saved), 50, 50)
    assert all(torch.equal(x, y) for x, y in zip(saved.tensors, again.tensors, strict=True))
    assert (again.stage, again.seat, again.round, again.step, again.tokens) == (1, 3, 7, 99, 12345)
    assert (again.run_digest, again.anchor_root) == (saved.run_digest, saved.anchor_root)
    assert file_of(again) == file_of(saved)


@pytest.mark.rule("T23")
@pytest.mark.parametrize("index", [0, 9, 20, 300, -1])
def test_one_changed_byte_is_noticed(index: int) -> None:
    data = bytearray(file_of(a_shard()))
    data[index] ^= 1
    with pytest.raises(Corrupt) as caught:
        decode_shard(bytes(data), 50, 50)
    assert caught.value.hint


@pytest.mark.parametrize("length", [0, 5, 12, 100, -1])
def test_a_file_cut_short_is_noticed(length: int) -> None:
    with pytest.raises(Corrupt):
        decode_shard(file_of(a_shard())[:length], 50, 50)


@pytest.mark.rule("T23")
def test_a_shard_of_another_model_is_refused() -> None:
    with pytest.raises(Corrupt, match="another model"):
        decode_shard(file_of(a_shard()), 51, 51)


@pytest.mark.rule("T22")
def test_slow_weights_are_named_by_their_bytes() -> None:
    phi_P = a_shard().phi_P
    data = phi_bytes(phi_P)
    assert torch.equal(decode_phi(data, 50), phi_P)
    assert tensor_hash("float32", (50,), data) == hash_of(phi_P)


@pytest.mark.rule("S34")
def test_slow_weights_a_peer_broke_are_refused() -> None:
    with pytest.raises(BrokenPromise):
        decode_phi(bytes(196), 50)
    with pytest.raises(BrokenPromise):
        decode_phi(phi_bytes(torch.full((50,), float("nan"))), 50)


def test_shards_are_joined_in_order() -> None:
    assert joined([torch.zeros(2), torch.ones(1)]).tolist() == [0, 0, 1]
