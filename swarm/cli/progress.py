"""Decide what to say while a node runs, so that it is never silent and never chatters.

Core: events, pictures and the time in, lines out.
"""

from swarm.cli.ink import Ink
from swarm.cli.picture import Picture, part, text
from swarm.cli.views import headline
from swarm.events import Event, EventKind, printable

STATUS_INTERVAL_S = 5.0
"""A status line this often where nobody can redraw one: half of the longest silence allowed."""
_TOO_MANY = frozenset(
    {
        EventKind.STEP,
        EventKind.BLOCK,
        EventKind.TRADED,
        EventKind.SOLO,
        EventKind.COMMITTED,
        EventKind.CHECKED,
    }
)
"""Kinds that come many times a round: they show in the status line, and with --verbose."""
_LABELS = {
    EventKind.NODE_STARTED: "node",
    EventKind.NETWORK: "network",
    EventKind.PEER_FOUND: "peer",
    EventKind.PEER_LOST: "peer",
    EventKind.RUN_JOINED: "joined",
    EventKind.SEAT_TAKEN: "seat",
    EventKind.SEAT_YIELDED: "seat",
    EventKind.ROUND_STARTED: "round",
    EventKind.CHECKPOINT: "state",
    EventKind.DISPUTED: "dispute",
    EventKind.JUDGED: "judged",
    EventKind.CONVICTED: "caught",
    EventKind.RUN_FINISHED: "run",
    EventKind.WARNING: "warning",
    EventKind.ERROR: "error",
}
_STYLES = {
    EventKind.WARNING: "slow",
    EventKind.ERROR: "gone",
    EventKind.PEER_LOST: "slow",
    EventKind.DISPUTED: "slow",
    EventKind.CONVICTED: "gone",
}


class Progress:
    """The voice of one running node."""

    def __init__(self, ink: Ink, *, verbose: bool, is_live: bool) -> None:
        self._ink = ink
        self._verbose = verbose
        self._is_live = is_live
        self._last_said = float("-inf")
        self._last_event = "starting"
        self._map_shown = False

    def hear(self, event: Event, now: float) -> list[str]:
        """The lines an event is worth."""
        kind = event.kind
        self._last_event = printable(event.text, 200)
        is_said_elsewhere = self._last_event.startswith(("map http", "ticket swarm1:"))
        if is_said_elsewhere or (kind in _TOO_MANY and not self._verbose):
            return []
        self._last_said = now
        label = next((name for known, name in _LABELS.items() if known.value == kind), "")
        style = next((name for known, name in _STYLES.items() if known.value == kind), "dim")
        return [f"{self._ink.paint(style, f'{label:<9}')} {self._last_event}"]

    def look(self, picture: Picture | None, now: float) -> list[str]:
        """The lines that are due now: the map once, and a status when it was quiet long enough."""
        lines = list[str]()
        url = text(part(picture or {}, "node"), "api_url")
        if url and not self._map_shown:
            self._map_shown = True
            lines.append(
                f"{self._ink.paint('dim', 'map      ')} {self._ink.paint('bold', url)}"
                "   Ctrl-C leaves cleanly   next: swarm map"
            )
        if not self._is_live and now - self._last_said >= STATUS_INTERVAL_S:
            self._last_said = now
            lines.append(self.status(picture))
        return lines

    def status(self, picture: Picture | None) -> str:
        """One line: how it goes, or what the node waits for."""
        if picture is None and self._map_shown:
            return f"busy: this node's page is late; last: {self._last_event}"
        if picture is None:
            return f"waiting: {self._last_event}"
        waits = text(part(picture, "node"), "waits_for")
        if not part(picture, "run"):
            return f"{headline(picture)}  waiting: {waits or self._last_event}"
        state = text(part(picture, "node"), "state")
        return f"{headline(picture)}  {'waiting: ' + waits if waits else state}"
