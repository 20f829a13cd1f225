"""Encode a shard's state as canonical bytes, and decode it: its slow weights alone, or all of it.

Core: bytes in, bytes out; files are written by the caller.

The slow weights alone, as raw little-endian float32, are named by the ledger, fetched by peers and loaded by
joiners: their name is their ``hash_of`` (primitives/commitments.py). The whole state, with moments and
counters, is for the restart of this node: a magic number, the header's length and hash, the header, which names
every tensor by its hash, and the tensors.

Legend: P parameters of the shard, A those that AdamW rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from swarm.errors import BadEncoding, BrokenPromise, Corrupt
from swarm.placement import let_go
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.commitments import hash_of
from swarm.primitives.crypto import fast_digest
from swarm.training.model.operators import are_finite
from swarm.types import Digest

MAGIC = b"SWARMSH3"
"""First bytes of a saved shard; the last digit is the version of the format."""
FLOAT_BYTES = 4
HEADER_BYTES_MAX = 64 << 10
"""A header lists six hashes, a number for each fragment and a few more."""
_LENGTH_BYTES = 4
_HASH_BYTES = 32
RESTART_HINT = "delete the saved shard: the seat starts again from the last checkpoint"


@dataclass(frozen=True, slots=True)
class SavedShard:
    """State that a seat needs to continue after a restart."""

    run_digest: Digest
    stage: int
    seat: int
    round: int
    step: int
    tokens: int
    tokens_at_sync: tuple[int, ...]
    """For each fragment, ``tokens`` at its last merge."""
    anchor_root: Digest
    params_P: Tensor
    m_P: Tensor
    v_A: Tensor
    phi_P: Tensor
    momentum_P: Tensor
    residual_P: Tensor
    """Residual of everything sent in int4 (training/averaging/payload.py); empty in other runs, longer than P
    in some.
    """

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The six tensors in the order in which they are written."""
        return (
            self.params_P,
            self.m_P,
            self.v_A,
            self.phi_P,
            self.momentum_P,
            self.residual_P,
        )


class _Header(Message, frozen=True):
    run_digest: bytes
    stage: int
    seat: int
    round: int
    step: int
    tokens: int
    tokens_at_sync: tuple[int, ...]
    anchor_root: bytes
    lengths: tuple[int, ...]
    hashes: tuple[bytes, ...]


_NUM_TENSORS = 6


def encode_shard(saved: SavedShard) -> list[bytes | memoryview]:
    """Return the pieces of the file, to be written one after another; no tensor is copied."""
    header = encode(
        _Header(
            run_digest=saved.run_digest,
            stage=saved.stage,
            seat=saved.seat,
            round=saved.round,
            step=saved.step,
            tokens=saved.tokens,
            tokens_at_sync=saved.tokens_at_sync,
            anchor_root=saved.anchor_root,
            lengths=tuple(tensor.numel() for tensor in saved.tensors),
            hashes=tuple(_hash(tensor) for tensor in saved.tensors),
        )
    )
    head = MAGIC + len(header).to_bytes(_LENGTH_BYTES, "big") + _header_hash(header) + header
    return [head, *(phi_bytes(tensor) for tensor in saved.tensors)]


def decode_shard(
    data: bytes | memoryview, num_parameters: int, num_second_moments: int
) -> SavedShard:
    """Read a saved shard of this size; raise ``Corrupt`` unless every byte is as it was written.

    From bytes that can be written, as those of ``spill.file_bytes``, the tensors are views.
    """
    view = memoryview(data).cast("B")
    header, at = _read_header(view)
    if len(header.lengths) != _NUM_TENSORS or len(header.hashes) != _NUM_TENSORS:
        raise Corrupt("a saved shard with a strange header", hint=RESTART_HINT)
    all_P = num_parameters
    if header.lengths[:-1] != (all_P, all_P, num_second_moments, all_P, all_P):
        raise Corrupt("a saved shard of another model", hint=RESTART_HINT)
    if len(view) - at != FLOAT_BYTES * sum(header.lengths):
        raise Corrupt("a saved shard that was cut short", hint=RESTART_HINT)
    tensors = list[Tensor]()
    for length, name in zip(header.lengths, header.hashes, strict=True):
        end = at + FLOAT_BYTES * length
        tensor = flat_tensor(view[at:end], is_view=not view.readonly)
        if hash_of(tensor) != name:
            raise Corrupt("a saved shard whose bytes changed on the disk", hint=RESTART_HINT)
        tensors.append(tensor)
        let_go()
        at = end
    return SavedShard(
        Digest(header.run_digest),
        header.stage,
        header.seat,
        header.round,
        header.step,
        header.tokens,
        header.tokens_at_sync,
        Digest(header.anchor_root),
        *tensors,
    )


def phi_bytes(flat_P: Tensor) -> memoryview:
    """Return slow weights as raw little-endian float32: a view of the tensor's own memory."""
    array = flat_P.detach().contiguous().numpy().astype("<f4", copy=False)
    # An empty array has no memory to view, and Python refuses to cast an empty view.
    return array.data.cast("B") if array.size else memoryview(b"")


def decode_phi(data: bytes | memoryview, num_parameters: int) -> Tensor:
    """Read slow weights served by a peer; raise ``BrokenPromise`` for a wrong length or a non-finite value.

    From bytes that can be written, as those of ``spill.file_bytes``, they are a view. The caller compares
    ``commitments.hash_of`` with the root that the ledger names.
    """
    view = memoryview(data).cast("B")
    if len(view) != FLOAT_BYTES * num_parameters:
        raise BrokenPromise(f"a checkpoint of {len(view)} bytes for {num_parameters} parameters")
    phi_P = flat_tensor(view, is_view=not view.readonly)
    if not are_finite(phi_P):
        raise BrokenPromise("a checkpoint with values that are not finite")
    return phi_P


def joined(shards: Sequence[Tensor]) -> Tensor:
    """Return the whole model: the shards of all stages, concatenated, are the shard of a one-stage run."""
    return torch.cat(list(shards))


def _read_header(view: memoryview) -> tuple[_Header, int]:
    named = len(MAGIC) + _LENGTH_BYTES
    start = named + _HASH_BYTES
    length = int.from_bytes(view[len(MAGIC) : named], "big")
    if bytes(view[: len(MAGIC)]) != MAGIC or length > min(HEADER_BYTES_MAX, len(view) - start):
        raise Corrupt("not a saved shard", hint=RESTART_HINT)
    raw = bytes(view[start : start + length])
    if _header_hash(raw) != bytes(view[named:start]):
        raise Corrupt("a saved shard whose header changed on the disk", hint=RESTART_HINT)
    try:
        return decode(_Header, raw), start + length
    except BadEncoding as error:
        raise Corrupt(f"a saved shard with a broken header: {error}", hint=RESTART_HINT) from None


def _hash(tensor: Tensor) -> bytes:
    name = hash_of(tensor)
    let_go()
    return name


def _header_hash(header: bytes) -> bytes:
    return fast_digest("saved-shard", header)


def flat_tensor(view: memoryview, *, is_view: bool = False) -> Tensor:
    """Return a tensor of raw little-endian float32: a copy, unless ``is_view``."""
    # A copy: the bytes of a file or a frame must not change when the tensor is trained.
    array = np.frombuffer(view, dtype="<f4")
    return torch.from_numpy(array.astype(np.float32, copy=not is_view))
