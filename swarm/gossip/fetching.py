"""Fetch one fragment from one partner: ask, and bring in the chunks, the first of them without an offer.

Shell: one task for each question on its way; the machines say which.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from swarm.errors import PeerFault, Unreachable
from swarm.gossip.exchange import Accepted, Call, Deliver, GiveUp, Pull, Wanted
from swarm.gossip.gather import CHUNK_WAIT_S, Effect, Gather
from swarm.gossip.messages import (
    ChunkRequest,
    ExchangeReply,
    ExchangeRequest,
    FirstChunks,
    NotYet,
)
from swarm.types import Digest

Ask = Callable[[ExchangeRequest, float], Awaitable[ExchangeReply]]
"""Ask the partner and wait so many seconds; raises ``Unreachable`` or ``PeerFault``."""


async def fetch(
    ask: Ask, wanted: Wanted, *, chain: Digest, deadline: float, ask_by: float, first_count: int
) -> Deliver | None:
    """The fragment by ``deadline`` (trio's clock), whole and matching its hashes, or None.

    None also when no offer has come by ``ask_by``, which is not after the deadline. ``first_count`` chunks are
    asked for together with the offer. Raises ``PeerFault`` for a lie.
    """
    pull = Pull(wanted, chain=chain, deadline=ask_by)
    first = FirstChunks(wanted.key, wanted.to_seat, wanted.anchor_root, first_count)
    return await _Fetch(ask, pull, first, deadline).run()


class _Fetch:
    def __init__(self, ask: Ask, pull: Pull, first: FirstChunks, deadline: float) -> None:
        self._ask = ask
        self._pull = pull
        self._deadline = deadline
        self._first = first
        self._gather: Gather | None = None
        self._accepted = trio.Event()
        self._ended: Deliver | GiveUp | PeerFault | None = None

    async def run(self) -> Deliver | None:
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._guarded, self._fetch_offer)
            self._nursery.start_soon(self._guarded, self._fetch_first)
        if isinstance(self._ended, PeerFault):
            raise self._ended
        return self._ended if isinstance(self._ended, Deliver) else None

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """One task; its ``PeerFault`` ends the others and leaves the nursery as it is."""
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
                reply = await self._ask(effect.message, effect.timeout_s)
            except Unreachable:
                effect = self._pull.lost(trio.current_time())
            else:
                effect = self._pull.receive(reply, trio.current_time())
        if isinstance(effect, GiveUp):
            self._end(effect)
            return
        self._gather = Gather(
            effect.offer, effect.promised, deadline=self._deadline, first_count=self._first.count
        )
        self._carry_out(self._gather.start(trio.current_time()))
        self._accepted.set()

    async def _fetch_first(self) -> None:
        """Ask for the first chunks at once; the answer is looked at when it is known what it must be."""
        left_s = self._deadline - trio.current_time()
        if not self._first.count or left_s <= 0:
            return
        reply: ExchangeReply = NotYet()
        with suppress(Unreachable):  # They are asked for again like any others.
            reply = await self._ask(self._first, min(left_s, CHUNK_WAIT_S))
        await self._accepted.wait()
        assert self._gather is not None, "accepted"
        self._carry_out(self._gather.receive_first(reply, trio.current_time()))

    async def _fetch_chunks(self, call: Call) -> None:
        assert self._gather is not None, "calls come from it"
        assert isinstance(call.message, ChunkRequest), "only chunks are gathered"
        await trio.sleep_until(call.start_at)
        try:
            reply = await self._ask(call.message, call.timeout_s)
        except Unreachable:
            self._carry_out(self._gather.lost(call.message, trio.current_time()))
        else:
            self._carry_out(self._gather.receive(call.message, reply, trio.current_time()))

    def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, Call):
                self._nursery.start_soon(self._guarded, self._carried(effect))
            else:
                self._end(effect)

    def _carried(self, call: Call) -> Callable[[], Awaitable[None]]:
        return lambda: self._fetch_chunks(call)
