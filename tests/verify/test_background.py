"""A node audits by itself what has passed, as much as it wants, and what nobody has seen first."""

import random
from collections.abc import Mapping

import pytest
import trio
from trio.testing import MockClock

from swarm.errors import Unreachable
from swarm.events import EventKind
from swarm.ledger.state.records import CheckPhase, SegmentPhase, SegmentRecord
from swarm.primitives.codec import replace
from swarm.training.record.window import WindowKey
from swarm.types import Digest, PeerId
from swarm.verify.answers import SegmentKey, key_of
from swarm.verify.audit import AuditResult
from swarm.verify.background import QUEUE_MAX, BackgroundAudits, chosen
from tests.ledger.checking import a_case

ME = PeerId(bytes(32))


def passed(
    count: int, phase: SegmentPhase = SegmentPhase.VERIFIED
) -> tuple[Mapping[SegmentKey, SegmentRecord], Mapping[SegmentKey, SegmentRecord]]:
    """The records of segments before and after they have passed."""
    case = a_case(num_steps=40)
    shown = replace(case.record, claims=tuple(r.claim for r in case.true.results))
    before = {key_of(one): one for one in (replace(shown, round=n) for n in range(count))}
    return before, {key: replace(one, phase=phase) for key, one in before.items()}


@pytest.mark.rule("V55")
def test_a_share_of_what_has_passed_is_chosen_and_nothing_twice() -> None:
    before, after = passed(400)
    assert chosen(before, after, ME, 0.0, random.Random(1)) == []
    assert len(chosen(before, after, ME, 1.0, random.Random(1))) == 400
    assert 60 < len(chosen(before, after, ME, 0.2, random.Random(1))) < 100
    assert chosen(after, after, ME, 1.0, random.Random(1)) == []
    assert chosen({}, after, ME, 1.0, random.Random(1)) == [], "passed before this node looked"


@pytest.mark.parametrize("phase", list(SegmentPhase))
def test_only_what_may_be_judged_again_is_chosen(phase: SegmentPhase) -> None:
    is_paid = phase in {SegmentPhase.VERIFIED, SegmentPhase.UNSAMPLED}
    assert len(chosen(*passed(1, phase), ME, 1.0, random.Random(1))) == is_paid
    (record,) = passed(1, phase)[1].values()
    assert chosen(*passed(1, phase), record.peer, 1.0, random.Random(1)) == [], "its own work"


def test_a_window_that_another_has_replayed_is_taken_last() -> None:
    case = a_case(num_steps=40)
    windows = case.up_to_reveal()
    record = case.record
    agreed = tuple(replace(check, phase=CheckPhase.AGREED) for check in record.checks)
    record = replace(record, checks=agreed)
    before = {key_of(record): record}
    after = {key_of(record): replace(record, phase=SegmentPhase.VERIFIED)}
    seen = {chosen(before, after, ME, 1.0, random.Random(n))[0][1].window for n in range(60)}
    assert seen == set(range(len(record.claims))) - set(windows.values())
    one = replace(record, claims=record.claims[:1], checks=(replace(agreed[0], window=0),))
    found = chosen(
        {key_of(one): one},
        {key_of(one): replace(one, phase=SegmentPhase.VERIFIED)},
        ME,
        1.0,
        random.Random(1),
    )
    assert [key.window for _, key in found] == [0]


async def test_more_than_it_can_do_gives_way_and_what_is_not_served_is_told(
    autojump_clock: MockClock,
) -> None:
    told = list[str]()

    class Unserved:
        async def audit(self, key: WindowKey) -> AuditResult:
            raise Unreachable(f"nobody serves window {key.window}")

        async def report(self, found: AuditResult) -> Digest:
            raise AssertionError(found)

    def report(kind: EventKind, text: str, **_: str | int) -> None:
        assert kind is EventKind.WARNING
        told.append(text)

    audits = BackgroundAudits(Unserved(), ME, report, 1.0, random.Random(1))
    audits.note(*passed(QUEUE_MAX + 5))
    with trio.move_on_after(10):
        await audits.run()
    assert len(told) == QUEUE_MAX
    assert all("nobody serves window" in text for text in told)
