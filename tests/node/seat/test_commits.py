"""A segment is committed when all of it can be shown, and not before; a full disk costs it and nothing else."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from swarm.errors import BadConfig, InvalidStatement, Reason
from swarm.events import EventKind
from swarm.ledger.check_statements import RevealSegment
from swarm.ledger.state.records import Run, Seat
from swarm.ledger.transactions import START_PREFIX_BYTES, TAKES_MOST, Body, CommitSegment
from swarm.node.seat.commits import RESUBMIT_BLOCKS, WINDOWS_WAITING_MAX, Commits
from swarm.primitives.codec import replace
from swarm.primitives.edges import SentEntry
from swarm.primitives.state_parts import COMPONENTS
from swarm.testing.ledger import small_run_spec
from swarm.training.record.segment import SegmentLog, StepRecord
from swarm.training.record.window import WindowData, WindowKey
from swarm.types import Digest, Height, RoundIndex, RunIndex, StageIndex
from swarm.verify.transcript import state_root
from tests.node.fakes import FakeLedger, FakeNode, a_round, a_run, unused

RUN = a_run(small_run_spec(), rounds=(a_round(0, 0), a_round(1, 4)))
FULL = BadConfig("7 MiB more do not fit", hint="raise disk_quota_mb in node.toml")


class Harness(FakeLedger):
    """A disk and a ledger that the test opens and shuts."""

    def __init__(self) -> None:
        self.disk_is_open = trio.Event()
        self.kept: list[int] = []
        self.reveals: list[RevealSegment] = []
        self.sent: list[CommitSegment] = []
        self.is_full = False
        self.asked = 0
        self.refusal: Reason | None = None
        self.height = Height(10)
        self.current = RUN
        self.state = self
        self.node = FakeNode(run_index=RUN.index, checks=self, ledger=self)

    def segment(self, *_: object) -> None:
        """Nothing is final."""

    def run(self, index: RunIndex) -> Run:
        assert index == RUN.index
        return self.current

    def pass_blocks(self) -> None:
        """As many blocks as a commit is waited for."""
        self.height = Height(self.height + RESUBMIT_BLOCKS)

    async def keep_window(self, run: Run, data: WindowData) -> None:
        await self.disk_is_open.wait()
        if self.is_full:
            raise FULL
        self.kept.append(data.key.window)

    def has_closed(self, key: object) -> bool:
        """Nothing was closed before."""
        return False

    async def keep_reveal(self, body: RevealSegment, sent: Sequence[SentEntry]) -> None:
        assert not self.sent, "first the disk, then the ledger"
        self.reveals.append(body)

    async def submit(self, body: Body) -> Digest:
        assert isinstance(body, CommitSegment)
        self.asked += 1
        if self.refusal is not None:
            raise InvalidStatement(self.refusal)
        self.sent.append(body)
        return Digest(bytes(32))


def components(number: int) -> tuple[Digest, ...]:
    return (Digest(bytes([number]) * 32),) * COMPONENTS


def a_log(round_: int = 0) -> SegmentLog:
    start, end = components(1), components(2)
    log = SegmentLog(StageIndex(0), 1, RoundIndex(round_), start, end=end, tokens=64)
    log.records = [StepRecord(0, start, (), (), 32), StepRecord(1, None, (), (), 32)]
    return log


def a_window(window: int, *, is_last: bool, round_: int = 0) -> WindowData:
    key = WindowKey(RUN.index, RoundIndex(round_), StageIndex(0), 1, window)
    return WindowData(key, is_last, unused(), ())


@pytest.mark.rule("N4", "S24")
async def test_nothing_is_committed_before_it_is_on_the_disk(autojump_clock: object) -> None:
    """Windows in order, then the reveal, then the commit; the runner that closes a segment is not held up."""
    harness = Harness()
    async with trio.open_nursery() as nursery:
        commits = Commits(harness.node, nursery)
        keeper = commits.keeper(RUN)
        for window in range(3):
            await keeper.send.send(a_window(window, is_last=window == 2))
            if window == 0:
                await trio.testing.wait_all_tasks_blocked()
            if window == WINDOWS_WAITING_MAX:
                harness.disk_is_open.set()
        commits.begin(a_log(), keeper)
        keeper.send.close()
        await trio.testing.wait_all_tasks_blocked()
    assert harness.kept == [0, 1, 2]
    assert len(harness.reveals) == len(harness.sent) == 1
    assert harness.reveals[0].round == harness.sent[0].round == 0
    assert harness.node.report.kinds() == [EventKind.COMMITTED]


@pytest.mark.rule("N4")
async def test_a_seat_that_is_left_still_commits(autojump_clock: object) -> None:
    """Closing the channel loses nothing that was sent, however slow the disk."""
    harness = Harness()
    async with trio.open_nursery() as nursery:
        commits = Commits(harness.node, nursery)
        keeper = commits.keeper(RUN)
        await keeper.send.send(a_window(0, is_last=True))
        commits.begin(a_log(), keeper)
        keeper.send.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not harness.sent
        harness.disk_is_open.set()
    assert harness.kept == [0]
    assert len(harness.sent) == 1


@pytest.mark.rule("N4", "S24")
async def test_a_full_disk_costs_the_segment_and_says_what_to_do(autojump_clock: object) -> None:
    """Training goes on, and the next segment that can be kept is committed."""
    harness = Harness()
    harness.disk_is_open.set()
    async with trio.open_nursery() as nursery:
        commits = Commits(harness.node, nursery)
        keeper = commits.keeper(RUN)
        harness.is_full = True
        await keeper.send.send(a_window(0, is_last=False))
        await keeper.send.send(a_window(1, is_last=True))
        commits.begin(a_log(0), keeper)
        await trio.testing.wait_all_tasks_blocked()
        assert (harness.sent, harness.reveals, harness.kept) == ([], [], [])
        kind, text = harness.node.report.events.pop()
        assert kind is EventKind.WARNING
        assert "not committed" in text
        assert text.endswith("try: raise disk_quota_mb in node.toml")
        harness.is_full = False
        await keeper.send.send(a_window(0, is_last=True, round_=1))
        commits.begin(a_log(1), keeper)
        keeper.send.close()
    assert [body.round for body in harness.sent] == [1]


@pytest.mark.rule("N5")
@pytest.mark.parametrize("is_known", [True, False])
async def test_a_commit_names_its_start_in_short_where_the_ledger_has_it(
    autojump_clock: object, *, is_known: bool
) -> None:
    """In full where it is not the end of the seat's last segment, or is not on the ledger yet."""
    harness, start = Harness(), state_root(components(1))
    end = start if is_known else state_root(components(7))
    seat = Seat(
        stage=StageIndex(0),
        index=1,
        peer=harness.node.secret.peer,
        joined_round=RoundIndex(0),
        last_commit_round=0,
        last_end_root=end,
        last_tokens=64,
        last_verified_round=-1,
        is_volunteer=False,
        is_on_trial=False,
        ask=TAKES_MOST,
        seated_ask=TAKES_MOST,
    )
    harness.current = replace(RUN, seats=((seat,), *RUN.seats[1:]))
    async with trio.open_nursery() as nursery:
        Commits(harness.node, nursery).begin(a_log(1), None)
    (body,) = harness.sent
    assert body.start == (start[:START_PREFIX_BYTES] if is_known else start)


@pytest.mark.rule("N5")
async def test_a_commit_is_sent_again_until_it_is_final_or_hopeless(
    autojump_clock: object,
) -> None:
    harness = Harness()
    async with trio.open_nursery() as nursery:
        commits = Commits(harness.node, nursery)
        commits.begin(a_log(), None)
        await trio.testing.wait_all_tasks_blocked()
        await commits.resubmit(RUN)
        assert len(harness.sent) == 1
        harness.pass_blocks()
        await commits.resubmit(RUN)
        assert len(harness.sent) == 2
        harness.refusal = Reason.BARRED
        harness.pass_blocks()
        await commits.resubmit(RUN)
        assert not commits.pending
        assert harness.node.report.kinds()[-1] is EventKind.WARNING


@pytest.mark.rule("N5")
@pytest.mark.parametrize("reason", [Reason.WRONG_START, Reason.WRONG_ROUND, Reason.UNKNOWN_SEAT])
async def test_a_dead_commit_is_refused_once_and_that_is_reported_once(
    autojump_clock: object, reason: Reason
) -> None:
    """After a restart the ledger may have gone on from another end: nothing mends that."""
    harness = Harness()
    harness.refusal = reason
    async with trio.open_nursery() as nursery:
        commits = Commits(harness.node, nursery)
        commits.begin(a_log(), None)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(8):
            harness.pass_blocks()
            await commits.resubmit(RUN)
    assert harness.node.report.kinds() == [EventKind.WARNING]
    assert harness.asked == 1


@pytest.mark.rule("N5")
@pytest.mark.parametrize(("reason", "num_reports"), [(Reason.FULL, 1), (Reason.DUPLICATE, 0)])
async def test_a_refusal_that_passes_is_tried_again_and_not_reported_again(
    autojump_clock: object, reason: Reason, num_reports: int
) -> None:
    harness = Harness()
    harness.refusal = reason
    async with trio.open_nursery() as nursery:
        commits = Commits(harness.node, nursery)
        commits.begin(a_log(), None)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            harness.pass_blocks()
            await commits.resubmit(RUN)
        harness.refusal = None
        harness.pass_blocks()
        await commits.resubmit(RUN)
    assert harness.node.report.kinds().count(EventKind.WARNING) == num_reports
    assert (harness.asked, len(harness.sent)) == (5, 1)
