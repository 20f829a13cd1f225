"""Answer requests of peers within limits and deadlines, and blame faults.

Shell: one loop per inbound stream; the rules of an answer are the handler's.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol

from swarm.errors import PeerFault, SwarmError, Unreachable
from swarm.host.client import Traffic
from swarm.host.closing import Untyped
from swarm.host.libp2p_patches import GuardedHost
from swarm.host.memory_quota import SMALL_BYTES, bulk_budget, small_budget
from swarm.host.paces import Work
from swarm.host.peer_ids import peer_of
from swarm.host.quota import HeldMessage, Quota
from swarm.host.streams import ANSWER, REFUSAL, FrameStream, refusal
from swarm.primitives.codec import LONGEST_FRAME_BYTES
from swarm.primitives.crypto import peer_name
from swarm.types import Bytes, PeerId

SEND_S = 30.0
"""Seconds for a peer to take our reply; one that stops reading is cut off from this stream."""

RECEIVE_S = 60.0
"""Seconds for a request to come in whole once its length was announced: the longest frame at 1.2 Mbit/s."""

GONE_POLL_S = 1.0
"""Seconds between checks that the caller of a running handler is still there."""

log = logging.getLogger("swarm.host")

Handler = Callable[[PeerId, bytes], Awaitable[Bytes]]


@dataclass
class _Service:
    protocol: str
    handler: Handler
    request_limit: int
    per_peer: int
    slots: trio.Semaphore
    peer_slots: dict[PeerId, tuple[trio.Semaphore, int]] = field(default_factory=dict)


class Server:
    """Server side of the host: answers requests, with one handler per protocol."""

    def __init__(
        self,
        host: GuardedHost,
        *,
        blame: Callable[[PeerId, PeerFault], None],
        traffic: Traffic,
    ) -> None:
        network: Untyped = host.get_network()
        self._host = host
        self._blame = blame
        self._traffic = traffic
        self.errors: Counter[str] = Counter()
        """Handler errors that are our own bugs, per protocol."""
        unread = network.unread
        self.small = Quota(small_budget())
        """Requests of at most ``SMALL_BYTES``, and messages of the DHT."""
        self.bulk = Quota(bulk_budget(lambda: self.small.budget.num_bytes + unread.num_bytes))
        """Longer requests, and replies."""
        unread.beside = lambda: self.small.budget.num_bytes + self.bulk.budget.num_bytes

    def serve(
        self,
        protocol: str,
        handler: Handler,
        *,
        request_limit: int,
        concurrency: int,
        per_peer: int,
    ) -> None:
        """Answer ``protocol`` with ``handler``; see ``Host.serve``."""
        assert 0 < request_limit <= LONGEST_FRAME_BYTES, "requests fit in a frame"
        service = _Service(protocol, handler, request_limit, per_peer, trio.Semaphore(concurrency))
        self._host.set_stream_handler(TProtocol(protocol), partial(self._converse, service))

    async def _converse(self, service: _Service, net_stream: INetStream) -> None:
        peer = peer_of(net_stream.muxed_conn.peer_id)
        stream = FrameStream(net_stream, count=partial(self._traffic.add, peer))
        is_broken = False
        try:
            while await self._exchange(service, peer, net_stream, stream):
                pass
        except PeerFault as fault:
            self._blame(peer, fault)
            is_broken = True
        except Unreachable as error:
            log.debug("%s on %s: %s", peer_name(peer), service.protocol, error)
            is_broken = True
        # Only here: the farewell waits for who does not read, and the error would hold the answer till then.
        await (stream.reset() if is_broken else stream.close())

    async def _exchange(
        self, service: _Service, peer: PeerId, net_stream: INetStream, stream: FrameStream
    ) -> bool:
        """Take one request and answer it; return False at the end of the stream."""
        size = await stream.announced(service.request_limit)
        if size is None:
            return False
        began_s = await self._turn(net_stream)
        held = HeldMessage(peer)
        try:
            request = await self._take_in(size, stream, held)
            reply = await self._reply(service, peer, request, stream, held)
            del request  # it is counted no more
            if reply is None:
                return False
            await self._send(reply, stream, held)
        finally:
            held.release()
        self._end_turn(net_stream, began_s)
        return True

    async def _turn(self, net_stream: Untyped) -> float:
        """Wait for the turn of a request; return the seconds that its stream has cost until then.

        Raises ``Unreachable`` if too many of a stranger's wait.
        """
        pacing = self._host.limits.pacing
        await pacing.turn(pacing.payer(net_stream.muxed_conn), Work.QUESTION)
        return float(net_stream.swarm_meter.used_s)

    def _end_turn(self, net_stream: Untyped, began_s: float) -> None:
        pacing = self._host.limits.pacing
        cost_s = net_stream.swarm_meter.used_s - began_s
        pacing.learn(pacing.payer(net_stream.muxed_conn), Work.QUESTION, cost_s)

    async def _take_in(self, size: int, stream: FrameStream, held: HeldMessage) -> bytes:
        """Return a request, read within the limits of ``host/memory_quota.py``.

        Raises ``Unreachable`` past them.
        """
        held.hold(self.small if size <= SMALL_BYTES else self.bulk, size, is_moving=True)
        request: bytes | None = None
        with held.moving(RECEIVE_S):
            await stream.widen(size)
            request = await stream.receive(size)
        if request is None:
            raise Unreachable("a question that came too slowly, or made room for others")
        held.arrived()
        return request

    async def _send(self, reply: tuple[int, Bytes], stream: FrameStream, held: HeldMessage) -> None:
        """Send a reply, as long as its reader takes it and there is room to hold it.

        Raises ``Unreachable`` otherwise.
        """
        status, body = reply
        is_sent = False
        with held.moving(SEND_S):
            await stream.send(body, status=status)
            is_sent = True
        if not is_sent:
            raise Unreachable("the peer stopped reading")

    async def _reply(
        self,
        service: _Service,
        peer: PeerId,
        request: bytes,
        stream: FrameStream,
        held: HeldMessage,
    ) -> tuple[int, Bytes] | None:
        """Run the handler within the limits; return None if the caller left meanwhile, or for want of room."""
        reply: tuple[int, Bytes] | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_gone, stream, nursery.cancel_scope)
            slots, users = service.peer_slots.get(peer) or (trio.Semaphore(service.per_peer), 0)
            service.peer_slots[peer] = (slots, users + 1)
            try:
                async with slots, service.slots:
                    reply = await self._answer(service, peer, request)
                    try:
                        # Before anything else has a turn: answers that nobody counts add up.
                        held.hold(self.bulk, len(reply[1]), is_moving=False)
                    except Unreachable as error:
                        log.debug("%s on %s: %s", peer_name(peer), service.protocol, error)
                        reply = None
            finally:
                slots, users = service.peer_slots.pop(peer)
                if users > 1:
                    service.peer_slots[peer] = (slots, users - 1)
            nursery.cancel_scope.cancel()
        return reply

    async def _answer(self, service: _Service, peer: PeerId, request: bytes) -> tuple[int, Bytes]:
        try:
            reply = await service.handler(peer, request)
        except PeerFault as fault:
            self._blame(peer, fault)
            return REFUSAL, refusal(str(fault))
        except SwarmError as error:
            return REFUSAL, refusal(str(error))
        except Exception:  # the guard: a bug in one package must not silence the others
            self.errors[service.protocol] += 1
            log.exception("the handler of %s failed", service.protocol)
            return REFUSAL, refusal("internal error")
        assert len(reply) <= LONGEST_FRAME_BYTES, (
            f"a reply of {len(reply)} bytes does not fit a frame"
        )
        return ANSWER, reply


async def _cancel_when_gone(stream: FrameStream, scope: trio.CancelScope) -> None:
    while not stream.is_gone:  # noqa: ASYNC110  Yamux has no event for "closed" that others may wait on
        await trio.sleep(GONE_POLL_S)
    scope.cancel()
