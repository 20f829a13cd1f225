"""Some chunks of a token file in place of the whole file, and which of them the log of a window reads.

Core: pure functions of bytes.

A token file is named by a Merkle root over chunks of 1 MiB, and one of up to 1 MiB by the hash of its bytes:
nothing smaller than a chunk can be shown to be of a file.
"""

from collections.abc import Mapping

import numpy as np

from swarm.config.bounds import TOKEN_BYTES
from swarm.config.spec import DataSpec
from swarm.errors import BadConfig, BadEncoding, BrokenPromise
from swarm.primitives.commitments import (
    TENSOR_CHUNK_BYTES,
    chunk_digest,
    tensor_hash,
    tensor_root,
)
from swarm.training.data.dataset import TokenArray
from swarm.training.data.samples import sample_ids
from swarm.training.plan import RoundPlan
from swarm.training.record.window import StepTaken, Uncounted, WindowData
from swarm.types import Bytes, Digest

HASH_BYTES = 32


def num_chunks(data: DataSpec) -> int:
    """Return the number of chunks of the training file."""
    return -(-data.train_bytes // TENSOR_CHUNK_BYTES)


def chunk_bytes(data: DataSpec, index: int) -> int:
    """Return the length of a chunk of the training file."""
    return min(TENSOR_CHUNK_BYTES, data.train_bytes - index * TENSOR_CHUNK_BYTES)


class TokenPieces:
    """Tokens of a run of which only some chunks are here: a ``TokenSource``."""

    def __init__(self, data: DataSpec, chunks: Mapping[int, Bytes]) -> None:
        """Take chunks of the training file by their number; ``check_pieces`` has checked them."""
        self._size = TOKEN_BYTES[data.dtype]
        self._num_tokens = data.train_bytes // self._size
        self._dtype, self._chunks = np.dtype(f"<u{self._size}"), chunks

    def __len__(self) -> int:
        """Return the number of tokens in the whole file."""
        return self._num_tokens

    def __getitem__(self, span: slice, /) -> TokenArray:
        """Return some tokens that follow each other; raise ``BadConfig`` if a chunk of them is not here."""
        start, stop, _ = span.indices(self._num_tokens)
        first, last = start * self._size, stop * self._size
        found = bytearray()
        for index in range(first // TENSOR_CHUNK_BYTES, -(-last // TENSOR_CHUNK_BYTES)):
            if index not in self._chunks:
                raise BadConfig(
                    f"chunk {index} of the text that the window was trained on is missing"
                )
            begin = index * TENSOR_CHUNK_BYTES
            chunk = memoryview(self._chunks[index])
            found += chunk[max(first - begin, 0) : last - begin]
        return np.frombuffer(bytes(found), self._dtype)


def check_pieces(data: DataSpec, hashes: bytes, chunks: Mapping[int, Bytes]) -> None:
    """Raise ``PeerFault`` unless chunks are of the training file of a run, and hold ids that the run has.

    ``hashes`` are those of all chunks, 32 bytes each; none for a file of one chunk.
    """
    count, tokens = num_chunks(data), data.train_bytes // TOKEN_BYTES[data.dtype]
    if not chunks and not hashes:
        return
    digests = [Digest(hashes[at : at + HASH_BYTES]) for at in range(0, len(hashes), HASH_BYTES)]
    if len(hashes) != (HASH_BYTES * count if count > 1 else 0):
        raise BadEncoding("hashes of another number of chunks than the text has")
    if count > 1 and tensor_root(data.dtype, (tokens,), data.train_bytes, digests) != (
        data.train_root
    ):
        raise BrokenPromise("hashes of the chunks of another text than the run's")
    for index, chunk in chunks.items():
        if not 0 <= index < count or len(chunk) != chunk_bytes(data, index):
            raise BadEncoding("a chunk that the text of the run does not have")
        if count > 1:
            is_true = chunk_digest(chunk) == digests[index]
        else:
            is_true = tensor_hash(data.dtype, (tokens,), chunk) == data.train_root
        if not is_true:
            raise BrokenPromise(f"chunk {index} of the text is not that of the run")
        ids = np.frombuffer(chunk, f"<u{TOKEN_BYTES[data.dtype]}")
        if int(ids.max()) >= data.num_token_ids:
            raise BrokenPromise(f"chunk {index} of the text has a token out of the vocabulary")


def chunks_read(plan: RoundPlan, data: WindowData) -> frozenset[int]:
    """Return the chunks of the training file that a replay of a log of this round reads."""
    spec, stage = plan.spec, data.key.stage
    if 0 < stage < spec.num_stages - 1 and not spec.model.bottleneck_rank:
        return frozenset()
    size = TOKEN_BYTES[spec.data.dtype]
    starts = spec.data.train_bytes // size - spec.model.seq_len
    count = spec.microbatch_size
    found = set[int]()
    for event in data.events:
        if not isinstance(event, StepTaken | Uncounted):
            continue
        for origin, step, microbatch in (one.microbatch_id for one in event.microbatches):
            seed = (plan.beacon, plan.run_digest, origin, plan.round, step, microbatch)
            for start in sample_ids(*seed, count, starts):
                first = start * size // TENSOR_CHUNK_BYTES
                last = ((start + spec.model.seq_len + 1) * size - 1) // TENSOR_CHUNK_BYTES
                found.update(range(first, last + 1))
    return frozenset(found)
