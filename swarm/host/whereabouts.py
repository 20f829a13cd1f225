"""Tell when a machine has moved to another network, by the addresses of its interfaces.

Core: a machine. Addresses in, a move out.

    STILL --others are seen--> UNSURE --the same again--> STILL, moved
      ^                          |
      +--- those from before ----+
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Move:
    """Change of the addresses of this machine."""

    gone: tuple[str, ...]
    new: tuple[str, ...]

    def text(self) -> str:
        """Return a sentence for the owner."""
        parts = [
            f"{', '.join(hosts[:3])}{' and others' * (len(hosts) > 3)} {verb}"
            for hosts, verb in ((self.gone, "gone"), (self.new, "new"))
            if hosts
        ]
        return f"the addresses of this machine have changed: {'; '.join(parts)}; its peers are told"


class Whereabouts:
    """Addresses of a machine, as they were when it last stood still."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._settled = self._seen = frozenset(hosts)

    def look(self, hosts: Iterable[str]) -> Move | None:
        """Return what has changed, once it is so in two looks: who renews an address has none for a moment."""
        before, self._seen = self._seen, frozenset(hosts)
        if self._seen == self._settled or self._seen != before:
            return None
        move = Move(
            gone=tuple(sorted(self._settled - self._seen)),
            new=tuple(sorted(self._seen - self._settled)),
        )
        self._settled = self._seen
        return move
