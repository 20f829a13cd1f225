"""What an audit found: one object with fixed keys, and the same in three lines.

Core: the node's answer in, text out. Names and sentences in it may come from strangers.
"""

from swarm.cli.ink import Ink, pad
from swarm.cli.picture import Picture, items, text
from swarm.cli.places import Place
from swarm.errors import SwarmError, Unreachable, UsageError
from swarm.events import printable

HONEST, FRAUD = "honest", "fraud"
NOT_REVEALED, NOT_SERVED = "not_revealed", "not_served"
LINES_MAX = 12
LINE_CHARS_MAX = 400

Row = dict[str, object]


def audit_row(place: Place, answer: Picture) -> Row:
    """The object of ``swarm audit --json``: these keys, always; null where there is nothing to say.

    Raises ``UsageError`` or ``Unreachable`` when there is no verdict.
    """
    verdict, said = text(answer, "verdict"), _sentences(answer)
    if verdict not in {HONEST, FRAUD}:
        raise no_verdict(place, verdict, said)
    return {
        "round": place.round,
        "stage": place.stage,
        "seat": place.seat,
        "window": answer.get("window", place.window),
        "solver": place.solver,
        "height": place.height,
        "verdict": verdict,
        "claim": _plain(answer.get("claim")),
        "replay": _plain(answer.get("replay")),
        "first_difference": _plain(answer.get("first_difference")),
        "evidence": text(answer, "evidence", LINE_CHARS_MAX) or None,
        "text": said,
    }


def no_verdict(place: Place, verdict: str, said: list[str]) -> SwarmError:
    """Why there is none: not shown yet, or not served."""
    sentence = "; ".join(said)
    named = f"--round {place.round} --stage {place.stage} --seat {place.seat}"
    if verdict == NOT_REVEALED:
        return UsageError(
            sentence or f"{where(place)} is not revealed yet",
            hint=f"swarm report {named} --window {place.window or 0}   (or wait for the checks)",
        )
    return Unreachable(
        sentence or f"nobody serves the logs of {where(place)}: its solver may be gone",
        hint=f"swarm audit {named}   (again, later)",
    )


def audit_lines(row: Row, place: Place, ink: Ink) -> list[str]:
    """The same for people: the claim, the replay, the verdict."""
    claim = f"{place.solver} #{place.height} {where(place)}, window {row['window']} of {place.num_windows}"
    if said := _short(row["claim"]):
        claim += f", {said}"
    told = [str(line) for line in items(row, "text")]
    if row["verdict"] == FRAUD:
        told = told or [f"first difference: leaf {row['first_difference']}"]
        verdict = ink.paint("gone", "FRAUD")
        if row["evidence"]:
            verdict += f" -> swarm report {row['evidence']}"
    else:
        told = told or ["every leaf and the end state are the same"]
        verdict = ink.paint("ok", "HONEST")
    rows = [("claim", claim), ("replay", told[0]), *(("", line) for line in told[1:])]
    rows.append(("verdict", verdict))
    return [f"{ink.paint('dim', pad(label, 7))} {value}" for label, value in rows]


def where(place: Place) -> str:
    """``segment 40/1/0``: round, stage, seat."""
    return f"segment {place.round}/{place.stage}/{place.seat}"


def _sentences(answer: Picture) -> list[str]:
    found = items(answer, "text") or [answer.get("text")]
    return [
        printable(line, LINE_CHARS_MAX)
        for line in found[:LINES_MAX]
        if isinstance(line, str) and line
    ]


def _plain(value: object) -> object:
    return printable(value, LINE_CHARS_MAX) if isinstance(value, str) else value


def _short(value: object) -> str:
    """A hash by its beginning, anything else as it is."""
    if value is None:
        return ""
    said = str(value)
    is_hash = len(said) >= 32 and all(letter in "0123456789abcdef" for letter in said)
    return said[:16] if is_hash else said
