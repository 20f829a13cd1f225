"""Chunks of a token file stand for the whole of it where they are read, and for nothing else."""

import numpy as np
import pytest

from swarm.config.spec import DataSpec
from swarm.errors import BadConfig, BadEncoding, BrokenPromise
from swarm.primitives.codec import replace
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES, chunk_digest, tensor_hash
from swarm.training.data.pieces import TokenPieces, check_pieces, chunks_read
from swarm.training.data.samples import draw_samples
from swarm.types import NO_DIGEST
from tests.verify.windows import honest

SIZE = 3 * TENSOR_CHUNK_BYTES + 5_000
TOKENS = (np.arange(SIZE // 2, dtype=np.uint32) % 997).astype("<u2")
RAW = TOKENS.tobytes()
CHUNKS = {at: RAW[at << 20 : at + 1 << 20] for at in range(4)}
HASHES = b"".join(chunk_digest(chunk) for chunk in CHUNKS.values())
ROOT = tensor_hash("uint16", (len(TOKENS),), RAW)
DATA = DataSpec("file", ROOT, SIZE, NO_DIGEST, 1000, "uint16", 997)


def test_a_piece_reads_like_the_file() -> None:
    pieces = TokenPieces(DATA, {1: CHUNKS[1], 2: CHUNKS[2]})
    check_pieces(DATA, HASHES, {1: CHUNKS[1], 2: CHUNKS[2]})
    assert len(pieces) == len(TOKENS)
    half = TENSOR_CHUNK_BYTES // 2
    for start, stop in [(half, half + 9), (2 * half - 4, 2 * half + 5), (3 * half - 3, 3 * half)]:
        assert np.array_equal(pieces[start:stop], TOKENS[start:stop])
    for start, stop in [(half - 1, half + 1), (3 * half - 1, 3 * half + 1), (0, 1)]:
        with pytest.raises(BadConfig, match="is missing"):
            pieces[start:stop]
    whole = TokenPieces(DATA, CHUNKS)
    assert np.array_equal(whole[len(TOKENS) - 10 : len(TOKENS)], TOKENS[-10:])


def test_chunks_of_another_text_are_refused() -> None:
    check_pieces(DATA, HASHES, CHUNKS)
    check_pieces(DATA, b"", {})
    swapped = HASHES[32:64] + HASHES[:32] + HASHES[64:]
    with pytest.raises(BrokenPromise, match="another text"):
        check_pieces(DATA, swapped, CHUNKS)
    with pytest.raises(BadEncoding, match="another number"):
        check_pieces(DATA, HASHES[:-32], CHUNKS)
    with pytest.raises(BrokenPromise, match="chunk 1"):
        check_pieces(DATA, HASHES, {1: CHUNKS[2]})
    for chunks in ({4: CHUNKS[0]}, {-1: CHUNKS[0]}, {3: CHUNKS[0]}, {0: b""}):
        with pytest.raises(BadEncoding, match="does not have"):
            check_pieces(DATA, HASHES, chunks)
    with pytest.raises(BrokenPromise, match="out of the vocabulary"):
        check_pieces(replace(DATA, num_token_ids=996), HASHES, CHUNKS)


def test_the_chunks_that_a_window_reads_are_enough_for_its_samples() -> None:
    """In a text of four chunks, for a stage that reads text; a stage in the middle reads none."""
    crop = honest(1)
    segment = crop.segments[0, 0, 0]
    spec = replace(crop.spec, data=DATA)
    plan, data = replace(segment.plan, spec=spec), segment.windows[0]
    read = chunks_read(plan, data)
    assert read <= set(CHUNKS)
    pieces = TokenPieces(DATA, {index: CHUNKS[index] for index in read})
    ids = [one.microbatch_id for event in data.events for one in getattr(event, "microbatches", ())]
    assert ids
    for one in ids:
        found, expected = draw_samples(pieces, plan, one), draw_samples(TOKENS, plan, one)
        assert found[0].equal(expected[0])
        assert found[1].equal(expected[1])
        assert found[2] == expected[2]
    middle = replace(data, key=replace(data.key, stage=1))
    assert not chunks_read(replace(plan, spec=replace(spec, num_stages=3)), middle)
