"""Decide the pull of one fragment: request the partner's offer, then its chunks, several at a time.

Core: time comes in as ``now``, actions go out as effects.

    Pull:   ASKING --offer--> ACCEPTED
              |  ^NotYet
              +--- Busy, the deadline, or too many retries --> FAILED

    ChunkScheduler, each range:   WANTED --call--> ASKED --chunks--> HELD
                                    ^                |
                                    +----- lost -----+
                    all held: DONE;  deadline, or too many losses: FAILED

In a trade each side pulls the other's fragment. ``Pull`` is the requesting side, ``ChunkScheduler`` downloads
the chunks of the accepted offer, and the sending side is ``gossip/trade/outbox.py``. ``open_payload`` decodes
what arrived; it is pure and slow and may run in a worker thread.

One request at a time leaves a link with a long delay idle for a round trip each time, and too many fill a slow
link so that nothing else gets through. So the budget of chunks in flight grows while answers are quick, is
halved after a slow one, and falls to one chunk, after a pause, when one is lost.

Source: docs/spec/protocol.md section 4.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import accumulate, count, pairwise

import numpy as np

from swarm.errors import BrokenPromise, OutOfTurn, UsageError
from swarm.gossip.blobs.chunks import Manifest, check_manifest, verify_chunk
from swarm.gossip.codecs.int8 import (
    VALUES_MAX,
)
from swarm.gossip.trade.messages import (
    CHUNKS_PER_REPLY_MAX,
    EXCHANGE_CHUNK_BYTES,
    Busy,
    ChunkRequest,
    Chunks,
    Codec,
    ExchangeReply,
    FragmentKey,
    NotYet,
    Offer,
    Offered,
    OfferRequest,
    verify_offer,
)
from swarm.gossip.trade.payload import (
    check_codec,
    payload_bytes,
)
from swarm.types import Bytes, Digest, PeerId

REQUEST_WAIT_S = 5.0
"""Seconds that one request is parked at the sender: a lost frame costs no more before the next request."""
REQUEST_GRACE_S = 2.0
"""Seconds that the receiver waits beyond that before it takes silence for loss."""
OFFER_REQUESTS_MAX = 64
"""Requests answered ``NotYet`` before the sender counts as cheating: over 5 minutes of honest parking."""
RETRIES_MAX = 8
"""Lost calls in one pull before it is given up: at a 10% loss rate one pull in 10^8."""
PAUSE_S = 0.25
"""Seconds to pause after a first lost call; doubles with each one up to ``PAUSE_S_MAX``."""
PAUSE_S_MAX = 2.0


class Phase(Enum):
    """State of a pull."""

    ASKING = auto()
    ACCEPTED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """Effect: not before ``start_at``, send this message and wait ``timeout_s`` for the answer."""

    message: OfferRequest | ChunkRequest
    start_at: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """Effect: the offer is what was wanted; fetch its chunks."""

    offer: Offer
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Deliver:
    """Effect: all chunks arrived and match their hashes; decode the payload."""

    offer: Offer
    wire: Bytes


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Effect: no trade in this round."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Description of the partner's fragment that one side wants."""

    key: FragmentKey
    """Key of the fragment; ``key.seat`` is the partner's seat."""
    partner: PeerId
    to_seat: int
    """Index of our own seat."""
    anchor_root: Digest
    numel: int
    codec: Codec = Codec.INT8
    """Codec that the run prescribes for this round if both sides have one anchor."""


class Pull:
    """State machine of the requesting side of a trade: takes answers and the time, returns effects."""

    def __init__(self, wanted: Wanted, *, chain: Digest, deadline: float) -> None:
        if not 0 < wanted.numel <= VALUES_MAX:
            raise UsageError(f"a fragment of {wanted.numel} values")
        self.phase = Phase.ASKING
        self.deadline: float | None = deadline
        self._end = deadline
        self._wanted = wanted
        self._chain = chain
        self._num_requests = 0
        self._retries = 0

    def start(self, now: float) -> Call | GiveUp:
        """Return the first effect."""
        return self._next(now)

    def receive(self, message: ExchangeReply, now: float) -> Call | Accepted | GiveUp:
        """Process one answer; raises ``PeerFault``, changing nothing, if no honest peer sends it."""
        if now >= self._end:
            return self.expire(now)
        match self.phase, message:
            case Phase.ASKING, NotYet():
                if self._num_requests >= OFFER_REQUESTS_MAX:
                    raise OutOfTurn(f"not yet, {OFFER_REQUESTS_MAX} times in one trade")
                return self._next(now)
            case Phase.ASKING, Busy():
                return self._fail("the partner gives to others in our place")
            case Phase.ASKING, Offered(offer, hashes):
                return self._accept(offer, hashes)
            case _:
                raise OutOfTurn(f"{type(message).__name__} while {self.phase.name}")

    def lost(self, now: float) -> Call | GiveUp:
        """Repeat the last call, which broke or timed out, after a pause; give up at the limits."""
        if now >= self._end:
            return self.expire(now)
        self._retries += 1
        if self._retries > RETRIES_MAX:
            return self._fail("the partner cannot be reached")
        pause_s = min(PAUSE_S * 2 ** (self._retries - 1), PAUSE_S_MAX)
        return self._next(now + pause_s)

    def expire(self, now: float) -> GiveUp:
        """End a pull whose deadline has passed."""
        assert now >= self._end, "expired before the deadline"
        return self._fail("the deadline passed")

    def _accept(self, offer: Offer, hashes: bytes) -> Accepted:
        wanted = self._wanted
        if offer.key != wanted.key:
            raise OutOfTurn("an offer of another fragment than was asked for")
        verify_offer(wanted.partner, self._chain, offer)
        check_codec(offer, wanted.codec, wanted.anchor_root)
        if offer.num_bytes != payload_bytes(offer.codec, wanted.numel):
            raise BrokenPromise("an offer of the wrong size for this fragment")
        if not 0 < offer.wire_bytes <= offer.num_bytes:
            raise BrokenPromise("an offer that grows on the wire")
        manifest = Manifest(offer.wire_bytes, EXCHANGE_CHUNK_BYTES, hashes)
        check_manifest(manifest, offer.chunk_root)
        self.phase, self.deadline = Phase.ACCEPTED, None
        return Accepted(offer, manifest)

    def _next(self, start_at: float) -> Call | GiveUp:
        left_s = self._end - start_at
        if left_s <= 0:
            return self._fail("the deadline passed")
        self._num_requests += 1
        wait_s = min(left_s, REQUEST_WAIT_S)
        wanted = self._wanted
        request = OfferRequest(wanted.key, wanted.to_seat, wanted.anchor_root, int(wait_s * 1000))
        return Call(request, start_at, min(left_s, wait_s + REQUEST_GRACE_S))

    def _fail(self, reason: str) -> GiveUp:
        self.phase, self.deadline = Phase.FAILED, None
        return GiveUp(reason)


BUDGET_FIRST = 32
"""Chunks in flight at first, 2 MiB: a link of 20 Mbit/s stays busy until the requests that follow the first
answers have passed the queue that our own answers fill."""
BUDGET_MAX = 48
"""Chunks in flight at most, 3 MiB: fills a link of 100 ms up to 160 Mbit/s, and bounds the unverified bytes
that a partner makes us hold."""
FIRST_COUNTS = (8, 8)
"""Chunks requested together with the offer, half of the budget: they leave a round trip earlier than any that
need an offer, and while they travel the other half is requested."""
REQUESTS_MAX = 3
"""Requests over which the budget is spread: two travel while another is answered, and none is small."""
SLOW_S = 2.0
"""Seconds above which an answer stood in a queue, as everything else on that link does."""
CHUNK_WAIT_S = 20.0
"""Seconds to wait for one answer at most: 1 MiB each way at 1 Mbit/s, the slowest link that trades at all."""

Effect = Call | Deliver | GiveUp


class ChunkScheduler:
    """State machine that downloads the chunks of one offer: takes answers and the time, returns effects."""

    def __init__(
        self,
        offer: Offer,
        manifest: Manifest,
        *,
        deadline: float,
        first_counts: Sequence[int] = (),
    ) -> None:
        """Prepare the download of an accepted offer.

        Args:
            offer: accepted offer.
            manifest: manifest, already checked against the offer.
            deadline: time at which the download fails.
            first_counts: numbers of first chunks already requested before the offer, one request each; the
                payload may have fewer.
        """
        self.deadline: float | None = deadline
        self._end = deadline
        self._offer = offer
        self._manifest = manifest
        ends = [min(end, manifest.num_chunks) for end in accumulate(first_counts, initial=0)]
        self._first = [(first, end - first) for first, end in pairwise(ends)]
        left = manifest.num_chunks - ends[-1]
        self._wanted = deque([(ends[-1], left)] if left else [])
        self._in_flight: dict[int, float] = {}
        # The system commits its pages at the first write, so memory grows with what has arrived.
        self._wire = np.empty(manifest.num_bytes, np.uint8).data
        self._num_in_flight = 0
        self._budget = BUDGET_FIRST
        self._losses = 0

    def start(self, now: float) -> tuple[Effect, ...]:
        """Return the first requests."""
        for first, size in self._first:
            if size:
                self._in_flight[first] = now
                self._num_in_flight += size
        return self._more(now)

    def receive_first(self, number: int, reply: ExchangeReply, now: float) -> tuple[Effect, ...]:
        """Process the answer to a request made before the offer; ``NotYet`` if there is none."""
        first, size = self._first[number]
        if not size:  # The payload ends before these chunks, so any answer about them is ignored.
            return ()
        request = ChunkRequest(self._offer.payload_hash, first, size)
        if not isinstance(reply, NotYet):
            return self.receive(request, reply, now)
        if now >= self._end:
            return self.expire(now)
        self._settle(request)
        self._wanted.appendleft((first, size))
        return self._more(now)

    def receive(
        self, request: ChunkRequest, reply: ExchangeReply, now: float
    ) -> tuple[Effect, ...]:
        """Process one answer; raises ``PeerFault``, changing nothing, if no honest peer sends it."""
        assert request.first in self._in_flight, "an answer to nothing that was asked"
        if now >= self._end:
            return self.expire(now)
        if not isinstance(reply, Chunks):
            raise OutOfTurn(f"{type(reply).__name__} where chunks were asked for")
        if len(reply.parts) != request.count:
            raise OutOfTurn(f"{len(reply.parts)} chunks where {request.count} were asked for")
        for index, part in enumerate(reply.parts, start=request.first):
            verify_chunk(self._manifest, index, part)
        took_s = now - self._settle(request)
        self._keep(request.first, reply.parts)
        if took_s > SLOW_S:
            self._budget = max(1, self._budget // 2)
        else:
            self._budget = min(BUDGET_MAX, self._budget + CHUNKS_PER_REPLY_MAX // 2)
        if self._wanted or self._in_flight:
            return self._more(now)
        self.deadline = None
        return (Deliver(self._offer, self._wire.toreadonly()),)

    def lost(self, request: ChunkRequest, now: float) -> tuple[Effect, ...]:
        """Queue a request again that broke or timed out.

        It is repeated when all others are back, after a pause; the download fails after too many losses.
        """
        if now >= self._end:
            return self.expire(now)
        self._settle(request)
        self._wanted.appendleft((request.first, request.count))
        self._budget = 1
        if self._in_flight:
            return ()
        self._losses += 1
        if self._losses > RETRIES_MAX:
            return self._fail("the partner cannot be reached")
        return self._more(now + min(PAUSE_S * 2 ** (self._losses - 1), PAUSE_S_MAX))

    def expire(self, now: float) -> tuple[Effect, ...]:
        """End a download whose deadline has passed."""
        assert now >= self._end, "expired before the deadline"
        return self._fail("the deadline passed")

    def _keep(self, first: int, parts: tuple[memoryview, ...]) -> None:
        size = self._manifest.chunk_bytes
        for start, part in zip(count(first * size, size), parts, strict=False):
            self._wire[start : start + len(part)] = part

    def _settle(self, request: ChunkRequest) -> float:
        """Remove a request from those in flight and return the time at which it was made."""
        self._num_in_flight -= request.count
        return self._in_flight.pop(request.first)

    def _more(self, start_at: float) -> tuple[Effect, ...]:
        """Return as many requests as the budget has room for, to be sent from ``start_at`` on."""
        left_s = self._end - start_at
        if left_s <= 0:
            return self._fail("the deadline passed")
        calls = list[Effect]()
        while self._wanted:
            first, left = self._wanted[0]
            size = min(left, max(1, self._budget // REQUESTS_MAX))
            if self._in_flight:
                free = self._budget - self._num_in_flight
                if 2 * free < size:  # A small request costs as much as a large one.
                    break
                size = min(size, free)
            self._wanted.popleft()
            if size < left:
                self._wanted.appendleft((first + size, left - size))
            self._in_flight[first] = start_at
            self._num_in_flight += size
            request = ChunkRequest(self._offer.payload_hash, first, size)
            calls.append(Call(request, start_at, min(left_s, CHUNK_WAIT_S)))
        return tuple(calls)

    def _fail(self, reason: str) -> tuple[Effect, ...]:
        self.deadline = None
        return (GiveUp(reason),)
