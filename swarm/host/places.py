"""Share the places for connections among the networks that they come from.

Core: pure functions. A place is taken by one connection; who comes when all are taken gets one only from the
network that has most of them, so that many keys behind few addresses keep nobody out but each other.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from swarm.host.addresses import network_of

PLACES_MAX = 256
"""Connections in and out: 92 KB each, and more than any node of a few hundred peers needs."""

OUTBOUND_PART = 4
"""One place in so many is left to connections that we dial, however many come in."""


@dataclass(frozen=True, slots=True)
class Place:
    """One connection that takes a place."""

    remote_host: str
    is_inbound: bool
    is_kept: bool = False
    """True if it leads to a peer of our own choice, which nobody pushes out."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer to a connection that wants a place."""

    is_admitted: bool
    pushed_out: int | None = None
    """Number of the connection that is closed for it; None if none is."""


def ask_for_place(newcomer: Place, taken: Sequence[Place], places_max: int = PLACES_MAX) -> Verdict:
    """Return whether one more connection gets a place; ``taken`` are the others, oldest first.

    An inbound one has its place among three quarters of all. Where these are taken it gets that of the youngest
    of the network with the most, if its own network then has no more than that one. An outbound one to a kept
    peer gets the place of the youngest of the network with the most.
    """
    inbound = [number for number, place in enumerate(taken) if place.is_inbound]
    inbound_max = places_max - places_max // OUTBOUND_PART
    if len(taken) < places_max and (not newcomer.is_inbound or len(inbound) < inbound_max):
        return Verdict(True)
    if not (newcomer.is_inbound or newcomer.is_kept):
        return Verdict(False)
    rivals = inbound if newcomer.is_inbound else range(len(taken))
    sizes = Counter(group_of(taken[number].remote_host) for number in rivals)
    movable = [number for number in rivals if not taken[number].is_kept]
    if not movable:
        return Verdict(False)
    largest = max(movable, key=lambda number: (sizes[group_of(taken[number].remote_host)], number))
    group = group_of(taken[largest].remote_host)
    if newcomer.is_kept or sizes[group] >= sizes[group_of(newcomer.remote_host)] + 2:
        return Verdict(True, largest)
    return Verdict(False)


def group_of(remote_host: str) -> str:
    """Return what connections are counted by: a public network, else one address."""
    return network_of(remote_host) or remote_host
