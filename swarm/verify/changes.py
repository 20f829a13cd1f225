"""Track the open segments, and describe the changes of segments between two final states as events.

Core: pure functions of the records before and after, and a machine that is fed final states.

Most segments on the ledger are judged and wait to be forgotten. Every segment that is still open has something
due within the longest phase, so only that many blocks ahead are searched: a call costs in proportion to the
open segments, not to all on record. A solver that is silent when it is accused has epochs to come back: such a
segment is known from before, or found by a search of all that time, once after a start.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from swarm.events import EventKind
from swarm.ledger.describe_checks import segment_text
from swarm.ledger.state.accusations import Turn
from swarm.ledger.state.draws import Contest
from swarm.ledger.state.records import Check, CheckPhase, Conviction, SegmentPhase, SegmentRecord
from swarm.ledger.state.state import State
from swarm.ledger.transition.hearings import MOVE_BLOCKS_MIN, clock_blocks, silence_blocks
from swarm.ledger.transition.phases import DISPUTE_ROUNDS
from swarm.primitives.crypto import peer_name
from swarm.types import PeerId, RunIndex
from swarm.verify.answers import SegmentKey, key_of

ENDINGS: dict[CheckPhase, str] = {
    CheckPhase.AGREED: "agrees",
    CheckPhase.DIFFERED: "differs",
    CheckPhase.MISSED: "too late",
    CheckPhase.JACKPOT: "forced error found (jackpot)",
    CheckPhase.FOOLED: "approved a forced error",
}


@dataclass(frozen=True, slots=True)
class SegmentChange:
    """Event about a segment; ``ending`` is set if a check by this node has ended."""

    kind: EventKind
    text: str
    fields: dict[str, str | int] = field(default_factory=dict[str, str | int])
    ending: CheckPhase | None = None


def find_changes(
    before: Mapping[SegmentKey, SegmentRecord],
    after: Mapping[SegmentKey, SegmentRecord],
    me: PeerId,
) -> list[SegmentChange]:
    """Return the events for all that changed from ``before`` to ``after``."""
    found = list[SegmentChange]()
    for segment_id, record in after.items():
        old = before.get(segment_id)
        if old is not record:
            found += _of_segment(old, record, me)
    return found


def _of_segment(old: SegmentRecord | None, new: SegmentRecord, me: PeerId) -> list[SegmentChange]:
    found = list[SegmentChange]()
    was, check = _check_of(old, me), _check_of(new, me)
    has_ended = check is not None and check.phase in ENDINGS
    # A segment that a report opened again has no earlier record here: its checks ended before.
    if check is not None and has_ended and old is not None and was != check:
        found.append(_checked(new, check))
    known = 0 if old is None else len(old.contests)
    if new.peer == me:
        found += [_contested(new, contest) for contest in new.contests[known:] if contest.is_open]
    phase = None if old is None else old.phase
    if new.phase is SegmentPhase.DISPUTED and phase is not new.phase:
        found.append(SegmentChange(EventKind.DISPUTED, segment_text(new), _fields(new)))
    if _is_silent(new) and not (old is not None and _is_silent(old)):
        found.append(_fallen_silent(new, me))
    if new.phase is SegmentPhase.DOUBTED and phase is not new.phase:
        found.append(SegmentChange(EventKind.DISPUTED, segment_text(new), _fields(new)))
    if new.phase is SegmentPhase.REJECTED and phase is not new.phase:
        found.append(SegmentChange(EventKind.WARNING, segment_text(new), _fields(new)))
    if new.phase is SegmentPhase.GUILTY and phase is not new.phase:
        found.append(_convicted(new))
    return found


def _checked(record: SegmentRecord, check: Check) -> SegmentChange:
    ending = ENDINGS[check.phase]
    text = f"checked window {check.window} of {where(record)}: {ending}"
    fields = {**_fields(record), "window": check.window, "result": ending}
    return SegmentChange(EventKind.CHECKED, text, fields, check.phase)


def _contested(record: SegmentRecord, contest: Contest) -> SegmentChange:
    """Tell a solver that somebody could not get its log: a router or a full disk may be the reason."""
    who = peer_name(record.checks[contest.check].peer)
    text = (
        f"{who} says that this node does not serve window {contest.window} of {where(record)}: witnesses will"
        " try, and if most cannot get it the segment is not paid; can peers reach this node?"
    )
    fields = {**_fields(record), "window": contest.window}
    return SegmentChange(EventKind.WARNING, text, fields)


def _is_silent(record: SegmentRecord) -> bool:
    return record.dispute is not None and record.dispute.turn == Turn.SILENT


def _fallen_silent(record: SegmentRecord, me: PeerId) -> SegmentChange:
    """Tell everybody that a solver has not answered, and that solver what it may still do."""
    assert record.dispute is not None, "who is silent is accused"
    if record.peer != me:
        return SegmentChange(EventKind.DISPUTED, segment_text(record), _fields(record))
    text = (
        f"this node did not answer in time when {where(record)} was accused: its seat is gone, and its stake at"
        f" height {record.dispute.deadline}, unless it answers before; keep it running"
    )
    return SegmentChange(EventKind.ERROR, text, _fields(record))


def _convicted(record: SegmentRecord) -> SegmentChange:
    if record.proved_by:
        who = peer_name(PeerId(record.proved_by))
        text = f"{peer_name(record.peer)} was convicted: {where(record)} is false"
        fields = {**_fields(record), "accuser": who}
        told = f"{text} by what it signed itself, proved by {who}"
        return SegmentChange(EventKind.CONVICTED, told, fields)
    window = record.judged[-1]
    text = f"{peer_name(record.peer)} was convicted: window {window} of {where(record)} is false"
    fields = {**_fields(record), "window": window}
    accuser = _accuser(record, window)
    if accuser is not None:
        text += f", found by {peer_name(accuser)}"
        fields["accuser"] = peer_name(accuser)
    return SegmentChange(EventKind.CONVICTED, text, fields)


def _accuser(record: SegmentRecord, window: int) -> PeerId | None:
    """Return the rewarded accuser: the first blind answer that differed, a report only if no verifier's did."""
    blind = [
        (check.is_report, check.commit_height, check.peer)
        for check in record.checks
        if check.window == window and check.phase is CheckPhase.DIFFERED
    ]
    return min(blind, key=lambda one: one[:2])[2] if blind else None


def where(record: SegmentRecord) -> str:
    """Return ``segment 12/0/1 of hazy-otter-697``: round, stage, seat and solver."""
    return f"segment {record.round}/{record.stage}/{record.seat} of {peer_name(record.peer)}"


def _fields(record: SegmentRecord) -> dict[str, str | int]:
    fields = {"run": record.run, "round": record.round, "stage": record.stage, "seat": record.seat}
    return {**fields, "solver": peer_name(record.peer)}


def _check_of(record: SegmentRecord | None, peer: PeerId) -> Check | None:
    checks = () if record is None else record.checks
    return next((check for check in checks if check.peer == peer), None)


OPEN = frozenset(
    {
        SegmentPhase.POSTED,
        SegmentPhase.SAMPLED,
        SegmentPhase.SEALED,
        SegmentPhase.REVEALED,
        SegmentPhase.DISPUTED,
        SegmentPhase.DOUBTED,
    }
)
"""Phases in which a statement is still missing."""

Segments = Mapping[SegmentKey, SegmentRecord]


class OpenSegments:
    """Tracker of the open segments from one final state to the next."""

    def __init__(self) -> None:
        self.open: tuple[SegmentRecord, ...] = ()
        """Segments that were open in the last state given to ``look``, oldest first."""
        self._before: dict[SegmentKey, SegmentRecord] | None = None
        self._convicted = set[Conviction]()
        self._num_runs = 0
        self._round_blocks = 0
        self._height = 0

    def look(self, state: State) -> tuple[Segments, Segments]:
        """Return (previous, current) records of the segments that were open at the last call or are open now.

        The previous ones hold only segments that were open at the last call. The first call has none: what it
        finds counts as known.
        """
        found = {key_of(record): record for record in self._find(state)}
        self.open = tuple(sorted(found.values(), key=lambda r: (r.height, key_of(r))))
        before = dict(found) if self._before is None else self._before
        after = {**found, **self._newly_convicted(state, is_first=self._before is None)}
        for segment_id in before:
            record = state.segment(*segment_id)
            if record is not None:
                after[segment_id] = record
        self._before = found
        return before, after

    def _newly_convicted(self, state: State, *, is_first: bool) -> dict[SegmentKey, SegmentRecord]:
        """Return the records of segments convicted since the last call: a proof needs no open phase."""
        found = dict[SegmentKey, SegmentRecord]()
        known, self._convicted = self._convicted, set[Conviction]()
        for index in range(1, state.globals.num_runs + 1):
            for one in state.verdicts(RunIndex(index)).convictions:
                self._convicted.add(one)
                key = (RunIndex(index), one.round, one.stage, one.seat)
                record = state.segment(*key)
                if record is not None and one not in known and not is_first:
                    found[key] = record
        return found

    def _find(self, state: State) -> list[SegmentRecord]:
        """Return the open segments: those that were open before, or have something due before long."""
        found, before = list[SegmentRecord](), self._before or {}
        known = [record for key in before if (record := state.segment(*key)) is not None]
        found += [record for record in known if record.phase in OPEN]
        is_new = self._before is None or state.height - self._height > MOVE_BLOCKS_MIN
        self._height = state.height
        last = min(state.globals.last_due, state.height + self._horizon(state, is_whole=is_new))
        for height in range(state.height + 1, last + 1):
            for segment_id in state.due_queue(height).segments:
                record = state.segment(*segment_id)
                if record is not None and record.due == height and record.phase in OPEN:
                    found.append(record)
        return found

    def _horizon(self, state: State, *, is_whole: bool) -> int:
        """Return the number of blocks in which the longest phase of any run ends; a run never changes it.

        That in which a silent solver may come back counts if ``is_whole``.
        """
        num_runs, params = state.globals.num_runs, state.params
        for index in range(self._num_runs + 1, num_runs + 1):
            run = state.find_run(RunIndex(index))
            if run is not None:
                self._round_blocks = max(self._round_blocks, run.spec.round_blocks)
        self._num_runs = num_runs
        near = max(DISPUTE_ROUNDS * self._round_blocks, MOVE_BLOCKS_MIN) + params.beacon_delay
        if not is_whole:
            return near
        silence = silence_blocks(params.unbonding_epochs, params.epoch_blocks)
        return max(near, clock_blocks(self._round_blocks), silence)
