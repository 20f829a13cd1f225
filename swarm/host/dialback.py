"""Ask peers to dial this node anew, and dial those that ask: so that a node knows who can reach it.

Shell: one task that asks, one handler that dials. Rule H23; the core is ``reachability``.
"""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from swarm.errors import PeerFault, SwarmError, Unreachable
from swarm.host.addresses import is_loopback, relay_in
from swarm.host.outbound import in_turns
from swarm.host.reachability import (
    BYTES_MAX,
    PROTOCOL,
    DialBack,
    Dialled,
    Reachable,
    Verdict,
    Votes,
    candidates,
    may_dial,
    parse_answer,
    parse_question,
    verdict_text,
)
from swarm.primitives.codec import encode
from swarm.types import PeerId

ASKED_MAX = 3
"""Peers that are asked at a time, of different networks where there are such."""
ASK_S = 20.0
"""Seconds for a peer to dial four addresses."""
FIRST_S, AGAIN_S = 5.0, 600.0
"""Seconds between questions while nobody has answered, and afterwards."""
DIAL_S = 4.0
DIALS_MAX = 4
"""Dials for others at once."""
REST_S = 5.0
"""Seconds between two dials for one peer."""

log = logging.getLogger("swarm.host")


class DialingHost(Protocol):
    """The part of a host that this needs; ``Host`` has it."""

    def addresses(self) -> list[str]:
        """Return the addresses that others are told."""
        ...

    def connected(self) -> list[PeerId]:
        """Return the connected peers."""
        ...

    def network(self, peer: PeerId) -> str:
        """Return the public network that a peer is connected from; "" for none."""
        ...

    async def call(
        self, peer: PeerId, protocol: str, request: bytes, *, timeout_s: float, reply_limit: int
    ) -> bytes:
        """Ask a peer."""
        ...

    def blame(self, peer: PeerId, fault: PeerFault) -> None:
        """Note a fault of a peer."""
        ...


class DialBacks:
    """Record of who can reach this node: asks others, and answers those that ask."""

    def __init__(
        self,
        host: DialingHost,
        *,
        remote_host: Callable[[PeerId], str],
        dial: Callable[[PeerId, str], Awaitable[bool]],
    ) -> None:
        """``remote_host`` gives the host that a peer is connected from; ``dial`` connects to it anew, and tells
        whether it was there.
        """
        self._host, self._remote_host, self._dial = host, remote_host, dial
        self._votes = Votes()
        self._slots = trio.CapacityLimiter(DIALS_MAX)
        self._last: dict[PeerId, float] = {}
        self._moved = trio.Event()
        self._forwarded = ""
        """Address of a router that, as it says, forwards a port to this node."""

    # ---- asking

    def verdict(self) -> Verdict:
        """Return who can reach this node."""
        own = self._own()
        if own and all(map(is_loopback, own)):
            return Verdict(Reachable.MACHINE, own[0])
        return self._votes.verdict(trio.current_time())

    def text(self) -> str:
        """Return who can reach this node as a sentence."""
        port = self._forwarded.rpartition("/")[2]
        forwards = f"; the router says that it forwards TCP port {port} to it (UPnP)" * bool(port)
        return verdict_text(self.verdict(), self._own()) + forwards

    def is_public(self) -> bool:
        """Return True if peers have dialled this node at a public address."""
        return self._votes.verdict(trio.current_time()).reached is Reachable.PUBLIC

    def _own(self) -> list[str]:
        """Return the addresses that others are told, but for those through relays."""
        return [address for address in self._host.addresses() if relay_in(address) is None]

    def proved(self) -> tuple[str, ...]:
        """Return an address to tell others at which peers have reached this node."""
        return self._votes.proved(trio.current_time(), self._forwarded)

    def suppose(self, address: str) -> None:
        """Ask peers anew, also to dial an address at which a router says that it forwards; "" for none."""
        if address != self._forwarded:
            self._forwarded = address
            self._moved.set()

    def forget(self) -> None:
        """Forget what peers said, and ask anew: this machine has moved."""
        self._votes.forget()
        self._moved.set()

    async def keep_asking(self) -> None:
        """Ask some peers again and again, until cancelled."""
        while True:
            await trio.sleep(FIRST_S)
            self._moved = moved = trio.Event()
            if await self._ask_some():
                with trio.move_on_after(AGAIN_S):
                    await moved.wait()

    async def _ask_some(self) -> int:
        chosen = spread(self._host.connected(), self._host.network)
        answered = [await self._ask(peer) for peer in chosen]
        return sum(answered)

    async def _ask(self, peer: PeerId) -> bool:
        """Let one peer dial us; return True if it has said anything."""
        with contextlib.suppress(Unreachable):
            try:
                observed = (await self._call(peer, ())).observed
                own = [self._forwarded, *self._own()] if self._forwarded else self._own()
                tried = candidates(own, observed)
                if not tried:
                    return False
                said = await self._call(peer, tried)
            except PeerFault as fault:
                self._host.blame(peer, fault)
                return False
            self._votes.note(peer, tried, said.reached, trio.current_time())
            return True
        return False

    async def _call(self, peer: PeerId, addresses: Sequence[str]) -> Dialled:
        raw = await self._host.call(
            peer,
            PROTOCOL,
            encode(DialBack(tuple(addresses))),
            timeout_s=ASK_S,
            reply_limit=BYTES_MAX,
        )
        return parse_answer(raw)

    # ---- answering

    async def answer(self, peer: PeerId, request: bytes) -> bytes:
        """Dial a peer at those of the addresses it names that are of the host it comes from.

        Raises ``BadEncoding`` for junk, and ``Unreachable`` to one that asks again too soon.
        """
        asked, observed = parse_question(request), self._remote_host(peer)
        wanted = [address for address in asked.addresses if may_dial(address, observed)]
        reached = list[str]()
        if wanted:
            self._take_turn(peer)
            async with self._slots:
                for address in wanted:
                    if await self._reaches(peer, address):
                        reached.append(address)
        return encode(Dialled(observed, tuple(reached)))

    def _take_turn(self, peer: PeerId) -> None:
        now = trio.current_time()
        for old in [old for old, at_s in self._last.items() if now - at_s >= REST_S]:
            del self._last[old]
        if peer in self._last:
            raise Unreachable("asked a moment ago")
        self._last[peer] = now

    async def _reaches(self, peer: PeerId, address: str) -> bool:
        with trio.move_on_after(DIAL_S):
            try:
                return await self._dial(peer, address)
            except SwarmError as error:
                log.info("no answer at %s: %s", address, error)
        return False


def spread(peers: Sequence[PeerId], network: Callable[[PeerId], str]) -> list[PeerId]:
    """Return some peers, one of each public network first."""
    groups = dict[str, list[PeerId]]()
    for peer in peers:
        groups.setdefault(network(peer), []).append(peer)
    private = groups.pop("", [])
    return in_turns([*groups.values(), private])[:ASKED_MAX]
