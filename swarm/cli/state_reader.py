"""Read the object of /api/v1/state without trusting its shape.

Core: pure reads. A peer of another version, or a node that is still starting, leaves fields out.

Say where a run stands and how good its model is: the same words in every view.

the ``run`` of /api/v1/state in, words out.
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


def progress(run: Picture) -> str:
    """Which round it is in, or what else happens to it: ``round 7/22``, ``agreeing: round 1 of 3``."""
    phase, round_, rounds = text(run, "phase"), whole(run, "round"), whole(run, "rounds")
    of = f"round {round_}/{rounds}" if rounds else f"round {round_}"
    if phase == "open" and not round_:
        return f"{rounds} rounds, the first begins soon"
    if phase == "open":
        return f"{of}, goes on soon"
    if phase == "paused":
        return f"paused after {of}"
    if phase == "cooling":
        step, steps = whole(run, "consensus_round"), whole(run, "consensus_rounds")
        return f"{rounds} rounds trained, agreeing: round {step} of {steps}"
    if phase in {"finished", "settled"}:
        agreed = whole(run, "consensus_rounds")
        return f"{rounds} rounds done" + (f", agreed in {agreed} more" if agreed else "")
    return f"{of}, then a pause" if run.get("is_pausing") is True else of


def phase_text(run: Picture) -> str:
    """The phase on the ledger, with what it means where the word does not say it."""
    phase = text(run, "phase")
    return "cooling: the replicas of each stage become one" if phase == "cooling" else phase


def training_loss(run: Picture) -> str:
    """``training loss 1.579``: the mean of what the peers report of their own steps."""
    loss = number(run, "loss_nats")
    return f"training loss {loss:.3f}" if loss is not None else "training loss -"


def quality(run: Picture) -> str:
    """``held-out loss 1.612 nats, perplexity 5.01: round 20, measured by this node``."""
    loss = number(run, "heldout")
    if loss is None and run.get("is_measured_here") is True:
        return "not measured on held-out text yet"
    if loss is None:
        return "not measured on held-out text by this node; swarm eval does it"
    return f"held-out loss {loss:.3f} nats, {_perplexity(run)}: {measured_at(run)}, measured by this node"


def quality_brief(run: Picture) -> str:
    """The same for a line that says much else: ``perplexity 5.01 here, round 20``."""
    is_known = number(run, "perplexity") is not None
    return f"{_perplexity(run)} here, {measured_at(run)}" if is_known else ""


def measured_at(run: Picture) -> str:
    """Of which weights the held-out loss is: ``before training``, ``round 20``, ``all agreed``."""
    if number(run, "heldout_round") is None:
        return "round unknown"
    round_, rounds = whole(run, "heldout_round"), whole(run, "rounds")
    if not round_:
        return "before training"
    into = round_ - rounds
    if not rounds or into <= 0:
        return f"round {round_}"
    if into >= whole(run, "consensus_rounds"):
        return "all agreed"
    return f"{into} of {whole(run, 'consensus_rounds')} rounds agreed"


def _perplexity(run: Picture) -> str:
    found = number(run, "perplexity")
    return "perplexity -" if found is None else f"perplexity {found:.2f}"
