"""Bring in the chunks of one accepted offer, several requests at a time.

Core: time comes in as ``now``, wishes go out as effects.

    each range:   WANTED --call--> ASKED --chunks--> HELD
                    ^                |
                    +----- lost -----+        all held: DONE;  deadline, or too many losses: FAILED

One request that waits for another leaves a long line idle for a round trip each time, and too many fill a
slow one so that nothing else gets through. So the budget of chunks on their way grows while answers are
quick, is halved when one is slow, and falls to one chunk, after a pause, when one is lost.
"""

from collections import deque
from collections.abc import Sequence
from itertools import accumulate, count, pairwise

import numpy as np

from swarm.errors import OutOfTurn
from swarm.gossip.chunks import Manifest, verify_chunk
from swarm.gossip.exchange import (
    PAUSE_S,
    PAUSE_S_MAX,
    RETRIES_MAX,
    Call,
    Deliver,
    GiveUp,
)
from swarm.gossip.messages import (
    CHUNKS_PER_REPLY_MAX,
    ChunkRequest,
    Chunks,
    ExchangeReply,
    NotYet,
    Offer,
)

BUDGET_FIRST = 32
"""Chunks on their way at first, 2 MiB: a line of 20 Mbit/s has work until the questions that follow the first
answers have passed through what our own answers have filled."""
BUDGET_MAX = 48
"""3 MiB: fills a line of 100 ms up to 160 Mbit/s, and bounds what a partner makes us hold unverified."""
FIRST_COUNTS = (8, 8)
"""Chunks asked for together with the offer, half of the budget: they leave a round trip earlier than any that
an offer is needed for, and until they are here the other half is asked for."""
REQUESTS_MAX = 3
"""A budget is spread over this many requests: two travel while another is answered, and none is small."""
SLOW_S = 2.0
"""An answer that takes longer stood in a queue, and so does everything else on that line."""
CHUNK_WAIT_S = 20.0
"""Longest wait for one answer: 1 MiB each way at 1 Mbit/s, the slowest line that trades at all."""

Effect = Call | Deliver | GiveUp


class Gather:
    """The chunks of one offer on their way in. Feed it answers and the time; carry out what it returns."""

    def __init__(
        self,
        offer: Offer,
        promised: Manifest,
        *,
        deadline: float,
        first_counts: Sequence[int] = (),
    ) -> None:
        """``promised`` has been checked against the offer; at ``deadline`` there is no trade.

        So many of the first chunks, or what there is of them, have been asked for already.
        """
        self.deadline: float | None = deadline
        self._end = deadline
        self._offer = offer
        self._manifest = promised
        ends = [min(end, promised.num_chunks) for end in accumulate(first_counts, initial=0)]
        self._first = [(first, end - first) for first, end in pairwise(ends)]
        left = promised.num_chunks - ends[-1]
        self._wanted = deque([(ends[-1], left)] if left else [])
        self._asked: dict[int, float] = {}
        # Pages of it are taken when they are first written to, so that it grows with what has arrived.
        self._wire = np.empty(promised.num_bytes, np.uint8).data
        self._on_their_way = 0
        self._budget = BUDGET_FIRST
        self._losses = 0

    def start(self, now: float) -> tuple[Effect, ...]:
        """Return the first requests."""
        for first, size in self._first:
            if size:
                self._asked[first] = now
                self._on_their_way += size
        return self._more(now)

    def receive_first(self, number: int, reply: ExchangeReply, now: float) -> tuple[Effect, ...]:
        """Take the answer to what was asked for before the offer; ``NotYet`` if there is none."""
        first, size = self._first[number]
        if not size:  # There is less than was asked for, and whatever was said of it is nothing.
            return ()
        asked = ChunkRequest(self._offer.payload_hash, first, size)
        if not isinstance(reply, NotYet):
            return self.receive(asked, reply, now)
        if now >= self._end:
            return self.expire(now)
        self._settle(asked)
        self._wanted.appendleft((first, size))
        return self._more(now)

    def receive(self, asked: ChunkRequest, reply: ExchangeReply, now: float) -> tuple[Effect, ...]:
        """Take the answer to one request; raise ``PeerFault``, changing nothing, if no honest peer sends it."""
        assert asked.first in self._asked, "an answer to nothing that was asked"
        if now >= self._end:
            return self.expire(now)
        if not isinstance(reply, Chunks):
            raise OutOfTurn(f"{type(reply).__name__} where chunks were asked for")
        if len(reply.parts) != asked.count:
            raise OutOfTurn(f"{len(reply.parts)} chunks where {asked.count} were asked for")
        for index, part in enumerate(reply.parts, start=asked.first):
            verify_chunk(self._manifest, index, part)
        took_s = now - self._settle(asked)
        self._keep(asked.first, reply.parts)
        if took_s > SLOW_S:
            self._budget = max(1, self._budget // 2)
        else:
            self._budget = min(BUDGET_MAX, self._budget + CHUNKS_PER_REPLY_MAX // 2)
        if self._wanted or self._asked:
            return self._more(now)
        self.deadline = None
        return (Deliver(self._offer, self._wire.toreadonly()),)

    def lost(self, asked: ChunkRequest, now: float) -> tuple[Effect, ...]:
        """A request broke or timed out: ask again when all others are back, after a pause, within limits."""
        if now >= self._end:
            return self.expire(now)
        self._settle(asked)
        self._wanted.appendleft((asked.first, asked.count))
        self._budget = 1
        if self._asked:
            return ()
        self._losses += 1
        if self._losses > RETRIES_MAX:
            return self._fail("the partner cannot be reached")
        return self._more(now + min(PAUSE_S * 2 ** (self._losses - 1), PAUSE_S_MAX))

    def expire(self, now: float) -> tuple[Effect, ...]:
        """End what was not done in time."""
        assert now >= self._end, "expired before the deadline"
        return self._fail("the deadline passed")

    def _keep(self, first: int, parts: tuple[memoryview, ...]) -> None:
        size = self._manifest.chunk_bytes
        for start, part in zip(count(first * size, size), parts, strict=False):
            self._wire[start : start + len(part)] = part

    def _settle(self, asked: ChunkRequest) -> float:
        """A request is no longer on its way; returns when it was made."""
        self._on_their_way -= asked.count
        return self._asked.pop(asked.first)

    def _more(self, start_at: float) -> tuple[Effect, ...]:
        """As many requests as the budget has room for, from ``start_at`` on."""
        left_s = self._end - start_at
        if left_s <= 0:
            return self._fail("the deadline passed")
        calls = list[Effect]()
        while self._wanted:
            first, left = self._wanted[0]
            size = min(left, max(1, self._budget // REQUESTS_MAX))
            if self._asked:
                room = self._budget - self._on_their_way
                if 2 * room < size:  # A question for little costs as much as one for all.
                    break
                size = min(size, room)
            self._wanted.popleft()
            if size < left:
                self._wanted.appendleft((first + size, left - size))
            self._asked[first] = start_at
            self._on_their_way += size
            request = ChunkRequest(self._offer.payload_hash, first, size)
            calls.append(Call(request, start_at, min(left_s, CHUNK_WAIT_S)))
        return tuple(calls)

    def _fail(self, reason: str) -> tuple[Effect, ...]:
        self.deadline = None
        return (GiveUp(reason),)
