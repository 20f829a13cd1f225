"""The segments that are being checked now, and what became of those that were.

Core: a machine; feed it final states.

Most of what a ledger remembers is judged and waits to be forgotten. Whatever is still open has something due
within the longest phase there is, so only that far is looked ahead: a look costs what is open, not what is on
record.
"""

from collections.abc import Mapping

from swarm.ledger.check_records import SegmentPhase
from swarm.ledger.phases import DISPUTE_ROUNDS
from swarm.ledger.records import SegmentRecord
from swarm.ledger.state import State
from swarm.types import RunIndex
from swarm.verify.answers import SeatPlace, place_of

OPEN = frozenset(
    {
        SegmentPhase.POSTED,
        SegmentPhase.SAMPLED,
        SegmentPhase.SEALED,
        SegmentPhase.REVEALED,
        SegmentPhase.DISPUTED,
    }
)
"""Phases in which somebody must still say something."""

Segments = Mapping[SeatPlace, SegmentRecord]


class Watch:
    """Follows the open segments from one final state to the next."""

    def __init__(self) -> None:
        self.open: tuple[SegmentRecord, ...] = ()
        """Those that are open in the state that was looked at last, oldest first."""
        self._before: dict[SeatPlace, SegmentRecord] | None = None
        self._num_runs = 0
        self._round_blocks = 0

    def look(self, state: State) -> tuple[Segments, Segments]:
        """What was open at the last look, as it was then and as it is now; what is open now is in the second.

        The first look has no before: what it finds counts as known.
        """
        found = {place_of(record): record for record in self._find(state)}
        self.open = tuple(sorted(found.values(), key=lambda r: (r.height, place_of(r))))
        before = dict(found) if self._before is None else self._before
        after = dict(found)
        for place in before:
            record = state.segment(*place)
            if record is not None:
                after[place] = record
        self._before = found
        return before, after

    def _find(self, state: State) -> list[SegmentRecord]:
        """Whatever is due until the end of the longest phase."""
        found = list[SegmentRecord]()
        last = min(state.globals.last_due, state.height + self._horizon(state))
        for height in range(state.height + 1, last + 1):
            for place in state.agenda(height).segments:
                record = state.segment(*place)
                if record is not None and record.due == height and record.phase in OPEN:
                    found.append(record)
        return found

    def _horizon(self, state: State) -> int:
        """Blocks in which the longest phase of any run ends; what a run is, it stays."""
        num_runs = state.globals.num_runs
        for index in range(self._num_runs + 1, num_runs + 1):
            run = state.find_run(RunIndex(index))
            if run is not None:
                self._round_blocks = max(self._round_blocks, run.spec.round_blocks)
        self._num_runs = num_runs
        return DISPUTE_ROUNDS * self._round_blocks + state.params.beacon_delay
