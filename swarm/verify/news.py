"""What has happened to segments between two final states, as events.

Core: pure functions of the records before and after.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from swarm.crypto import peer_name
from swarm.events import EventKind
from swarm.ledger.check_records import Check, CheckPhase, SegmentPhase
from swarm.ledger.check_texts import segment_text
from swarm.ledger.records import SegmentRecord
from swarm.types import PeerId
from swarm.verify.answers import SeatPlace

ENDINGS: dict[CheckPhase, str] = {
    CheckPhase.AGREED: "agrees",
    CheckPhase.DIFFERED: "differs",
    CheckPhase.MISSED: "too late",
}


@dataclass(frozen=True, slots=True)
class News:
    """One event; ``ending`` is set where a check of ours has ended."""

    kind: EventKind
    text: str
    fields: dict[str, str | int] = field(default_factory=dict[str, str | int])
    ending: CheckPhase | None = None


def find_news(
    before: Mapping[SeatPlace, SegmentRecord], after: Mapping[SeatPlace, SegmentRecord], me: PeerId
) -> list[News]:
    """What ``after`` holds that ``before`` did not."""
    found = list[News]()
    for place, record in after.items():
        old = before.get(place)
        if old is not record:
            found += _of_segment(old, record, me)
    return found


def _of_segment(old: SegmentRecord | None, new: SegmentRecord, me: PeerId) -> list[News]:
    found = list[News]()
    was, check = _check_of(old, me), _check_of(new, me)
    has_ended = check is not None and check.phase in ENDINGS
    # What opens again because it was reported has had its checks before.
    if check is not None and has_ended and old is not None and was != check:
        found.append(_checked(new, check))
    phase = None if old is None else old.phase
    if new.phase is SegmentPhase.DISPUTED and phase is not new.phase:
        found.append(News(EventKind.DISPUTED, segment_text(new), _fields(new)))
    if new.phase is SegmentPhase.GUILTY and phase is not new.phase:
        found.append(_convicted(old, new))
    return found


def _checked(record: SegmentRecord, check: Check) -> News:
    ending = ENDINGS[check.phase]
    text = f"verified window {check.window} of {where(record)}: {ending}"
    fields = {**_fields(record), "window": check.window, "result": ending}
    return News(EventKind.CHECKED, text, fields, check.phase)


def _convicted(old: SegmentRecord | None, record: SegmentRecord) -> News:
    window = record.judged[-1]
    text = f"{peer_name(record.peer)} was convicted: window {window} of {where(record)} is false"
    fields = {**_fields(record), "window": window}
    accuser = _accuser(old, record, window)
    if accuser is not None:
        text += f", found by {peer_name(accuser)}"
        fields["accuser"] = peer_name(accuser)
    return News(EventKind.CONVICTED, text, fields)


def _accuser(old: SegmentRecord | None, record: SegmentRecord, window: int) -> PeerId | None:
    """Who is rewarded: the first blind answer that differed, a reporter if there was none."""
    blind = [
        (check.commit_height, check.peer)
        for check in record.checks
        if check.window == window and check.phase is CheckPhase.DIFFERED
    ]
    if blind:
        return min(blind, key=lambda one: one[0])[1]
    accusations = () if old is None else old.accusations
    return next((accused.peer for accused in accusations if accused.window == window), None)


def where(record: SegmentRecord) -> str:
    """``segment 12/0/1 of hazy-otter-697``."""
    return f"segment {record.round}/{record.stage}/{record.seat} of {peer_name(record.peer)}"


def _fields(record: SegmentRecord) -> dict[str, str | int]:
    place = {"run": record.run, "round": record.round, "stage": record.stage, "seat": record.seat}
    return {**place, "solver": peer_name(record.peer)}


def _check_of(record: SegmentRecord | None, peer: PeerId) -> Check | None:
    checks = () if record is None else record.checks
    return next((check for check in checks if check.peer == peer), None)
