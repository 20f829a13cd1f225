"""Partners that stop, drip, mix up or vanish at one chunk of an exchange, on the network of tests/fakes.py."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from swarm.gossip.trade.messages import (
    ChunkRequest,
    Chunks,
    FirstChunks,
    OfferRequest,
    Receipt,
    decode_exchange_reply,
    decode_exchange_request,
)
from swarm.gossip.trade.service import EXCHANGE_PROTOCOL
from swarm.primitives.codec import encode
from swarm.types import PeerId
from tests.fakes import FakeHost

BYTES_PER_S = 1.0
Manner = Callable[["Stalling", bytes], Awaitable[bytes]]
"""What becomes of an answer from number ``at`` on."""


@dataclass
class Stalling:
    """Bends what one host answers from its ``at``-th answer of one kind on."""

    host: FakeHost
    manner: Manner
    at: int
    kind: type[OfferRequest | ChunkRequest | Receipt | FirstChunks] = ChunkRequest
    num_requests: int = 0
    held: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        honest = self.host.answer

        async def answer(asker: PeerId, protocol: str, request: bytes) -> bytes:
            reply = await honest(asker, protocol, request)
            if protocol != EXCHANGE_PROTOCOL:
                return reply
            if not isinstance(decode_exchange_request(request), self.kind):
                return reply
            self.num_requests += 1
            return reply if self.num_requests <= self.at else await self.manner(self, reply)

        self.host.answer = answer  # type: ignore[method-assign]


async def stalls(_: Stalling, reply: bytes) -> bytes:
    """Nothing more of it comes, and the link stays."""
    del reply
    await trio.sleep_forever()
    raise AssertionError


async def stalls_once(stalling: Stalling, reply: bytes) -> bytes:
    """One answer is lost; asked again, it comes."""
    if stalling.num_requests == stalling.at + 1:
        await trio.sleep_forever()
    return reply


async def drips(_: Stalling, reply: bytes) -> bytes:
    """One byte a second: the last one comes long after the deadline."""
    await trio.sleep(len(reply) / BYTES_PER_S)
    return reply


async def vanishes(stalling: Stalling, reply: bytes) -> bytes:
    """The host is gone, and so is everything on its way."""
    stalling.host.is_alive = False
    return reply


async def mixes_up(stalling: Stalling, reply: bytes) -> bytes:
    """The answers of two requests, the other way round."""
    stalling.held.append(reply)
    if len(stalling.held) == 1:
        await trio.sleep(0.1)  # the next request has been answered by then, if there was one
    others = [held for held in stalling.held if held != reply]
    if others:
        return others[0]
    decoded = decode_exchange_reply(reply)
    return encode(Chunks(decoded.parts * 2)) if isinstance(decoded, Chunks) else reply


async def overtakes(stalling: Stalling, reply: bytes) -> bytes:
    """Every second answer comes after those of later requests: no peer's fault."""
    await trio.sleep(0.05 if stalling.num_requests % 2 else 0.0)
    return reply


MANNERS: tuple[Manner, ...] = (stalls, stalls_once, drips, vanishes, mixes_up, overtakes)
