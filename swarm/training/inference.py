"""One stage asked to go on with a text: the messages, what they may say, and the order of their numbers.

Core: messages in, tensors out. Nothing here is signed: an answer is believed no further than the text it gives,
and the link says who it is from.

Numbers travel as float32, so that stages elsewhere give the bits that they would give here. Legend: T rows, D
hidden, V vocabulary.
"""

from enum import IntEnum
from typing import cast

import numpy as np
import torch
from torch import Tensor

from swarm.codec import Message, decode
from swarm.errors import BadEncoding, OutOfTurn
from swarm.spec import ModelSpec
from swarm.training.checkpoint import flat_tensor, phi_bytes
from swarm.training.stages import StagePlan
from swarm.types import Digest, RunIndex, StageIndex

SESSION_BYTES = 16
"""Drawn by whoever asks; it means something to that peer alone."""
ROWS_MAX = 512
"""Positions in one request: a worker is busy with one for a second at most."""
PAYLOAD_BYTES_MAX = 2 << 20
"""Of T x D or V float32: half a frame."""
REQUEST_BYTES_MAX = PAYLOAD_BYTES_MAX + 4096
REPLY_BYTES_MAX = PAYLOAD_BYTES_MAX + 4096
_ID_BYTES = 4
_FLOAT_BYTES = 4


class Reason(IntEnum):
    """Why a stage does not go on."""

    BUSY = 0
    """Too many texts, or too many positions in this minute: ask a sibling."""
    LOST = 1
    """The positions before are not held here: say the text again from its beginning."""
    UNKNOWN = 2
    """Not the weights of this node: ask a sibling."""


class StageRequest(Message, frozen=True):
    """The next rows of a text for one stage."""

    run: RunIndex
    stage: StageIndex
    root: Digest
    """The weights to compute with, as the ledger names them."""
    session: bytes
    position: int
    """Where the first row stands; what a session holds from there on is forgotten."""
    rows: int
    payload: bytes
    """Ids (int32, stage 0) or activations T x D (float32), little-endian."""


class StageReply(Message, frozen=True, tag=1):
    """Activations T x D, or of the last stage the logits V after the last row: float32, little-endian."""

    payload: bytes


class StageRefusal(Message, frozen=True, tag=2):
    """No numbers: see ``Reason``."""

    reason: int


StageAnswer = StageReply | StageRefusal


def rows_max(model: ModelSpec) -> int:
    """The most positions of one request."""
    return min(ROWS_MAX, PAYLOAD_BYTES_MAX // (_FLOAT_BYTES * model.hidden_size), model.seq_len)


def payload_of(inputs: Tensor) -> bytes:
    """Ids T (int64) or float32 of any shape, as they travel."""
    if inputs.dtype == torch.int64:
        return inputs.numpy().astype("<i4").tobytes()
    return bytes(phi_bytes(inputs))


def inputs_of(plan: StagePlan, request: StageRequest) -> Tensor:
    """What a request asks a stage to go on with: ids T or activations TD.

    Raises ``BadEncoding`` for numbers that do not fit, ``OutOfTurn`` for positions outside the context.
    """
    model, rows = plan.model, request.rows
    if len(request.session) != SESSION_BYTES or len(request.root) != len(Digest(bytes(32))):
        raise BadEncoding("a session or a root of another length")
    if not 1 <= rows <= rows_max(model) or not 0 <= request.position <= model.seq_len - rows:
        raise OutOfTurn(f"{rows} rows at {request.position} in a context of {model.seq_len}")
    if not plan.is_first:
        return _floats(request.payload, (rows, model.hidden_size))
    if len(request.payload) != rows * _ID_BYTES:
        raise BadEncoding(f"{len(request.payload)} bytes for {rows} ids")
    ids = torch.from_numpy(np.frombuffer(request.payload, dtype="<i4").astype(np.int64))
    if int(ids.min()) < 0 or int(ids.max()) >= model.vocab_size:
        raise BadEncoding(f"an id outside the vocabulary of {model.vocab_size}")
    return ids


def outputs_of(plan: StagePlan, rows: int, raw: bytes) -> Tensor | Reason:
    """What a stage answered: activations TD, logits V, or why not; raises ``BadEncoding`` for anything else."""
    answer = decode(cast("type[StageAnswer]", StageAnswer), raw, limit=REPLY_BYTES_MAX)
    if isinstance(answer, StageRefusal):
        known = {int(reason) for reason in Reason}
        return Reason(answer.reason) if answer.reason in known else Reason.UNKNOWN
    model = plan.model
    shape = (model.vocab_size,) if plan.is_last else (rows, model.hidden_size)
    return _floats(answer.payload, shape)


def _floats(payload: bytes, shape: tuple[int, ...]) -> Tensor:
    count = 1
    for extent in shape:
        count *= extent
    if len(payload) != _FLOAT_BYTES * count:
        raise BadEncoding(f"{len(payload)} bytes for {count} float32")
    found = flat_tensor(memoryview(payload))
    if not bool(torch.isfinite(found).all()):
        raise BadEncoding("numbers that are not finite")
    return found.view(shape)
