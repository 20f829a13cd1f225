"""A segment is committed when all of it can be shown, and not before; a full disk costs it and nothing else."""

from types import SimpleNamespace as Some
from typing import Any

import pytest
import trio
import trio.testing

from swarm.errors import BadConfig, InvalidStatement, Reason
from swarm.events import EventKind
from swarm.ledger.transactions import CommitSegment, RevealSegment
from swarm.ledger.transition.checks import tokens_component
from swarm.node.seat.commits import RESUBMIT_BLOCKS, WINDOWS_WAITING_MAX, Commits
from swarm.primitives.crypto import SecretKey
from swarm.training.record.segment import COMPONENTS, SegmentLog, StepRecord
from swarm.training.record.window import WindowKey
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex

RUN: Any = Some(index=RunIndex(1), rounds=[Some(round=RoundIndex(0)), Some(round=RoundIndex(1))])
COUNTS = ((0, 0), (64, 0))
FULL = BadConfig("7 MiB more do not fit", hint="raise disk_quota_mb in node.toml")


class Desk:
    """A context whose disk and ledger the test opens and shuts."""

    def __init__(self) -> None:
        self.disk_is_open = trio.Event()
        self.kept: list[int] = []
        self.reveals: list[RevealSegment] = []
        self.sent: list[CommitSegment] = []
        self.said: list[tuple[EventKind, str]] = []
        self.is_full = False
        self.asked = 0
        self.refusal: Reason | None = None
        self.height = 10
        self.final: object = None
        self.context: Any = Some(
            run_index=RUN.index,
            incarnation=1,
            secret=SecretKey.from_seed(bytes(32)),
            genesis=Some(chain=Digest(bytes(32))),
            checks=self,
            ledger=self,
            report=lambda kind, text, **_: self.said.append((kind, text)),
        )

    @property
    def state(self) -> Any:  # noqa: ANN401
        return Some(segment=lambda *_: self.final)

    async def keep_window(self, _: object, data: Any) -> None:  # noqa: ANN401
        await self.disk_is_open.wait()
        if self.is_full:
            raise FULL
        self.kept.append(data.key.window)

    async def keep_reveal(self, body: RevealSegment) -> None:
        assert not self.sent, "first the disk, then the ledger"
        self.reveals.append(body)

    async def submit(self, body: CommitSegment) -> Digest:
        self.asked += 1
        if self.refusal is not None:
            raise InvalidStatement(self.refusal)
        self.sent.append(body)
        return Digest(bytes(32))


def components(number: int, counts: tuple[int, ...]) -> tuple[Digest, ...]:
    parts = [Digest(bytes([number]) * 32)] * COMPONENTS
    parts[8] = tokens_component(counts)
    return tuple(parts)


def a_log(round_: int = 0) -> SegmentLog:
    start, end = components(1, COUNTS[0]), components(2, COUNTS[1])
    log = SegmentLog(StageIndex(0), 1, RoundIndex(round_), start, end=end, tokens=64)
    log.records = [StepRecord(0, start, (), ()), StepRecord(1, None, (), ())]
    return log


def a_window(window: int, *, is_last: bool, round_: int = 0) -> Any:  # noqa: ANN401
    key = WindowKey(RUN.index, RoundIndex(round_), StageIndex(0), 1, window)
    return Some(key=key, is_last=is_last)


@pytest.mark.rule("N4", "S24")
async def test_nothing_is_committed_before_it_is_on_the_disk(autojump_clock: object) -> None:
    """Windows in order, then the reveal, then the commit; the runner that closes a segment is not held up."""
    desk = Desk()
    async with trio.open_nursery() as nursery:
        commits = Commits(desk.context, nursery)
        keeper = commits.keeper(RUN)
        for window in range(3):
            await keeper.send.send(a_window(window, is_last=window == 2))
            if window == 0:
                await trio.testing.wait_all_tasks_blocked()
            if window == WINDOWS_WAITING_MAX:
                desk.disk_is_open.set()
        commits.begin(a_log(), COUNTS, keeper)
        keeper.send.close()
        await trio.testing.wait_all_tasks_blocked()
    assert desk.kept == [0, 1, 2]
    assert len(desk.reveals) == len(desk.sent) == 1
    assert desk.reveals[0].round == desk.sent[0].round == 0
    assert [kind for kind, _ in desk.said] == [EventKind.COMMITTED]


@pytest.mark.rule("N4")
async def test_a_seat_that_is_left_still_commits(autojump_clock: object) -> None:
    """Closing the channel loses nothing that was sent, however slow the disk."""
    desk = Desk()
    async with trio.open_nursery() as nursery:
        commits = Commits(desk.context, nursery)
        keeper = commits.keeper(RUN)
        await keeper.send.send(a_window(0, is_last=True))
        commits.begin(a_log(), COUNTS, keeper)
        keeper.send.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not desk.sent
        desk.disk_is_open.set()
    assert desk.kept == [0]
    assert len(desk.sent) == 1


@pytest.mark.rule("N4", "S24")
async def test_a_full_disk_costs_the_segment_and_says_what_to_do(autojump_clock: object) -> None:
    """Training goes on, and the next segment that can be kept is committed."""
    desk = Desk()
    desk.disk_is_open.set()
    async with trio.open_nursery() as nursery:
        commits = Commits(desk.context, nursery)
        keeper = commits.keeper(RUN)
        desk.is_full = True
        await keeper.send.send(a_window(0, is_last=False))
        await keeper.send.send(a_window(1, is_last=True))
        commits.begin(a_log(0), COUNTS, keeper)
        await trio.testing.wait_all_tasks_blocked()
        assert (desk.sent, desk.reveals, desk.kept) == ([], [], [])
        kind, text = desk.said.pop()
        assert kind is EventKind.WARNING
        assert "not committed" in text
        assert text.endswith("try: raise disk_quota_mb in node.toml")
        desk.is_full = False
        await keeper.send.send(a_window(0, is_last=True, round_=1))
        commits.begin(a_log(1), COUNTS, keeper)
        keeper.send.close()
    assert [body.round for body in desk.sent] == [1]


@pytest.mark.rule("N5")
async def test_a_commit_is_sent_again_until_it_is_final_or_hopeless(
    autojump_clock: object,
) -> None:
    desk = Desk()
    async with trio.open_nursery() as nursery:
        commits = Commits(desk.context, nursery)
        commits.begin(a_log(), COUNTS, None)
        await trio.testing.wait_all_tasks_blocked()
        await commits.resubmit(RUN)
        assert len(desk.sent) == 1
        desk.height += RESUBMIT_BLOCKS
        await commits.resubmit(RUN)
        assert len(desk.sent) == 2
        desk.refusal = Reason.BARRED
        desk.height += RESUBMIT_BLOCKS
        await commits.resubmit(RUN)
        assert not commits.pending
        assert desk.said[-1][0] is EventKind.WARNING


@pytest.mark.rule("N5")
@pytest.mark.parametrize("reason", [Reason.WRONG_START, Reason.WRONG_ROUND, Reason.UNKNOWN_SEAT])
async def test_a_dead_commit_is_refused_once_and_that_is_said_once(
    autojump_clock: object, reason: Reason
) -> None:
    """After a restart the ledger may have gone on from another end: nothing mends that."""
    desk = Desk()
    desk.refusal = reason
    async with trio.open_nursery() as nursery:
        commits = Commits(desk.context, nursery)
        commits.begin(a_log(), COUNTS, None)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(8):
            desk.height += RESUBMIT_BLOCKS
            await commits.resubmit(RUN)
    assert [kind for kind, _ in desk.said] == [EventKind.WARNING]
    assert desk.asked == 1


@pytest.mark.rule("N5")
@pytest.mark.parametrize(("reason", "told"), [(Reason.FULL, 1), (Reason.DUPLICATE, 0)])
async def test_a_refusal_that_passes_is_tried_again_and_not_said_again(
    autojump_clock: object, reason: Reason, told: int
) -> None:
    desk = Desk()
    desk.refusal = reason
    async with trio.open_nursery() as nursery:
        commits = Commits(desk.context, nursery)
        commits.begin(a_log(), COUNTS, None)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            desk.height += RESUBMIT_BLOCKS
            await commits.resubmit(RUN)
        desk.refusal = None
        desk.height += RESUBMIT_BLOCKS
        await commits.resubmit(RUN)
    assert [kind for kind, _ in desk.said].count(EventKind.WARNING) == told
    assert (desk.asked, len(desk.sent)) == (5, 1)
