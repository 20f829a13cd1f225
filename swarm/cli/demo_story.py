"""What to tell of the checks while the demo runs: who is caught, who is evicted, whose stake went where.

Core: pictures in, sentences out, each once.
"""

from swarm.cli.ink import human_count
from swarm.cli.picture import (
    NAME_CHARS_MAX,
    Picture,
    items,
    name_of,
    number,
    part,
    parts,
    text,
    whole,
)
from swarm.events import printable
from swarm.ledger.payments import ACCUSER_PERCENT


class Story:
    """Remembers what was told, and what was at stake."""

    def __init__(self) -> None:
        self._told = set[str]()
        self._stakes: dict[str, int] = {}

    def read(self, picture: Picture) -> list[str]:
        """The sentences that this picture adds."""
        found = list[tuple[str, str]]()
        for check in parts(picture, "checks"):
            if text(check, "phase") == "disputed":
                found.append((f"caught {_place(check)}", self._caught(check)))
        for conviction in reversed(parts(picture, "convictions")):
            found.append((f"evicted {name_of(conviction)}", self._evicted(conviction)))
        for peer in parts(picture, "peers"):
            stake = whole(peer, "stake")
            self._stakes[name_of(peer)] = max(stake, self._stakes.get(name_of(peer), 0))
        fresh = [(key, said) for key, said in found if key not in self._told]
        self._told.update(key for key, _ in fresh)
        return [said for _, said in fresh]

    def _caught(self, check: Picture) -> str:
        window = number(part(check, "dispute"), "window")
        which = "a window" if window is None else f"window {window:.0f}"
        finders = ", ".join(_names(check, "accusers"))
        by = f" ({finders} found it)" if finders else ""
        return f"caught: {which} of segment {_place(check)} of {name_of(check)} differs{by}"

    def _evicted(self, conviction: Picture) -> str:
        name = name_of(conviction)
        finder = text(conviction, "accuser", NAME_CHARS_MAX)
        taken = whole(conviction, "stake_taken", self._stakes.get(name, 0))
        share = human_count(taken * ACCUSER_PERCENT // 100)
        to = f": {share} to {finder}, the rest to the judges and the fire" if finder else ""
        return f"{name} is evicted, its stake of {human_count(taken)} is taken{to}"


def _place(row: Picture) -> str:
    return f"{whole(row, 'round')}/{whole(row, 'stage')}/{whole(row, 'seat')}"


def _names(row: Picture, key: str) -> list[str]:
    return [printable(name, NAME_CHARS_MAX) for name in items(row, key) if isinstance(name, str)]
