"""Split text into training and held-out halves, and draw the windows of tokens of a micro-batch by its ids.

Core: pure functions over bytes and arrays; files are read in ``training/data/disk.py``.

A corpus is a set of files, assigned to its halves by ``training/data/dataset.py``. The windows of a micro-batch
follow from finalised state by a PRF, so a solver cannot choose its data, and the last stage derives the labels
from the same sample ids.

Legend: B sequences of a micro-batch, T time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from swarm.errors import UsageError
from swarm.primitives.codec import encode
from swarm.primitives.crypto import expand, fast_digest
from swarm.training.data.dataset import HELDOUT, SEPARATOR, TRAIN, Split, TokenSource, document_name
from swarm.training.plan import RoundPlan
from swarm.types import Digest, RoundIndex

SAMPLE_ID_BYTES = 8
BATCH_MAX = 4096
"""Upper limit of the sequences in one micro-batch."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Text that a launcher publishes: the training file and the held-out file."""

    train: bytes
    heldout: bytes


def build_corpus(files: Iterable[bytes], *, max_bytes: int, heldout_every: int) -> Corpus:
    """Split files into training and held-out text; the result does not depend on their order.

    ``max_bytes`` bounds both together; files that do not fit are left out. Raises ``BadConfig`` if either half
    would be empty.
    """
    by_name = {document_name(data): data for data in files if data}
    halves: tuple[list[bytes], list[bytes]] = ([], [])
    split = Split(max_bytes=max_bytes, heldout_every=heldout_every, num_documents=len(by_name))
    for name in sorted(by_name):
        for half, text in split.deal(by_name[name]):
            halves[half].extend((text, SEPARATOR))
    split.close()
    return Corpus(b"".join(halves[TRAIN]), b"".join(halves[HELDOUT]))


def sample_ids(
    beacon: Digest,
    run_digest: Digest,
    origin: int,
    round_index: RoundIndex,
    step: int,
    microbatch: int,
    count: int,
    num_windows: int,
) -> tuple[int, ...]:
    """Return the ``count`` sample ids of a micro-batch: window starts in [0, num_windows).

    ``num_windows`` is ``len(tokens) - seq_len``. Raises ``UsageError`` if there is no window or ``count`` is
    out of bounds.
    """
    if num_windows < 1 or not 1 <= count <= BATCH_MAX:
        raise UsageError(f"{count} samples of {num_windows} windows")
    where = encode((origin, round_index, step, microbatch))
    seed = fast_digest("training.samples", beacon, run_digest, where)
    raw = expand(seed, "training.samples", SAMPLE_ID_BYTES * count)
    # The bias of the remainder is num_windows / 2^64: negligible.
    return tuple(
        int.from_bytes(raw[at : at + SAMPLE_ID_BYTES], "big") % num_windows
        for at in range(0, len(raw), SAMPLE_ID_BYTES)
    )


def sample_ids_root(ids: Sequence[int]) -> Digest:
    """Return the hash of a micro-batch's sample ids, as transcripts carry it."""
    return fast_digest("sample-ids", encode(tuple(ids)))


def windows(tokens: TokenSource, ids: Sequence[int], seq_len: int) -> tuple[Tensor, Tensor]:
    """Return (inputs_BT, labels_BT), int64: each label is the token after its input.

    Raises ``UsageError`` if there are no ids or one lies outside the file.
    """
    if not ids or min(ids) < 0 or max(ids) + seq_len + 1 > len(tokens):
        raise UsageError("a sample id outside the token file")
    drawn = np.stack([tokens[start : start + seq_len + 1] for start in ids]).astype(np.int64)
    both = torch.from_numpy(drawn)
    return both[:, :-1].contiguous(), both[:, 1:].contiguous()


def draw_samples(
    tokens: TokenSource, plan: RoundPlan, microbatch_id: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Digest]:
    """Return (inputs_BT, labels_BT, root of the sample ids) of the micro-batch (origin, step, micro-batch)."""
    spec, (origin, step, microbatch) = plan.spec, microbatch_id
    ids = sample_ids(
        plan.beacon,
        plan.run_digest,
        origin,
        plan.round,
        step,
        microbatch,
        spec.microbatch_size,
        len(tokens) - spec.model.seq_len,
    )
    inputs_BT, labels_BT = windows(tokens, ids, spec.model.seq_len)
    return inputs_BT, labels_BT, sample_ids_root(ids)
