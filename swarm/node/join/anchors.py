"""Decide which peers a node remembers over restarts: a few anchor peers, and others it has met.

Core: functions of what was remembered, what is seen now and the seconds in between.

    SEEN --10 min at an address we dialled, a place is free--> ANCHOR --6 h not met, or its network has two;
                                                               one in an hour--> another

A node that starts again has nobody but those it remembers. If the newest took the places of the older ones, who
comes with many keys, or makes a node start again, would be all that it knows.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarm.primitives.codec import Message, replace
from swarm.types import PeerId

ANCHORS_MAX = 4
"""Anchor peers: three, and one that may be away."""
RIPE_S = 600
RIPE_DOUBLE_S = 3600
"""Seconds of one connection until a peer may become an anchor peer, and until it may be the second one of its
network: by then there are others, if there are any to be had."""
GONE_S = 6 * 3600
"""Seconds for which this node was connected to others, and not to an anchor peer, until another may replace it:
a night without one machine, or a few hours at home."""
SWAP_S = 3600
"""Seconds between two replacements: all four take at least three hours of a node that runs."""

PEERS_MAX = 16
"""Peers remembered, the anchor peers first: of so many one is still there after a week."""
NEW_MAX = 8
"""Connected peers that come, beside anchor peers, before those that were remembered earlier."""
PER_NETWORK_MAX = 2
"""Peers remembered, beside anchor peers, of one public network."""
ADDRESSES_MAX = 4
ADDRESS_CHARS_MAX = 200


class KnownPeer(Message, frozen=True):
    """Peer and the addresses at which it could be dialled, best first."""

    peer: bytes
    addresses: tuple[str, ...]


class KnownPeers(Message, frozen=True):
    """Peers remembered, the anchor peers first."""

    peers: tuple[KnownPeer, ...]


class Anchor(Message, frozen=True):
    """Anchor peer."""

    peer: bytes
    network: str
    """Public network from which it was connected; "" for none."""
    held_s: int = 0
    """Seconds for which it has been connected, in all."""
    missed_s: int = 0
    """Seconds since it was connected for which others were."""


class Anchors(Message, frozen=True):
    """Anchor peers of a home."""

    peers: tuple[Anchor, ...] = ()
    rested_s: int = 0
    """Seconds of this node's time with others since one of them was replaced."""

    def __contains__(self, peer: PeerId) -> bool:
        """Return True for an anchor peer."""
        return any(one.peer == peer for one in self.peers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One peer that is connected now."""

    peer: PeerId
    addresses: tuple[str, ...]
    network: str = ""
    connected_s: float = 0.0
    """Seconds of its connection so far, without a break."""
    is_proved: bool = False
    """True if we have dialled it at an address of its own."""
    is_validator: bool = False


def watched(anchors: Anchors, seen: Sequence[Seen], passed_s: int) -> Anchors:
    """Return the anchor peers after ``passed_s`` more seconds, at the end of which ``seen`` are connected.

    A free place is filled at once. Nothing changes while nobody is connected: a node that is isolated forgets
    nobody.
    """
    if not seen:
        return anchors
    here = {one.peer: one for one in seen}
    peers = tuple(_aged(one, here.get(PeerId(one.peer)), passed_s) for one in anchors.peers)
    rested_s = min(anchors.rested_s + passed_s, SWAP_S)
    while len(peers) < ANCHORS_MAX and (best := _best(seen, peers)) is not None:
        peers = (*peers, _anchored(best))
    newcomer = _best(seen, peers)
    if newcomer is not None and rested_s >= SWAP_S:
        given_up = _given_up(peers, newcomer)
        rest = tuple(one for one in peers if one is not given_up)
        best = _best(seen, rest)
        if given_up is not None and best is not None:
            return Anchors((*rest, _anchored(best)))
    return Anchors(peers, rested_s)


def _aged(anchor: Anchor, seen: Seen | None, passed_s: int) -> Anchor:
    if seen is None:
        return replace(anchor, missed_s=anchor.missed_s + passed_s)
    network = seen.network or anchor.network
    return Anchor(anchor.peer, network, anchor.held_s + passed_s)


def _anchored(seen: Seen) -> Anchor:
    return Anchor(seen.peer, seen.network, int(seen.connected_s))


def _best(seen: Sequence[Seen], peers: Sequence[Anchor]) -> Seen | None:
    """Return who is to be the next anchor peer: of a network without one, a validator, there for longest.

    None if nobody has been there for long enough.
    """
    mates = {one.peer for one in peers}
    taken = {one.network for one in peers if one.network}
    ripe = [
        one
        for one in seen
        if one.is_proved
        and one.addresses
        and one.peer not in mates
        and one.connected_s >= (RIPE_DOUBLE_S if one.network in taken else RIPE_S)
    ]
    return min(
        ripe,
        key=lambda one: (one.network in taken, not one.is_validator, -one.connected_s, one.peer),
        default=None,
    )


def _given_up(peers: Sequence[Anchor], newcomer: Seen) -> Anchor | None:
    """Return the anchor peer that a newcomer may replace; None for none.

    That is one which has long not been met, or, for a newcomer of a network without one, the newer of two that
    are of the same network.
    """
    gone = [one for one in peers if one.missed_s >= GONE_S]
    if gone:
        return max(gone, key=lambda one: (one.missed_s, one.peer))
    sizes = Counter(one.network for one in peers if one.network)
    if sizes[newcomer.network]:
        return None
    double = [one for one in peers if sizes[one.network] > 1]
    return min(double, key=lambda one: (one.held_s, one.peer)) if double else None


def remembered(anchors: Anchors, seen: Sequence[Seen], before: KnownPeers) -> KnownPeers:
    """Return the peers to remember: anchor peers, then ``NEW_MAX`` that are connected, then who was before.

    Of those connected come first whom we have dialled, validators, and who was there for longest; of one public
    network ``PER_NETWORK_MAX`` are taken.
    """
    here = {one.peer: one.addresses for one in seen if one.addresses}
    old = {PeerId(one.peer): one.addresses for one in before.peers}
    known = {**old, **here}
    ranked = sorted(
        seen,
        key=lambda one: (not one.is_proved, not one.is_validator, -one.connected_s, one.peer),
    )
    met, networks = list[PeerId](), Counter[str]()
    for one in ranked:
        if one.peer not in anchors and networks[one.network] < PER_NETWORK_MAX:
            met.append(one.peer)
            networks[one.network] += bool(one.network)
    mates = [PeerId(one.peer) for one in anchors.peers]
    earlier = [peer for peer in old if peer not in here]
    order = [*mates, *met[:NEW_MAX], *earlier, *met[NEW_MAX:]]
    kept = [
        KnownPeer(peer, known[peer][:ADDRESSES_MAX])
        for peer in dict.fromkeys(order)
        if known.get(peer) and _are_short(known[peer])
    ]
    return KnownPeers(tuple(kept[:PEERS_MAX]))


def _are_short(addresses: Iterable[str]) -> bool:
    return all(len(address) <= ADDRESS_CHARS_MAX for address in addresses)
