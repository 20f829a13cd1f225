"""How the segments of a run were judged, counted while their records come and go.

Core: pure functions of records.

A record is forgotten with its challenge window, and its verdict stays in the count. A segment that is accused
again after its verdict is counted nowhere until there is another.
"""

from swarm.codec import replace
from swarm.ledger.check_records import CheckPhase, SegmentPhase
from swarm.ledger.records import CONVICTIONS_KEPT, Conviction, SegmentRecord, Verdicts
from swarm.types import Height

JUDGED = frozenset(
    {
        SegmentPhase.VERIFIED,
        SegmentPhase.CLEARED,
        SegmentPhase.UNSAMPLED,
        SegmentPhase.SILENT,
        SegmentPhase.GUILTY,
    }
)
"""The phases that are counted; a count bears the name of its phase."""


def is_confirmed(record: SegmentRecord) -> bool:
    """Whether the replay of another peer agreed with what the solver has shown, and it stands."""
    stands = record.phase in {SegmentPhase.VERIFIED, SegmentPhase.CLEARED}
    return stands and any(check.phase is CheckPhase.AGREED for check in record.checks)


def recounted(
    verdicts: Verdicts, before: SegmentRecord, after: SegmentRecord, height: Height
) -> Verdicts:
    """The counts after a segment went from one phase to another."""
    changes: dict[str, object] = {}
    for record, step in ((before, -1), (after, 1)):
        if record.phase in JUDGED:
            number: int = getattr(verdicts, record.phase.value)
            changes[record.phase.value] = number + step
    confirmed = verdicts.confirmed - is_confirmed(before) + is_confirmed(after)
    if after.phase is SegmentPhase.GUILTY:
        found = Conviction(after.round, after.stage, after.seat, after.peer, height)
        changes["convictions"] = (*verdicts.convictions, found)[-CONVICTIONS_KEPT:]
    return replace(verdicts, confirmed=confirmed, **changes)
