"""Choose the links of a mesh: how many, to whom, and which are given up.

Core: pure functions but for the dice.

Links go origin by origin (public network, else address), not key by key: keys of one place are free. Where
everybody is at one place that rules out nobody.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from swarm.primitives.randomness import RandomStream
from swarm.types import PeerId

MESH, MESH_MIN, MESH_MAX = 8, 6, 12
"""Links that are aimed at in each topic (D), below which more are made (Dlo), above which some go (Dhi)."""
BEST_KEPT = 4
"""Links of the best scores that stay when some go (Dscore)."""
OUTBOUND_MIN = 2
"""Links to peers that we dialled (Dout): nobody gets one of those by dialling us."""
ORIGIN_MAX = 2
"""Links to one origin, where there are others."""
OPPORTUNISTIC_SCORE = 1.0
"""Score that half of a mesh must have: a few notices brought first; else better ones are added."""
OPPORTUNISTIC_MAX = 2


@dataclass(frozen=True, slots=True)
class Link:
    """Peer that is in a mesh, or may be."""

    peer: PeerId
    origin: str
    is_outbound: bool
    """True if we dialled it."""
    score: float


def draw_links(
    links: Sequence[Link], mesh: Sequence[Link], count: int, dice: RandomStream
) -> list[Link]:
    """Return ``count`` of the links at most, of the origins that the mesh has fewest of."""
    taken, left, found = Counter(link.origin for link in mesh), dice.shuffled(links), list[Link]()
    while left and len(found) < count:
        best = min(left, key=lambda link: taken[link.origin])
        left.remove(best)
        found.append(best)
        taken[best.origin] += 1
    return found


def draw_surplus(mesh: Sequence[Link], dice: RandomStream) -> list[Link]:
    """Return the links that a mesh of more than ``MESH_MAX`` gives up.

    The best stay, some that we dialled, and some of the others.
    """
    if len(mesh) <= MESH_MAX:
        return []
    ranked = sorted(dice.shuffled(mesh), key=lambda link: -link.score)
    kept = ranked[:BEST_KEPT]
    ours = [link for link in ranked[BEST_KEPT:] if link.is_outbound]
    kept += ours[: max(OUTBOUND_MIN - sum(link.is_outbound for link in kept), 0)]
    rest = [link for link in ranked if link not in kept]
    kept += draw_links(rest, kept, MESH - len(kept), dice)
    return [link for link in ranked if link not in kept]


def is_crowded(link: Link, mesh: Sequence[Link], others: Sequence[Link]) -> bool:
    """Return True if the origin of a link has its share of a mesh, and one of fewer is to be had."""
    taken = Counter(one.origin for one in mesh)
    have = taken[link.origin]
    return have >= ORIGIN_MAX and any(taken[other.origin] < have for other in others)


def crowding(mesh: Sequence[Link], others: Sequence[Link]) -> Link | None:
    """Return a link that is given up because its origin has more than its share; None if there is none."""
    taken = Counter(link.origin for link in mesh)
    crowded = [link for link in mesh if taken[link.origin] > ORIGIN_MAX]
    if not crowded:
        return None
    worst = min(crowded, key=lambda link: (-taken[link.origin], link.score))
    can_replace = any(taken[other.origin] + 1 < taken[worst.origin] for other in others)
    return worst if can_replace or (len(taken) > 1 and len(mesh) > MESH_MIN) else None


def better_links(mesh: Sequence[Link], others: Sequence[Link], dice: RandomStream) -> list[Link]:
    """Return links to add to a mesh most of which brings nothing (opportunistic grafting)."""
    if not mesh:
        return []
    median = sorted(link.score for link in mesh)[len(mesh) // 2]
    if median >= OPPORTUNISTIC_SCORE:
        return []
    return draw_links([o for o in others if o.score > median], mesh, OPPORTUNISTIC_MAX, dice)
