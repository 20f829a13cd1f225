"""Write and read the messages of circuit relay v2 and of DCUtR.

Core: pure functions. The forms are libp2p's; a message of another is a ``BadEncoding`` of whoever sent it.

    peer --RESERVE--> relay          peer --CONNECT target--> relay --CONNECT peer--> target
         <--STATUS, until when--          <--STATUS-----------      <--STATUS--------
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from google.protobuf.message import DecodeError, Message
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, Limit, Reservation, StopMessage
from libp2p.relay.circuit_v2.pb.circuit_pb2 import PeerId as Named
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from multiaddr.exceptions import Error as MultiaddrError
from multiaddr.multiaddr import Multiaddr

from swarm.errors import BadEncoding
from swarm.host.addresses import parse_address, relay_in
from swarm.host.peer_ids import id_of, peer_of
from swarm.types import PeerId

HOP = "/libp2p/circuit/relay/0.2.0/hop"
STOP = "/libp2p/circuit/relay/0.2.0/stop"
DCUTR = "/libp2p/dcutr"
IDENTIFY = "/ipfs/id/1.0.0"
IDENTIFY_BYTES_MAX = 16 << 10
PUNCHED_MAX = 4
"""Addresses that are dialled at once for one peer."""
MESSAGE_BYTES_MAX = 4096
"""Bytes of a message, by the specification."""


class Status(IntEnum):
    """Answer to a message: a relay's, or a target's."""

    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


REASONS = {
    Status.OK: "it agreed",
    Status.RESERVATION_REFUSED: "it reserves no more places",
    Status.RESOURCE_LIMIT_EXCEEDED: "its places are taken",
    Status.PERMISSION_DENIED: "it does not relay for this node",
    Status.CONNECTION_FAILED: "the peer behind it does not answer",
    Status.NO_RESERVATION: "the peer is not there any more",
    Status.MALFORMED_MESSAGE: "it could not read the question",
    Status.UNEXPECTED_MESSAGE: "it did not expect the question",
}
"""Meaning of each status, as the end of a sentence about the relay."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a circuit: seconds, and bytes in each direction; 0: none."""

    seconds: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class HopStatus:
    """Answer of a relay."""

    status: Status
    bounds: Bounds = Bounds(0, 0)
    """Limits that the relay tells of its circuits."""


def reserve() -> bytes:
    """Return the question for a reservation."""
    return _written(HopMessage(type=HopMessage.RESERVE))


def connect(target: PeerId) -> bytes:
    """Return the question for a circuit to a peer."""
    return _written(HopMessage(type=HopMessage.CONNECT, peer=_named(target)))


def parse_question(data: bytes) -> PeerId | None:
    """Read a question to a relay: the peer that a circuit is asked to, None for a reservation.

    Raises ``BadEncoding``.
    """
    message = HopMessage()
    _read(message, data)
    if message.type == HopMessage.RESERVE:
        return None
    if message.type != HopMessage.CONNECT:
        raise BadEncoding("a status where a question is due")
    return _peer(message.peer)


def hop_status(
    status: Status, *, expires: int | None = None, bounds: Bounds | None = None
) -> bytes:
    """Return the answer of a relay; ``expires`` is the Unix second at which a reservation ends."""
    message = HopMessage(type=HopMessage.STATUS, status=int(status))  # type: ignore[arg-type]
    if expires is not None:
        message.reservation.CopyFrom(Reservation(expire=expires))
    if bounds is not None:
        message.limit.CopyFrom(Limit(duration=bounds.seconds, data=bounds.num_bytes))
    return _written(message)


def parse_hop_status(data: bytes) -> HopStatus:
    """Read the answer of a relay; raise ``BadEncoding``.

    The end of a reservation is not read: it is in the time of another clock, and we renew long before.
    """
    message = HopMessage()
    _read(message, data)
    if message.type != HopMessage.STATUS:
        raise BadEncoding("no status where one is due")
    bounds = Bounds(int(message.limit.duration), int(message.limit.data))
    return HopStatus(_status(message.status), bounds)


def stop_connect(caller: PeerId, bounds: Bounds) -> bytes:
    """Return the word of a relay to a target that a peer wants a circuit to it."""
    limit = Limit(duration=bounds.seconds, data=bounds.num_bytes)
    return _written(StopMessage(type=StopMessage.CONNECT, peer=_named(caller), limit=limit))


def parse_stop_connect(data: bytes) -> PeerId:
    """Read who wants a circuit to this node; raise ``BadEncoding``."""
    message = StopMessage()
    _read(message, data)
    if message.type != StopMessage.CONNECT:
        raise BadEncoding("a status where a question is due")
    return _peer(message.peer)


def stop_status(status: Status) -> bytes:
    """Return the answer of a target."""
    return _written(StopMessage(type=StopMessage.STATUS, status=int(status)))  # type: ignore[arg-type]


def parse_stop_status(data: bytes) -> Status:
    """Read the answer of a target; raise ``BadEncoding``."""
    message = StopMessage()
    _read(message, data)
    if message.type != StopMessage.STATUS:
        raise BadEncoding("no status where one is due")
    return _status(message.status)


def _written(message: Message) -> bytes:
    return message.SerializeToString()


def _read(message: Message, data: bytes, limit: int = MESSAGE_BYTES_MAX) -> None:
    if not data or len(data) > limit:
        raise BadEncoding(f"a message of {len(data)} bytes")
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise BadEncoding("no message of a relay") from None


def _named(peer: PeerId) -> Named:
    return Named(id=id_of(peer).to_bytes())


def _peer(named: Named) -> PeerId:
    return peer_of(ID(named.id))


def _status(number: int) -> Status:
    try:
        return Status(number)
    except ValueError:
        raise BadEncoding(f"{number} is no status") from None


def punch(addresses: Sequence[str]) -> bytes:
    """Return the DCUtR message that names the addresses at which this node may be dialled at once."""
    observed = [Multiaddr(address).to_bytes() for address in addresses[:PUNCHED_MAX]]
    return _written(HolePunch(type=HolePunch.CONNECT, ObsAddrs=observed))


def parse_punch(data: bytes) -> tuple[str, ...]:
    """Read the direct addresses of such a message, at most ``PUNCHED_MAX``; raise ``BadEncoding``.

    Addresses of kinds that we do not dial are left out.
    """
    message = HolePunch()
    _read(message, data)
    if message.type != HolePunch.CONNECT:
        raise BadEncoding("a signal where addresses are due")
    return tuple(filter(None, map(read_address, message.ObsAddrs[:PUNCHED_MAX])))


def punch_now() -> bytes:
    """Return the DCUtR message after which both dial."""
    return _written(HolePunch(type=HolePunch.SYNC))


def parse_punch_now(data: bytes) -> None:
    """Read the signal to dial; raise ``BadEncoding`` if it is none."""
    message = HolePunch()
    _read(message, data)
    if message.type != HolePunch.SYNC:
        raise BadEncoding("no signal where one is due")


def parse_observed(data: bytes) -> str:
    """Read from libp2p's identify at which address a peer sees us; "" for none that we know the kind of.

    Raises ``BadEncoding``.
    """
    message = Identify()
    _read(message, data, IDENTIFY_BYTES_MAX)
    return read_address(message.observed_addr)


def read_address(packed: bytes) -> str:
    """Return a binary multiaddr as a direct address; "" if it is none."""
    try:
        address = parse_address(str(Multiaddr(packed)))
    except (BadEncoding, ValueError, MultiaddrError):
        return ""
    return "" if relay_in(address) is not None else address
