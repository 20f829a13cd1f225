"""An honest network in memory: hosts that call each other under MockClock, with loss and delay on request."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from swarm.errors import PeerFault, SwarmError, Unreachable
from swarm.primitives.codec import FRAME_BYTES_MAX
from swarm.primitives.crypto import SecretKey
from swarm.types import Bytes, PeerId

Handler = Callable[[PeerId, bytes], Awaitable[Bytes]]


class FakeDeclined(Unreachable):
    """The other side answered with a refusal."""


@dataclass
class _Service:
    handler: Handler
    request_limit: int
    slots: trio.CapacityLimiter


@dataclass
class FakeNetwork:
    """Where fake hosts meet; ``loss`` is the chance that a request, or its answer, vanishes."""

    seed: int = 0
    loss: float = 0.0
    delay_s: float = 0.01
    hosts: dict[PeerId, "FakeHost"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def host(self, number: int) -> "FakeHost":
        """A host whose key comes from a small number."""
        host = FakeHost(self, SecretKey.from_seed(bytes([number]) * 32))
        self.hosts[host.peer] = host
        return host

    def is_lost(self) -> bool:
        """Throw the dice of one frame."""
        return self._dice.random() < self.loss


class FakeHost:
    """The contract's ``Host``, as far as rooms use it."""

    def __init__(self, network: FakeNetwork, secret: SecretKey) -> None:
        self.secret = secret
        self.peer = secret.peer
        self.is_alive = True
        self.blamed: list[tuple[PeerId, PeerFault]] = []
        self.first_blame = trio.Event()
        self.calls: Counter[tuple[PeerId, str]] = Counter()
        self._network = network
        self._services: dict[str, _Service] = {}

    def owes(self, peer: PeerId) -> bool:
        return False

    def connected(self) -> list[PeerId]:
        """Everybody else who is alive, sorted."""
        return sorted(p for p, h in self._network.hosts.items() if h.is_alive and p != self.peer)

    def is_connected(self, peer: PeerId) -> bool:
        """Whether it is one of ``connected``."""
        return peer in self.connected()

    def origin(self, peer: PeerId) -> str:
        """Where it is counted: all of them are in one process."""
        return "here"

    def is_dialled(self, peer: PeerId) -> bool:
        """Whether we dialled it: the lower key dials."""
        return self.peer < peer

    def addresses(self) -> list[str]:
        """None: nobody dials it."""
        return []

    def reachability(self) -> str:
        """Nobody knows."""
        return "unknown"

    def path(self, peer: PeerId) -> str:
        """Direct to everybody."""
        return "direct" if self.is_connected(peer) else ""

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Remember nothing: no peer is dialled here."""

    def blame(self, peer: PeerId, fault: PeerFault) -> None:
        """Remember a fault."""
        self.blamed.append((peer, fault))
        self.first_blame.set()

    def faults(self) -> dict[PeerId, int]:
        """How often each peer was blamed."""
        return dict(Counter(peer for peer, _ in self.blamed))

    def serve(
        self,
        protocol: str,
        handler: Handler,
        *,
        request_limit: int,
        concurrency: int = 32,
        per_peer: int = 8,
    ) -> None:
        """Answer a protocol."""
        self._services[protocol] = _Service(
            handler, request_limit, trio.CapacityLimiter(concurrency)
        )

    async def call(
        self,
        peer: PeerId,
        protocol: str,
        request: bytes,
        *,
        timeout_s: float,
        reply_limit: int = FRAME_BYTES_MAX,
        idempotent: bool = False,
    ) -> bytes:
        """Ask; raises ``Unreachable`` for loss, refusal and the dead, ``PeerFault`` for an oversized reply."""
        self.calls[peer, protocol] += 1
        network, other = self._network, await self.reach(peer, timeout_s)
        with trio.move_on_after(timeout_s):
            await trio.sleep(network.delay_s)
            if network.is_lost():
                await trio.sleep_forever()
            reply = await other.answer(self.peer, protocol, request)
            await trio.sleep(network.delay_s)
            if network.is_lost() or not other.is_alive:
                await trio.sleep_forever()
            if len(reply) > reply_limit:
                raise PeerFault(f"a reply of {len(reply)} bytes")
            return reply
        raise Unreachable("timed out")

    async def reach(self, peer: PeerId, timeout_s: float) -> "FakeHost":
        """The host of a peer that is to be asked; raises ``Unreachable`` for the dead."""
        other = self._network.hosts.get(peer)
        if other is None or not other.is_alive:
            await trio.sleep(self._network.delay_s)
            raise Unreachable("nobody there")
        return other

    async def answer(self, asker: PeerId, protocol: str, request: bytes) -> bytes:
        """Run our handler as ``asker``'s request arrives."""
        service = self._services.get(protocol)
        if service is None:
            raise FakeDeclined(f"{protocol} is not served here")
        if len(request) > service.request_limit:
            fault = PeerFault(f"a request of {len(request)} bytes")
            self.blame(asker, fault)
            raise FakeDeclined(str(fault))
        try:
            async with service.slots:
                return bytes(await service.handler(asker, request))
        except PeerFault as fault:
            self.blame(asker, fault)
            raise FakeDeclined(str(fault)) from None
        except SwarmError as error:
            raise FakeDeclined(str(error)) from None
