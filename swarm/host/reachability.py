"""Decide who can reach this node, from what peers say that dialled it anew.

Core: messages, a record of votes, and sentences.

    node --no address--> peer --"you come from 198.51.100.7"--> node
    node --that host, and the ports it listens at--> peer --dials anew, proves the key--> "reached at ..."

A connection that is open proves nothing: a node behind a router dials out, and nobody dials in. So peers are
asked to dial; one that does so connects to the host alone that it sees the caller come from, so nobody is made
to knock at another's door. A peer may say what it likes: the verdict is that of most of those asked, and costs
nobody anything but a forwarded port.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from swarm.errors import BadEncoding
from swarm.host.addresses import format_address, parse_address, relay_in
from swarm.primitives.codec import Message, decode
from swarm.ticket import Reach, host_of, reach_of
from swarm.types import PeerId

PROTOCOL = "/swarm/dialback/1"
BYTES_MAX = 1_024
DIALLED_MAX = 4
"""Addresses that one question may name."""
VOTE_S = 1_800.0
"""Seconds for which the word of a peer counts."""
VOTES_MAX = 64
PROOF_PEERS = 2
"""Peers that must have reached us at an address of a router before others are told it: one alone could name the
host of whom it likes."""
HOST_CHARS_MAX = 64


class DialBack(Message, frozen=True):
    """Question to a peer: dial me at these addresses; none, to hear only where I come from."""

    addresses: tuple[str, ...]


class Dialled(Message, frozen=True):
    """Answer: the host that the caller comes from, and the addresses at which it was reached."""

    observed: str
    reached: tuple[str, ...]


class Reachable(StrEnum):
    """Machines that can dial this node."""

    UNKNOWN = "unknown"
    """Nobody has tried yet."""
    NOBODY = "nobody"
    MACHINE = "machine"
    """Processes of its own machine."""
    NETWORK = "network"
    """Machines of its private network."""
    PUBLIC = "public"


KINDS = {
    Reach.ANYWHERE: Reachable.PUBLIC,
    Reach.PRIVATE: Reachable.NETWORK,
    Reach.MACHINE: Reachable.MACHINE,
}
"""Machines that can dial a node which was reached at an address that so many can use."""


def parse_question(data: bytes) -> DialBack:
    """Read a question; raise ``BadEncoding`` if it names too many addresses, or what is none."""
    asked = decode(DialBack, data, limit=BYTES_MAX)
    if len(asked.addresses) > DIALLED_MAX:
        raise BadEncoding(f"at most {DIALLED_MAX} addresses")
    return DialBack(tuple(map(parse_address, asked.addresses)))


def parse_answer(data: bytes) -> Dialled:
    """Read an answer; raise ``BadEncoding`` if a field is out of bounds."""
    said = decode(Dialled, data, limit=BYTES_MAX)
    if len(said.reached) > DIALLED_MAX or len(said.observed) > HOST_CHARS_MAX:
        raise BadEncoding("an answer this long")
    if said.observed:
        parse_address(format_address(said.observed, 1))
    return Dialled(said.observed, tuple(map(parse_address, said.reached)))


def may_dial(address: str, caller_host: str) -> bool:
    """Return True for an address of the host that the caller comes from: all that is dialled for it."""
    if relay_in(address) is not None:
        return False
    return bool(caller_host) and host_of(address) == host_of(format_address(caller_host, 1))


def candidates(own: Sequence[str], observed: str) -> tuple[str, ...]:
    """Return the addresses to be dialled at by a peer that sees us come from a host.

    ``own`` are those that we tell others. Behind a router the host is the router's: it may forward our ports.
    """
    if not observed:
        return ()
    there = [address for address in own if may_dial(address, observed)]
    ports = [int(address.rsplit("/", 1)[1]) for address in own]
    guessed = [format_address(observed, port) for port in ports]
    return tuple(dict.fromkeys([*there, *guessed]))[:DIALLED_MAX]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer to who can reach this node, and what it rests on."""

    reached: Reachable
    address: str = ""
    """Address at which it was reached."""
    yes: int = 0
    """Peers that reached it there."""
    asked: int = 0
    """Peers that tried there, or anywhere if it was reached nowhere."""


@dataclass(frozen=True, slots=True)
class _Vote:
    at_s: float
    tried: tuple[str, ...]
    reached: frozenset[str]


class Votes:
    """Words of peers that were asked to dial, the newest of each."""

    def __init__(self) -> None:
        self._votes: dict[PeerId, _Vote] = {}

    def note(self, peer: PeerId, tried: Sequence[str], reached: Sequence[str], now: float) -> None:
        """Note what a peer says; addresses that it was not asked for count for nothing."""
        self._votes.pop(peer, None)
        self._votes[peer] = _Vote(now, tuple(tried), frozenset(reached) & frozenset(tried))
        if len(self._votes) > VOTES_MAX:
            del self._votes[next(iter(self._votes))]

    def forget(self) -> None:
        """Forget all: the network has changed."""
        self._votes.clear()

    def proved(self, now: float, forwarded: str = "") -> tuple[str, ...]:
        """Return the public address at which several peers have reached us, if there is one.

        One will do at the address that our router says it forwards: the router is the second that names it.
        """
        found = self._by_address(now)
        sure = (one for one in found if one.yes >= PROOF_PEERS or one.address == forwarded)
        public = (one.address for one in sure if one.reached is Reachable.PUBLIC)
        return tuple(public)[:1]

    def verdict(self, now: float) -> Verdict:
        """Return who can reach this node."""
        found, fresh = self._by_address(now), self._fresh(now)
        if found:
            return found[0]
        tried = sum(bool(vote.tried) for vote in fresh)
        return Verdict(Reachable.NOBODY if tried else Reachable.UNKNOWN, asked=tried)

    def _fresh(self, now: float) -> list[_Vote]:
        return [vote for vote in self._votes.values() if now - vote.at_s < VOTE_S]

    def _by_address(self, now: float) -> list[Verdict]:
        tries, hits = dict[str, int](), dict[str, int]()
        for vote in self._fresh(now):
            for address in vote.tried:
                tries[address] = tries.get(address, 0) + 1
                hits[address] = hits.get(address, 0) + (address in vote.reached)
        found = [
            Verdict(KINDS[reach_of(address)], address, hits[address], number)
            for address, number in tries.items()
            if 2 * hits[address] > number
        ]
        order = list(Reachable)
        return sorted(found, key=lambda one: (-order.index(one.reached), -one.yes))


def verdict_text(verdict: Verdict, own: Sequence[str]) -> str:
    """Return a sentence: who can reach this node, and what helps."""
    by = f"{verdict.yes} of {verdict.asked} peers dialled it at {verdict.address}"
    ports = ", ".join(sorted({address.rsplit("/", 1)[1] for address in own}))
    match verdict.reached:
        case Reachable.PUBLIC:
            return f"anybody can reach this node: {by}"
        case Reachable.NETWORK:
            return f"machines of its own network can reach this node: {by}"
        case Reachable.MACHINE:
            return f"only this machine can reach this node, at {verdict.address}"
        case Reachable.NOBODY:
            return (
                f"no peer can dial this node ({verdict.asked} tried): it takes part all the same, by the"
                f" connections that it makes; to be reached, forward TCP port {ports} to it at the router"
            )
        case Reachable.UNKNOWN:
            return "nobody has tried to dial this node yet"
