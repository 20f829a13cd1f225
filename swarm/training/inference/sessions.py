"""The texts that a stage goes on with for others: bounded in number, bytes, time and rate.

Core: a machine; time is an argument.

    (unknown) --position 0--> held --request--> busy --done--> held --idle or old--> (unknown)

A session is its peer's: another's identifier means nothing. What is not held is LOST, and the peer says its
text again.

One stage asked to go on with a text: the messages, what they may say, and the order of their numbers.

messages in, tensors out. Nothing here is signed: an answer is believed no further than the text it gives,
and the link says who it is from.

Numbers travel as float32, so that stages elsewhere give the bits that they would give here. Legend: T rows, D
hidden, V vocabulary.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import cast

import numpy as np
import torch
from torch import Tensor

from swarm.config.spec import ModelSpec
from swarm.errors import BadEncoding, OutOfTurn
from swarm.primitives.codec import Message, decode
from swarm.training.inference.sampling import KeyValueCache, cache_bytes
from swarm.training.model.stages import StagePlan
from swarm.training.record.checkpoint import flat_tensor, phi_bytes
from swarm.types import Digest, PeerId, RunIndex, StageIndex

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


class RefusalReason(IntEnum):
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
    """No numbers: see ``RefusalReason``."""

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


def outputs_of(plan: StagePlan, rows: int, raw: bytes) -> Tensor | RefusalReason:
    """What a stage answered: activations TD, logits V, or why not; raises ``BadEncoding`` for anything else."""
    answer = decode(cast("type[StageAnswer]", StageAnswer), raw, limit=REPLY_BYTES_MAX)
    if isinstance(answer, StageRefusal):
        known = {int(reason) for reason in RefusalReason}
        return RefusalReason(answer.reason) if answer.reason in known else RefusalReason.UNKNOWN
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


SESSIONS_MAX = 32
PER_PEER_MAX = 4
"""A peer that begins a fifth text loses its oldest."""
CACHE_BYTES_MAX = 256 << 20
"""Keys and values of all texts together, beside a training that has its own memory to mind."""
IDLE_S = 60.0
"""A person thinks longer over a text than a program; but the text can be said again."""
LIFE_S = 900.0
"""No text keeps an old checkpoint in memory longer."""
ROWS_PER_S = 256.0
"""Positions a peer may ask for, on average: several texts at reading speed, and their prompts."""
ROWS_BURST = 16_384.0
"""And at once: the longest context."""
BEGIN_ROWS = 128.0
"""What a new text costs beside its positions: its weights may have to be read from the disk."""
PEERS_REMEMBERED_MAX = 1_024
"""Peers whose rate is known; as many as connections, several times over."""


@dataclass(slots=True)
class Session:
    """One text of one peer at one stage."""

    plan: StagePlan
    params_P: Tensor
    root: Digest
    cache: KeyValueCache
    began: float
    used: float
    room: int = 0
    """Bytes that its cache may take, as counted against ``CACHE_BYTES_MAX``."""
    is_busy: bool = False


Key = tuple[PeerId, bytes, int]


class Sessions:
    """All sessions of one node."""

    def __init__(self) -> None:
        self._held: dict[Key, Session] = {}
        self._rates: dict[PeerId, tuple[float, float]] = {}
        """By peer: rows that it may still ask for, and as of when."""

    def __len__(self) -> int:
        return len(self._held)

    def find(
        self, peer: PeerId, request: StageRequest, now: float
    ) -> Session | RefusalReason | None:
        """The session that can go on with ``request``, marked busy; None when it is to be begun.

        The positions are counted against the peer's rate, whatever follows.
        """
        self.expire(now)
        is_new = request.position == 0
        if not self._take_rows(peer, request.rows + (BEGIN_ROWS if is_new else 0.0), now):
            return RefusalReason.BUSY
        session = self._held.get(_key(peer, request))
        if session is not None and session.is_busy:
            return RefusalReason.BUSY
        if session is None or session.root != request.root:
            return None if is_new else RefusalReason.LOST
        if request.position > session.cache.length:
            return RefusalReason.LOST
        return self._occupied(session, request, now)

    def begin(
        self, peer: PeerId, request: StageRequest, plan: StagePlan, params_P: Tensor, now: float
    ) -> Session | RefusalReason:
        """A new session, marked busy; the peer's oldest makes room for it."""
        key = _key(peer, request)
        self._drop(key)
        mine = [other for other in self._held if other[0] == peer]
        if len(mine) >= PER_PEER_MAX:
            self._drop(min(mine, key=lambda other: self._held[other].used))
        if len(self._held) >= SESSIONS_MAX:
            return RefusalReason.BUSY
        session = Session(plan, params_P, request.root, KeyValueCache(plan), now, now)
        found = self._occupied(session, request, now)
        if isinstance(found, Session):
            self._held[key] = found
        return found

    def release(self, session: Session, now: float) -> None:
        """A request was answered."""
        session.is_busy, session.used = False, now

    def expire(self, now: float) -> None:
        """Forget what nobody asked for lately, and what is old."""
        for key, session in list(self._held.items()):
            is_over = now - session.used > IDLE_S or now - session.began > LIFE_S
            if is_over and not session.is_busy:
                self._drop(key)

    def _occupied(
        self, session: Session, request: StageRequest, now: float
    ) -> Session | RefusalReason:
        """Make room for the positions of a request, or say that there is none."""
        room = cache_bytes(session.plan, request.position + request.rows)
        others = sum(held.room for held in self._held.values() if held is not session)
        if others + room > CACHE_BYTES_MAX:
            return RefusalReason.BUSY
        session.cache.truncate(request.position)
        session.room, session.used = max(room, session.cache.num_bytes), now
        session.is_busy = True
        return session

    def _take_rows(self, peer: PeerId, rows: float, now: float) -> bool:
        """A bucket that fills at ``ROWS_PER_S``."""
        left, since = self._rates.pop(peer, (ROWS_BURST, now))
        left = min(left + (now - since) * ROWS_PER_S, ROWS_BURST)
        is_allowed = rows <= left
        self._rates[peer] = (left - rows if is_allowed else left, now)
        if len(self._rates) > PEERS_REMEMBERED_MAX:
            del self._rates[next(iter(self._rates))]  # asked longest ago: its bucket is full again
        return is_allowed

    def _drop(self, key: Key) -> None:
        self._held.pop(key, None)


def _key(peer: PeerId, request: StageRequest) -> Key:
    return peer, request.session, request.stage
