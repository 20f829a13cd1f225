"""Share the places for connections among the networks that they come from, by standing and use.

Core: pure functions. A place is taken by one connection. Where all for inbound ones are taken:

    newcomer with standing   gets that of a stranger, as long as strangers have more than are theirs
    newcomer without         gets that of one with standing, as long as strangers have fewer
    else, among their own    that of the network with the most, if it has two more than the newcomer's; of
                             strangers also that of one that gave nothing in a minute: it had its turn

The one that makes room is the least useful of its network, the youngest where all are alike: many keys behind
few addresses keep nobody out but each other.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarm.host.addresses import network_of

PLACES_MAX = 256
"""Connections in and out: 92 KB each, and more than any node of a few hundred peers needs."""

OUTBOUND_PART = 4
"""One place in so many is left to connections that we dial, however many come in."""

STRANGERS_PART = 8
"""One place in so many is for peers without standing, however many have some: everybody begins as one."""

IDLE_S = 60.0
"""Seconds after which a stranger that gave nothing makes room for another: time to catch up with the chain."""

USE_BYTES = 4 << 10
"""Bytes of answers to our questions that make a connection more useful than another: pings are less."""


@dataclass(frozen=True, slots=True)
class Place:
    """One connection that takes a place."""

    remote_host: str
    is_inbound: bool
    is_kept: bool = False
    """True if it leads to a peer of our own choice, which nobody pushes out."""
    has_standing: bool = False
    use: int = 0
    """Answers that it gave us, in units of ``USE_BYTES``."""
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer to a connection that wants a place."""

    is_admitted: bool
    pushed_out: int | None = None
    """Number of the connection that is closed for it; None if none is."""


def ask_for_place(newcomer: Place, taken: Sequence[Place], places_max: int = PLACES_MAX) -> Verdict:
    """Return whether one more connection gets a place; ``taken`` are the others, oldest first.

    An inbound one has its place among three quarters of all. An outbound one to a kept peer gets the place of
    the least useful of the network with the most, strangers first.
    """
    inbound = [number for number, place in enumerate(taken) if place.is_inbound]
    inbound_max = places_max - places_max // OUTBOUND_PART
    if len(taken) < places_max and (not newcomer.is_inbound or len(inbound) < inbound_max):
        return Verdict(True)
    if newcomer.is_inbound:
        out = _makes_room(newcomer, taken, inbound, places_max // STRANGERS_PART)
    elif newcomer.is_kept:
        everybody = range(len(taken))
        out = _least_useful(taken, _strangers(taken, everybody))
        out = _least_useful(taken, everybody) if out is None else out
    else:
        return Verdict(False)
    return Verdict(out is not None, out)


def _makes_room(
    newcomer: Place, taken: Sequence[Place], inbound: Sequence[int], strangers_min: int
) -> int | None:
    """Return the number of the inbound connection that makes room for another; None if none does."""
    strangers = _strangers(taken, inbound)
    members = [number for number in inbound if taken[number].has_standing]
    if newcomer.has_standing and len(strangers) > strangers_min:
        return _least_useful(taken, strangers)
    if not newcomer.has_standing and len(strangers) < strangers_min:
        return _least_useful(taken, members)
    rivals = members if newcomer.has_standing else strangers
    found = _least_useful(taken, rivals)
    if found is None:
        return None
    sizes = _sizes(taken, rivals)
    if sizes[_group(taken[found])] >= sizes[_group(newcomer)] + 2:
        return found
    idle = (number for number in rivals if _is_idle(taken[number]))
    return None if newcomer.has_standing else next(idle, None)


def _strangers(taken: Sequence[Place], among: Iterable[int]) -> list[int]:
    return [number for number in among if not taken[number].has_standing]


def _is_idle(place: Place) -> bool:
    return not (place.is_kept or place.use) and place.age_s >= IDLE_S


def _least_useful(taken: Sequence[Place], among: Sequence[int]) -> int | None:
    """Return the least useful connection, the youngest of such, of the network with the most; None if all are
    kept.
    """
    sizes = _sizes(taken, among)
    movable = [number for number in among if not taken[number].is_kept]
    order = ((sizes[_group(taken[one])], -taken[one].use, one) for one in movable)
    return max(order, default=(0, 0, None))[2]


def _sizes(taken: Sequence[Place], among: Sequence[int]) -> Counter[str]:
    return Counter(_group(taken[number]) for number in among)


def _group(place: Place) -> str:
    return group_of(place.remote_host)


def group_of(remote_host: str) -> str:
    """Return what connections are counted by: a public network, else one address."""
    return network_of(remote_host) or remote_host
