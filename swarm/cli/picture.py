"""Read the object of /api/v1/state without trusting its shape.

Core: pure reads. A peer of another version, or a node that is still starting, leaves fields out.
"""

import math
import re
from collections.abc import Mapping
from typing import cast

from swarm.events import printable

Picture = Mapping[str, object]
NAME_CHARS_MAX = 40
_GONE = re.compile(r"unreachable|gone|lost|offline")
_SLOW = re.compile(r"slow|behind|lag")
_BUSY = re.compile(r"sync|verif|join|start|load")


def part(picture: Picture, name: str) -> Picture:
    """One object of it; empty when null or missing."""
    found = picture.get(name)
    return cast("Picture", found) if isinstance(found, Mapping) else {}


def parts(picture: Picture, name: str) -> list[Picture]:
    """One list of objects of it."""
    return [cast("Picture", one) for one in items(picture, name) if isinstance(one, Mapping)]


def items(picture: Picture, name: str) -> list[object]:
    """One list of it."""
    found = picture.get(name)
    return list(cast("list[object]", found)) if isinstance(found, list | tuple) else []


def number(picture: Picture, name: str) -> float | None:
    """One number of it; None when unknown."""
    found = picture.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if math.isfinite(found) else None


def whole(picture: Picture, name: str, default: int = 0) -> int:
    """One integer of it."""
    found = number(picture, name)
    return default if found is None else int(found)


def text(picture: Picture, name: str, chars_max: int = 200) -> str:
    """One text of it, printable: names and reasons come from strangers."""
    found = picture.get(name)
    return printable(found, chars_max) if isinstance(found, str) else ""


def me(picture: Picture) -> Picture:
    """This node among the peers; empty if it is not there yet."""
    return next((peer for peer in parts(picture, "peers") if peer.get("me") is True), {})


def steps_of(picture: Picture) -> int:
    """Inner steps this node has made since it started."""
    return whole(part(picture, "node"), "steps", whole(me(picture), "steps"))


def condition(peer: Picture) -> str:
    """``ok``, ``busy``, ``slow``, ``gone`` or ``out`` (proven false): what the shapes of the map stand for."""
    if part(peer, "audits").get("barred") is True:
        return "out"
    state = text(peer, "state")
    said = f"{state} {text(peer, 'reason')}"
    if _GONE.search(said):
        return "gone"
    if _SLOW.search(said):
        return "slow"
    return "busy" if _BUSY.search(state) else "ok"


def remark(peer: Picture) -> str:
    """The state in words: the reason when there is one to give."""
    if condition(peer) == "out":
        return "proven false, evicted"
    reason = text(peer, "reason")
    return reason if reason and reason != "ok" else text(peer, "state")


def audits(peer: Picture) -> str:
    """``12/12``: of its segments that were judged, those that stood; a dash before the first."""
    record = part(peer, "audits")
    judged = sum(whole(record, name) for name in ("verified", "failed", "silent"))
    return f"{whole(record, 'verified')}/{judged}" if judged else "-"


def name_of(peer: Picture) -> str:
    """Its human name."""
    return text(peer, "name", NAME_CHARS_MAX) or "?"
