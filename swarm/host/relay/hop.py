"""Relay for peers that cannot be dialled: give them places, and open circuits to them.

Shell: one handler for each question, which lasts as long as its circuit. Rules H34 and H35.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import trio
from libp2p.abc import INetStream

from swarm.errors import BadEncoding, PeerFault, SwarmError, Unreachable
from swarm.host.connections import Connections
from swarm.host.links import Link
from swarm.host.places import group_of
from swarm.host.relay import messages
from swarm.host.relay.bridge import join
from swarm.host.relay.messages import MESSAGE_BYTES_MAX, STOP, Bounds, Status
from swarm.host.relay.places import RESERVATION_S, Circuits, Reservations
from swarm.host.streams import FrameStream
from swarm.host.uplink import Uplink
from swarm.types import PeerId

CIRCUIT_S = 7200
CIRCUIT_BYTES = 1 << 30
BOUNDS = Bounds(CIRCUIT_S, CIRCUIT_BYTES)
"""Limits of one circuit. Who trains through it opens the next one; who forgot it does not hold it for ever."""
QUESTION_S = 10.0
STOP_S = 6.0
"""Seconds for a target to agree to a circuit."""

log = logging.getLogger("swarm.host")


class RelayMode(Enum):
    """Condition under which a node relays for others."""

    AUTO = "auto"
    """If peers have dialled it at a public address."""
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Relaying:
    """Part that a node takes as a relay."""

    mode: RelayMode = RelayMode.AUTO
    mbit: float = 8.0
    """Most that it carries, all circuits together, both ways, in Mbit/s."""


class Hop:
    """Relay side of circuits: this node carries for others while it is willing."""

    def __init__(
        self,
        links: Connections,
        *,
        line: Uplink,
        is_willing: Callable[[], bool],
        blame: Callable[[PeerId, PeerFault], None],
    ) -> None:
        """Carry at the pace of ``line``, all circuits together, both ways."""
        self._links, self._line, self._is_willing, self._blame = links, line, is_willing, blame
        self.reservations = Reservations()
        self.circuits = Circuits()

    async def serve(self, net_stream: INetStream) -> None:
        """Answer one question of a peer; a circuit lasts until one side ends it."""
        link = self._links.link_of(net_stream.swarm_conn)  # type: ignore[attr-defined]
        if link is None:
            return
        stream = FrameStream(net_stream)
        try:
            target: PeerId | None = None
            with trio.move_on_after(QUESTION_S):
                question = await stream.receive_line(MESSAGE_BYTES_MAX)
                target = messages.parse_question(question)
                if target is None:
                    await self._reserve(link, stream)
            if target is not None:
                await self._connect(link, target, stream)
        except BadEncoding as error:
            self._blame(link.peer, PeerFault(f"to a relay: {error}"))
            await self._answer(stream, Status.MALFORMED_MESSAGE)
        except PeerFault as fault:
            self._blame(link.peer, fault)
            await stream.reset()
        except Unreachable as error:
            log.debug("no circuit: %s", error)
            await stream.reset()

    async def _reserve(self, link: Link, stream: FrameStream) -> None:
        now, wall_s = trio.current_time(), int(time.time())
        if link.relay is not None or not self._is_willing():
            await self._answer(stream, Status.PERMISSION_DENIED)
        elif not self.reservations.reserve(link.peer, group_of(link.remote_host), now):
            await self._answer(stream, Status.RESERVATION_REFUSED)
        else:
            expires = wall_s + int(RESERVATION_S)
            await stream.send_line(messages.hop_status(Status.OK, expires=expires, bounds=BOUNDS))
            await stream.close()

    async def _answer(self, stream: FrameStream, status: Status) -> None:
        try:
            await stream.send_line(messages.hop_status(status))
            await stream.close()
        except Unreachable:
            await stream.reset()

    async def _connect(self, link: Link, target: PeerId, stream: FrameStream) -> None:
        """Open a circuit to a peer that has a place here, and carry it."""
        there = [other for other in self._links.of(target) if other.relay is None]
        if link.relay is not None or not self._is_willing():
            await self._answer(stream, Status.PERMISSION_DENIED)
            return
        if not there or not self.reservations.has(target, trio.current_time()):
            self.reservations.forget(target)
            await self._answer(stream, Status.NO_RESERVATION)
            return
        number = self.circuits.open(link.peer, group_of(link.remote_host), target)
        if number is None:
            await self._answer(stream, Status.RESOURCE_LIMIT_EXCEEDED)
            return
        try:
            onward = await self._stop(there[-1], link.peer)
            if onward is None:
                await self._answer(stream, Status.CONNECTION_FAILED)
                return
            with trio.move_on_after(CIRCUIT_S):
                await stream.send_line(messages.hop_status(Status.OK, bounds=BOUNDS))
                await join(stream, onward, num_bytes=CIRCUIT_BYTES, pace=self._pace)
        finally:
            self.circuits.close(number)

    def _pace(self, num_bytes: int) -> float:
        return self._line.wait_s(num_bytes, trio.current_time())

    async def _stop(self, link: Link, caller: PeerId) -> FrameStream | None:
        """Ask a target to agree to a circuit; return the stream to it, or None."""
        stream: FrameStream | None = None
        with trio.move_on_after(STOP_S):
            try:
                stream = FrameStream(await self._links.open_on(link, [STOP]))
                await stream.send_line(messages.stop_connect(caller, BOUNDS))
                answer = messages.parse_stop_status(await stream.receive_line(MESSAGE_BYTES_MAX))
                if answer is Status.OK:
                    return stream
            except SwarmError as error:
                log.debug("no circuit: %s", error)
        if stream is not None:
            await stream.reset()
        return None
