"""Carry news between this node and the peers that it is connected to.

Shell: one question for each frame, a few at once to one peer; ``router.py`` decides what is in it.

Each topic has a check, a function of this node: a notice is passed on only after it.
"""

import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import trio

from swarm.errors import PeerFault, Unreachable
from swarm.gossip.news.messages import FRAME_BYTES_MAX, PROTOCOL, Frame, encode_frame, parse_frame
from swarm.gossip.news.router import TICK_S, Arrived, Router, Verdict
from swarm.host.ports import AsksAndAnswers
from swarm.primitives.randomness import stream
from swarm.types import Digest, PeerId

if TYPE_CHECKING:
    from trio_typing import TaskStatus

Check = Callable[[PeerId, bytes], Verdict]
"""Function that judges what a peer brought; a ``PeerFault`` that it raises is blamed on that peer."""

CALL_S = 5.0
REPLY_BYTES_MAX = 16
"""Bytes of a reply at most: it is an empty acknowledgement."""
IN_FLIGHT_MAX = 4
OVERTAKE_S = 0.5
"""Frames under way to one peer, and the time after which another one follows: what comes while one is under way
travels together in the next, and one that is lost does not hold it up."""
ANSWERED_MAX, ANSWERED_PER_PEER_MAX = 32, 4
REST_MAX_S = 30.0
"""Longest rest after frames that did not arrive; the first is one heartbeat, each is twice the one before."""

log = logging.getLogger("swarm.gossip")


class NewsHost(AsksAndAnswers, Protocol):
    """The part of the host that news needs."""

    def connected(self) -> list[PeerId]:
        """Return the connected peers."""
        ...

    def origin(self, peer: PeerId) -> str:
        """Return the public network of a peer, else its address."""
        ...

    def is_dialled(self, peer: PeerId) -> bool:
        """Return True if this node dialled it."""
        ...

    def owes(self, peer: PeerId) -> bool:
        """Return True if a peer has cost this node much, and is asked nothing meanwhile."""
        ...


class News:
    """News of one node; ``run`` carries it until cancelled."""

    def __init__(self, host: NewsHost, *, seed: bytes | None = None) -> None:
        """Begin without a topic; a ``seed`` makes the choice of links repeatable."""
        self._host = host
        self._router = Router(stream(seed or secrets.token_bytes(32), "gossip.news"))
        self._checks: dict[str, Check] = {}
        self._in_flight: dict[PeerId, list[float]] = {}
        """Times at which the frames under way were sent, by peer."""
        self._telling = set[PeerId]()
        """Peers to which a frame with our topics is under way."""
        self._rests: dict[PeerId, tuple[float, float]] = {}
        """Length and end of the rest of each peer that did not answer."""
        self._nursery: trio.Nursery | None = None
        self.num_bytes, self.num_frames = 0, 0
        """Bytes and frames sent."""
        host.serve(
            PROTOCOL,
            self._answer,
            request_limit=FRAME_BYTES_MAX,
            concurrency=ANSWERED_MAX,
            per_peer=ANSWERED_PER_PEER_MAX,
        )

    def join(self, topic: str, check: Check) -> None:
        """Take a topic: ``check`` judges each of its notices once, before it is passed on."""
        self._checks[topic] = check
        self._router.join(topic)
        self._flush()

    def leave(self, topic: str) -> None:
        """Give a topic up."""
        self._checks.pop(topic, None)
        self._router.leave(topic)
        self._flush()

    def publish(self, topic: str, data: bytes) -> Digest:
        """Send a statement of this node to all, on a topic that it takes; return its name.

        It is not judged by this node's own check.
        """
        self._look_round()
        name = self._router.publish(topic, data, trio.current_time())
        self._flush()
        return name

    def mesh(self, topic: str) -> list[PeerId]:
        """Return the peers that everything of a topic is pushed to."""
        return self._router.mesh(topic)

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Send what waits, and keep the meshes, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                while True:
                    self._look_round()
                    self._router.tick(trio.current_time())
                    self._flush()
                    for peer in [*self._rests, *self._in_flight]:
                        self._start(peer)
                    await trio.sleep(TICK_S)
            finally:
                self._nursery = None  # what is published after this only waits

    async def _answer(self, peer: PeerId, request: bytes) -> bytes:
        """Take a frame, judge what is new in it, and pass on what is good."""
        frame = parse_frame(request)
        self._meet(peer)
        waiting = self._router.receive(peer, frame, trio.current_time())
        try:
            while waiting:
                self._judge(peer, waiting.pop(0))
                self._flush()
                if waiting:
                    await trio.lowlevel.checkpoint()
        finally:
            for arrived in waiting:
                self._router.judged(arrived.name, Verdict.SKIP, trio.current_time())
            self._flush()
        return b""

    def _judge(self, peer: PeerId, arrived: Arrived) -> None:
        """Judge one notice; raise the fault of the peer that brought it, if it is one."""
        check, verdict = self._checks.get(arrived.notice.topic), Verdict.SKIP
        try:
            if check is not None:
                verdict = check(peer, arrived.notice.data)
        except PeerFault:
            verdict = Verdict.REJECT
            raise
        finally:
            self._router.judged(arrived.name, verdict, trio.current_time())

    def _look_round(self) -> None:
        """Meet the peers that have connected, and part from those that are gone."""
        here = dict.fromkeys(self._host.connected())
        for peer in here:
            self._meet(peer)
        for peer in self._router.peers():
            if peer not in here:
                self._router.part(peer)
                self._rests.pop(peer, None)

    def _meet(self, peer: PeerId) -> None:
        if not self._router.knows(peer):
            is_outbound = self._host.is_dialled(peer)
            self._router.meet(peer, self._host.origin(peer), is_outbound=is_outbound)

    def _flush(self) -> None:
        if self._nursery is not None:
            for peer in self._router.ready():
                self._start(peer)

    def _start(self, peer: PeerId) -> None:
        """Send what waits for a peer, unless enough is under way, or it rests."""
        now, (_, until) = trio.current_time(), self._rests.get(peer, (0.0, 0.0))
        under_way = self._in_flight.get(peer, [])
        is_early = bool(under_way) and now < under_way[-1] + OVERTAKE_S
        if self._nursery is None or now < until or is_early or len(under_way) >= IN_FLIGHT_MAX:
            return
        if self._host.owes(peer):
            return
        frame = self._router.take(peer, is_telling=peer in self._telling)
        if frame is None:
            return
        self._in_flight[peer] = [*under_way, now]
        if frame.topics is not None:
            self._telling.add(peer)
        self._nursery.start_soon(self._send, peer, frame, now)

    async def _send(self, peer: PeerId, frame: Frame, since: float) -> None:
        data = encode_frame(frame)
        self.num_frames, self.num_bytes = self.num_frames + 1, self.num_bytes + len(data)
        try:
            await self._host.call(
                peer, PROTOCOL, data, timeout_s=CALL_S, reply_limit=REPLY_BYTES_MAX
            )
            self._rests.pop(peer, None)
        except (Unreachable, PeerFault) as error:
            log.debug("news did not arrive: %s", error)
            self._router.failed(peer, frame)
            self._rest(peer)
            if isinstance(error, PeerFault):
                self._host.blame(peer, error)
        finally:
            if frame.topics is not None:
                self._telling.discard(peer)
            self._in_flight[peer].remove(since)
            if not self._in_flight[peer]:
                del self._in_flight[peer]
        self._start(peer)

    def _rest(self, peer: PeerId) -> None:
        """Let a peer rest that did not answer, longer each time; frames that failed together count once."""
        now = trio.current_time()
        last_s, until = self._rests.get(peer, (TICK_S / 2, now))
        if until <= now:
            rest_s = min(2 * last_s, REST_MAX_S)
            self._rests[peer] = rest_s, now + rest_s
