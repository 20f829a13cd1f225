"""Fetch one fragment from one partner: request the offer, then its chunks, the first of them before the offer.

Shell: one task for each open request; the state machines decide what to send.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import trio

from swarm.errors import PeerFault, Unreachable
from swarm.gossip.trade.messages import (
    ChunkRequest,
    ExchangeReply,
    ExchangeRequest,
    FirstChunks,
    NotYet,
)
from swarm.gossip.trade.pull import (
    CHUNK_WAIT_S,
    Accepted,
    Call,
    ChunkScheduler,
    Deliver,
    Effect,
    GiveUp,
    Pull,
    Wanted,
)
from swarm.types import Digest

CallPartner = Callable[[ExchangeRequest, float], Awaitable[ExchangeReply]]
"""Function that sends a message and waits so many seconds; raises ``Unreachable`` or ``PeerFault``."""


async def fetch(
    call: CallPartner,
    wanted: Wanted,
    *,
    chain: Digest,
    deadline: float,
    offer_by: float,
    first_counts: Sequence[int],
) -> Deliver | None:
    """Return the fragment, whole and matching its hashes; None if it does not arrive in time.

    Args:
        call: sends one message to the partner and returns its answer.
        wanted: fragment to fetch.
        chain: digest of the network's genesis, covered by the offer's signature.
        deadline: time on trio's clock by which the fragment must be whole.
        offer_by: time by which an offer must have come; not after ``deadline``.
        first_counts: numbers of first chunks to request together with the offer, one request each.

    Raises:
        PeerFault: the partner sent what no honest peer sends.
    """
    pull = Pull(wanted, chain=chain, deadline=offer_by)
    return await _Fetch(call, wanted, pull, deadline, first_counts).run()


class _Fetch:
    def __init__(
        self,
        call: CallPartner,
        wanted: Wanted,
        pull: Pull,
        deadline: float,
        first_counts: Sequence[int],
    ) -> None:
        self._call = call
        self._pull = pull
        self._deadline = deadline
        self._wanted = wanted
        self._first_counts = first_counts
        self._scheduler: ChunkScheduler | None = None
        self._accepted = trio.Event()
        self._ended: Deliver | GiveUp | PeerFault | None = None

    async def run(self) -> Deliver | None:
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._guarded, self._fetch_offer)
            for number in range(len(self._first_counts)):
                self._nursery.start_soon(self._guarded, partial(self._fetch_first, number))
        if isinstance(self._ended, PeerFault):
            raise self._ended
        return self._ended if isinstance(self._ended, Deliver) else None

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run one task; its ``PeerFault`` ends the others without escaping the nursery."""
        try:
            await work()
        except PeerFault as fault:
            self._end(fault)

    def _end(self, how: Deliver | GiveUp | PeerFault) -> None:
        self._ended = self._ended or how
        self._nursery.cancel_scope.cancel()

    async def _fetch_offer(self) -> None:
        effect: Call | Accepted | GiveUp = self._pull.start(trio.current_time())
        while isinstance(effect, Call):
            await trio.sleep_until(effect.start_at)
            try:
                reply = await self._call(effect.message, effect.timeout_s)
            except Unreachable:
                effect = self._pull.lost(trio.current_time())
            else:
                effect = self._pull.receive(reply, trio.current_time())
        if isinstance(effect, GiveUp):
            self._end(effect)
            return
        self._scheduler = ChunkScheduler(
            effect.offer,
            effect.manifest,
            deadline=self._deadline,
            first_counts=self._first_counts,
        )
        self._carry_out(self._scheduler.start(trio.current_time()))
        self._accepted.set()

    async def _fetch_first(self, number: int) -> None:
        """Request some of the first chunks at once; process the answer when there is an offer."""
        # The offer request takes the open stream: opening one costs round trips, and all waits for the offer.
        await trio.lowlevel.checkpoint()
        left_s = self._deadline - trio.current_time()
        if left_s <= 0:
            return
        wanted, before = self._wanted, sum(self._first_counts[:number])
        terms = (wanted.key, wanted.to_seat, wanted.anchor_root, before, self._first_counts[number])
        reply: ExchangeReply = NotYet()
        with suppress(Unreachable):  # These chunks are requested again like any others.
            reply = await self._call(FirstChunks(*terms), min(left_s, CHUNK_WAIT_S))
        await self._accepted.wait()
        assert self._scheduler is not None, "accepted"
        self._carry_out(self._scheduler.receive_first(number, reply, trio.current_time()))

    async def _fetch_chunks(self, call: Call) -> None:
        assert self._scheduler is not None, "calls come from it"
        assert isinstance(call.message, ChunkRequest), "only chunks are gathered"
        await trio.sleep_until(call.start_at)
        try:
            reply = await self._call(call.message, call.timeout_s)
        except Unreachable:
            self._carry_out(self._scheduler.lost(call.message, trio.current_time()))
        else:
            self._carry_out(self._scheduler.receive(call.message, reply, trio.current_time()))

    def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, Call):
                self._nursery.start_soon(self._guarded, partial(self._fetch_chunks, effect))
            else:
                self._end(effect)
