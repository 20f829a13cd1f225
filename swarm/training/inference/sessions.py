"""Hold the generation sessions of other peers at a stage within limits, and define their messages.

Core: a machine, bounded in number, bytes, time and rate; time is an argument.

    (unknown) --position 0--> held --request--> busy --done--> held --idle or old--> (unknown)

A session belongs to its peer: the same id from another peer is another session. A session that is not held is
answered with LOST, and the peer sends its text again.

Messages are bounded and not signed: a wrong answer affects only the text generated from it, and the link
authenticates the sender. Numbers travel as float32, so that remote stages give the same bits as local ones.

Legend: T rows, S values that a stage sends of a token and W numbers that one takes (model/stages.py; D hidden
without a bottleneck), V vocabulary.
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
from swarm.training.model.bottleneck import are_ids
from swarm.training.model.stages import StagePlan
from swarm.training.record.checkpoint import flat_tensor, phi_bytes
from swarm.types import Digest, PeerId, RunIndex, StageIndex

SESSION_BYTES = 16
"""Random id chosen by the requester; it has a meaning for that peer alone."""
ROWS_MAX = 512
"""Positions in one request, which occupies a worker for a second at most."""
PAYLOAD_BYTES_MAX = 2 << 20
"""Bytes of T x D or V float32: half a frame."""
REQUEST_BYTES_MAX = PAYLOAD_BYTES_MAX + 4096
REPLY_BYTES_MAX = PAYLOAD_BYTES_MAX + 4096
_ID_BYTES = 4
_FLOAT_BYTES = 4


class RefusalReason(IntEnum):
    """Reasons for a refusal."""

    BUSY = 0
    """Too many sessions, or too many positions in this minute: ask another replica."""
    LOST = 1
    """The earlier positions are not held here: send the text again from its beginning."""
    UNKNOWN = 2
    """This node does not have these weights: ask another replica."""


class StageRequest(Message, frozen=True):
    """The next rows of a text for one stage."""

    run: RunIndex
    stage: StageIndex
    root: Digest
    """The weights to compute with, as the ledger names them."""
    session: bytes
    position: int
    """Position of the first row; positions that a session holds from there on are dropped."""
    rows: int
    payload: bytes
    """Ids (int32, stage 0) or rows T x W (float32), little-endian."""


class StageReply(Message, frozen=True, tag=1):
    """Activations T x S, or from the last stage the logits V after the last row: float32, little-endian."""

    payload: bytes


class StageRefusal(Message, frozen=True, tag=2):
    """Refusal; see ``RefusalReason``."""

    reason: int


StageAnswer = StageReply | StageRefusal


def rows_max(model: ModelSpec) -> int:
    """Return the largest number of positions in one request."""
    return min(ROWS_MAX, PAYLOAD_BYTES_MAX // (_FLOAT_BYTES * model.hidden_size), model.seq_len)


def payload_of(inputs: Tensor) -> bytes:
    """Return ids T (int64) or float32 of any shape as payload bytes."""
    if inputs.dtype == torch.int64:
        return inputs.numpy().astype("<i4").tobytes()
    return bytes(phi_bytes(inputs))


def inputs_of(plan: StagePlan, request: StageRequest) -> Tensor:
    """Return the inputs of a request to a stage: ids T or rows TW.

    Raises ``BadEncoding`` for numbers that do not fit, ``OutOfTurn`` for positions outside the context.
    """
    model, rows = plan.model, request.rows
    if len(request.session) != SESSION_BYTES or len(request.root) != len(Digest(bytes(32))):
        raise BadEncoding("a session or a root of another length")
    if not 1 <= rows <= rows_max(model) or not 0 <= request.position <= model.seq_len - rows:
        raise OutOfTurn(f"{rows} rows at {request.position} in a context of {model.seq_len}")
    if not plan.is_first:
        found = _floats(request.payload, (rows, plan.input_width))
        if not are_ids(model, found):
            raise BadEncoding(f"an id outside the vocabulary of {model.vocab_size}")
        return found
    if len(request.payload) != rows * _ID_BYTES:
        raise BadEncoding(f"{len(request.payload)} bytes for {rows} ids")
    ids = torch.from_numpy(np.frombuffer(request.payload, dtype="<i4").astype(np.int64))
    if int(ids.min()) < 0 or int(ids.max()) >= model.vocab_size:
        raise BadEncoding(f"an id outside the vocabulary of {model.vocab_size}")
    return ids


def outputs_of(plan: StagePlan, rows: int, raw: bytes) -> Tensor | RefusalReason:
    """Return the answer of a stage: activations TS, logits V, or the reason of a refusal.

    An unknown reason counts as ``RefusalReason.UNKNOWN``. Raises ``BadEncoding`` for anything else.
    """
    answer = decode(cast("type[StageAnswer]", StageAnswer), raw, limit=REPLY_BYTES_MAX)
    if isinstance(answer, StageRefusal):
        known = {int(reason) for reason in RefusalReason}
        return RefusalReason(answer.reason) if answer.reason in known else RefusalReason.UNKNOWN
    model = plan.model
    shape = (model.vocab_size,) if plan.is_last else (rows, plan.signal_width)
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
"""Sessions of one peer; a fifth one replaces the least recently used."""
CACHE_BYTES_MAX = 256 << 20
"""Bytes of the keys and values of all sessions, beside the memory that training needs."""
IDLE_S = 60.0
"""Seconds: less than some pauses of a person, but the text can be sent again."""
LIFE_S = 900.0
"""Seconds for which a session may keep an old checkpoint in memory."""
ROWS_PER_S = 256.0
"""Positions a peer may request per second on average: several texts at reading speed, with prompts."""
ROWS_BURST = 16_384.0
"""Positions that a peer may request at once: the longest context."""
BEGIN_ROWS = 128.0
"""Positions charged for a new session: its weights may have to be read from the disk."""
PEERS_REMEMBERED_MAX = 1_024
"""Peers whose rate is known; several times the number of connections."""


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
        """By peer: rows that it may still request, and the time of that count."""

    def __len__(self) -> int:
        return len(self._held)

    def find(
        self, peer: PeerId, request: StageRequest, now: float
    ) -> Session | RefusalReason | None:
        """Return the session for ``request``, marked busy; None if a new one has to begin; else the refusal.

        The positions are counted against the peer's rate, whatever is returned.
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
        """Begin a session, marked busy, or return a refusal; a fifth replaces the least recently used."""
        key = _key(peer, request)
        self._drop(key)
        mine = [other for other in self._held if other[0] == peer]
        if len(mine) >= PER_PEER_MAX:
            self._drop(min(mine, key=lambda other: self._held[other].used))
        if len(self._held) >= SESSIONS_MAX:
            return RefusalReason.BUSY
        session = Session(
            plan=plan,
            params_P=params_P,
            root=request.root,
            cache=KeyValueCache(plan),
            began=now,
            used=now,
        )
        found = self._occupied(session, request, now)
        if isinstance(found, Session):
            self._held[key] = found
        return found

    def release(self, session: Session, now: float) -> None:
        """Mark a session as free after a request was answered."""
        session.is_busy, session.used = False, now

    def expire(self, now: float) -> None:
        """Drop sessions that are idle or too old, unless busy."""
        for key, session in list(self._held.items()):
            is_over = now - session.used > IDLE_S or now - session.began > LIFE_S
            if is_over and not session.is_busy:
                self._drop(key)

    def _occupied(
        self, session: Session, request: StageRequest, now: float
    ) -> Session | RefusalReason:
        """Reserve cache memory for the positions of a request, or return ``RefusalReason.BUSY`` if there is
        none.
        """
        room = cache_bytes(session.plan, request.position + request.rows)
        others = sum(held.room for held in self._held.values() if held is not session)
        if others + room > CACHE_BYTES_MAX:
            return RefusalReason.BUSY
        session.cache.truncate(request.position)
        session.room, session.used = max(room, session.cache.num_bytes), now
        session.is_busy = True
        return session

    def _take_rows(self, peer: PeerId, rows: float, now: float) -> bool:
        """Charge ``rows`` to a token bucket that fills at ``ROWS_PER_S``; return False if it has too few."""
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
