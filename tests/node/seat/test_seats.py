"""Seats are left with what may still be asked of them, and show nothing that no peer could replay."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch
import trio

from swarm.events import EventKind
from swarm.ledger.state.records import Checkpoint, Rollback, RoundInfo, Run, RunPhase, Seat
from swarm.node.context import NodeStats
from swarm.node.control.planner import BeginRound, CloseRound, LeaveSeat
from swarm.node.seat import seats as module
from swarm.node.seat.seats import CLOSED_KEPT, RunningSeat, Seats
from swarm.primitives.codec import replace
from swarm.testing.ledger import small_run_spec
from swarm.training.pipeline import Pipeline
from swarm.training.record.segment import MergeRecord, SegmentLog, StepRecord
from swarm.types import NO_DIGEST, Digest, Height, PeerId, RoundIndex, StageIndex
from tests.node.fakes import KEY, FakeArtifacts, FakeBlobs, FakeLedger, FakeNode, a_round, a_run

STAGE = StageIndex(0)
BLOCKS = 10


class FakeKeeper:
    """Keeps nothing, and can be closed."""

    @property
    def send(self) -> "FakeKeeper":
        return self

    def close(self) -> None:
        """Nothing to close."""


class FakePipeline:
    """Carries nothing."""

    def remove(self, _: object) -> None:
        """Nothing to remove."""


KEEPER, PIPELINE = FakeKeeper(), cast("Pipeline", FakePipeline())
SPEC = small_run_spec(num_stages=1, round_blocks=10, rounds=20)
INITIAL = SPEC.starts[0].weights


def root(round_: int) -> Digest:
    return Digest(bytes([round_]) * 32)


@dataclass
class FakeEngine:
    """Devices that the test takes away."""

    notices: deque[str] = field(default_factory=deque)
    is_gone: bool = False


@dataclass
class FakeShard:
    """A shard without weights."""

    anchor_root: Digest
    stage: StageIndex = STAGE
    hashing_s: float = 1.0
    tokens_total: int = 0
    tokens_at_sync: tuple[int, ...] = ()
    engine: FakeEngine = field(default_factory=FakeEngine)


class FakeRunner:
    """A seat's runner whose segments take no time."""

    def __init__(self, anchor_root: Digest) -> None:
        self.shard = FakeShard(anchor_root)
        self.log: SegmentLog | None = None
        self.begun: list[tuple[int, Digest | None, bool]] = []

    @property
    def jobs(self) -> "FakeRunner":
        """Its jobs take no thread."""
        return self

    async def phi(self) -> torch.Tensor:
        return torch.zeros(1)

    async def begin_round(
        self, plan: RoundInfo, anchor: tuple[torch.Tensor, Digest] | None, *, is_shown: bool
    ) -> None:
        steps: list[StepRecord | MergeRecord] = [StepRecord(n, None, (), (), 0) for n in range(3)]
        self.log = SegmentLog(STAGE, 0, plan.round, (), steps)
        self.begun.append((plan.round, None if anchor is None else anchor[1], is_shown))
        if anchor is not None:
            self.shard.anchor_root = anchor[1]

    async def close_round(self) -> SegmentLog:
        await trio.lowlevel.checkpoint()
        log, self.log = self.log, None
        assert log is not None
        return log


class Harness(FakeArtifacts):
    """A node with one seat, a ledger and a disk that the test fills."""

    def __init__(self, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
        self.saved: list[int] = []
        self.committed: list[int] = []
        self.ledger, self.blobs = FakeLedger(), FakeBlobs()
        self.closed_before = set[int]()
        """Rounds that were closed before this node started again."""
        self.node = FakeNode(
            run=a_run(SPEC),
            ledger=self.ledger,
            blobs=self.blobs,
            artifacts=self,
            pipeline=PIPELINE,
            checks=self,  # type: ignore[arg-type]
        )
        self.seats = Seats(self.node, nursery)
        self.runner = FakeRunner(INITIAL)
        seat = Seat(
            stage=STAGE,
            index=0,
            peer=KEY.peer,
            joined_round=RoundIndex(0),
            last_commit_round=RoundIndex(0),
            last_end_root=NO_DIGEST,
            last_tokens=0,
            is_volunteer=False,
            last_verified_round=-1,
            is_on_trial=False,
            ask=0,
            seated_ask=0,
        )
        self.live = RunningSeat(seat, runner=self.runner, keeper=KEEPER)  # type: ignore[arg-type]
        self.seats.live[STAGE, 0] = self.live
        monkeypatch.setattr(self.seats.commits, "begin", self._commit)
        monkeypatch.setattr(
            self.seats.commits, "is_under_way", lambda _, __, round_: round_ in self.committed
        )
        monkeypatch.setattr(module, "round_plan", lambda _, info, __: info)
        monkeypatch.setattr(module, "keep_shard", self._keep)

    @property
    def run(self) -> Run:
        """The run as the node sees it."""
        assert self.node.run is not None
        return self.node.run

    @property
    def reported(self) -> list[EventKind]:
        """The kinds of what was reported."""
        return self.node.report.kinds()

    def change(self, **facts: object) -> None:
        """Let the ledger go on."""
        self.node.run = replace(self.run, **facts)

    # --- artifacts ---

    async def checkpoint(
        self, run: Run, stage: StageIndex, checkpoint: Checkpoint, patience_s: float = 0.0
    ) -> torch.Tensor:
        assert checkpoint.phi_root in self.blobs.here
        return torch.zeros(1)

    # --- what becomes of segments ---

    def has_closed(self, key: tuple[int, int, int, int]) -> bool:
        return key[1] in self.closed_before

    def _commit(self, log: SegmentLog, *_: object) -> None:
        self.committed.append(log.round)

    async def _keep(self, *arguments: Any) -> None:  # noqa: ANN401
        self.saved.append(arguments[-1])

    # --- the ledger ---

    def draw(self, round_: int, seat: int) -> None:
        """Cross a boundary whose beacon draws ``seat`` for the checkpoint."""
        info = a_round(round_, round_ * BLOCKS, drawn=(seat,))
        self.change(rounds=(*self.run.rounds[-3:], info))
        self.ledger.height = info.height
        self.seats.tidy(self.run)

    def post(self, round_: int) -> None:
        """The checkpoint of a boundary is final half a round later."""
        height = Height(round_ * BLOCKS + BLOCKS // 2)
        kept = Checkpoint(
            round=RoundIndex(round_),
            phi_root=root(round_),
            phi_bytes=4,
            peer=PeerId(bytes(32)),
            seat=0,
            height=height,
            is_void=False,
        )
        self.change(checkpoints=((kept, *self.run.checkpoints[0]),))

    async def begin(self) -> None:
        """Open the segment of the newest round; the first time the shard was found in it."""
        if not self.runner.begun:
            self.live.current = self.run.rounds[-1].round
        await self.seats.begin(BeginRound(STAGE, 0, self.run.rounds[-1]))

    def held(self) -> list[int]:
        """The rounds whose phi is held."""
        return [r for r in range(30) if self.seats.closed(STAGE, 0, RoundIndex(r)) is not None]


@pytest.mark.rule("N7")
async def test_a_seat_that_was_left_posts_the_last_checkpoint(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """The last boundary of a run draws among those who leave at it: their phi is held until it is posted."""
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, monkeypatch)
        harness.change(end_round=RoundIndex(7))
        harness.draw(6, -1)
        await harness.begin()
        harness.draw(7, 0)
        harness.change(phase=RunPhase.FINISHED)
        nursery.start_soon(harness.seats.leave, LeaveSeat(STAGE, 0))
        await harness.seats.leave(LeaveSeat(STAGE, 0))
    assert (harness.committed, harness.saved) == ([6], [6])
    assert harness.reported == [EventKind.SEAT_YIELDED]
    assert not harness.seats.live
    assert harness.seats.hashing_s() == 1.0
    harness.seats.tidy(harness.run)
    assert harness.held() == [6]
    harness.post(7)
    harness.seats.tidy(harness.run)
    assert harness.held() == []


@pytest.mark.rule("N7")
async def test_phi_is_held_no_longer_than_it_can_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, monkeypatch)
        for round_, drawn in ((3, -1), (4, 1), (5, 0), (6, 0), (7, 0)):
            harness.draw(round_, drawn)
            await harness.begin()
        harness.seats.tidy(harness.run)
        assert harness.held() == [5, 6]  # 3 was not drawn, 4 is too late
        for round_ in (8, 9, 10):
            harness.ledger.height = Height(round_ * BLOCKS - 1)  # nothing is let go of
            harness.change(rounds=(a_round(round_, round_ * BLOCKS, drawn=(0,)),))
            await harness.begin()
        assert len(harness.held()) == CLOSED_KEPT
        harness.change(phase=RunPhase.SETTLED)
        harness.seats.tidy(harness.run)
        assert harness.held() == []


@pytest.mark.rule("N6")
async def test_an_anchor_that_the_ledger_forgets_costs_one_segment_and_the_seat_begins_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """Nobody could replay it: such a segment is neither kept nor committed."""
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, monkeypatch)
        harness.runner.shard.anchor_root = root(2)
        for round_ in (2, 3):
            harness.post(round_)
        harness.draw(4, -1)
        await harness.begin()  # late by one, and the newer is not on this disk: that is allowed for
        harness.post(4)
        harness.draw(5, -1)
        await harness.begin()  # late by two
        assert harness.reported == [EventKind.WARNING]
        harness.draw(6, -1)
        await harness.begin()
        assert not harness.seats.live, "it is taken again"
    shown = [(round_, is_shown) for round_, _, is_shown in harness.runner.begun]
    assert shown == [(4, True), (5, False)]
    assert harness.committed == harness.saved == [4]


@pytest.mark.rule("L90")
async def test_a_seat_whose_segment_never_comes_to_the_ledger_begins_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """It goes on while the commit may still come, and from the next boundary on no more."""
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, monkeypatch)
        for round_ in (4, 5, 6):
            harness.draw(round_, -1)
            await harness.begin()
        assert harness.committed == [4, 5]
        harness.committed.remove(4)  # it was refused
        harness.draw(7, -1)
        await harness.begin()
        assert not harness.seats.live
    assert [round_ for round_, _, _ in harness.runner.begun] == [4, 5, 6]


@pytest.mark.rule("N6")
async def test_without_windows_no_segment_is_judged_and_all_are_committed(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, monkeypatch)
        harness.live.keeper = None
        harness.runner.shard.anchor_root = root(1)
        for round_ in (2, 3, 4):
            harness.post(round_)
        harness.draw(6, -1)
        await harness.begin()
        await harness.seats.leave(LeaveSeat(STAGE, 0))
    assert harness.committed == [6]


@pytest.mark.rule("N6")
async def test_initial_weights_are_an_anchor_for_ever(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, monkeypatch)
        for round_ in (2, 3, 4):
            harness.post(round_)
        harness.draw(6, -1)
        await harness.begin()
    assert harness.runner.begun == [(6, None, True)]


@pytest.mark.rule("N10")
async def test_a_seat_that_slept_too_long_begins_again_from_another_state(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """Up to two rounds behind it goes on; further behind it is dropped, and found again elsewhere."""
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, monkeypatch)
        for round_ in (5, 8, 12):
            harness.draw(round_, -1)
            await harness.begin()
            assert bool(harness.seats.live) == (round_ < 12), (
                "rounds 6 and 7, then 9, 10 and 11 missed"
            )
    assert [round_ for round_, *_ in harness.runner.begun] == [5, 8]
    assert harness.committed == [5, 8], "what was open is committed all the same"


@pytest.mark.rule("N10", "L117")
@pytest.mark.parametrize("is_unshown", [False, True])
async def test_a_stage_that_is_set_back_and_a_segment_not_shown_take_seats_with_them(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object, *, is_unshown: bool
) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, monkeypatch)
        harness.draw(5, -1)
        await harness.begin()
        if is_unshown:
            harness.change(seats=((replace(harness.live.seat, anew_round=6),),))
        else:
            harness.change(rollbacks=(Rollback(4, 6),))
        harness.draw(6, -1)
        await harness.begin()
        assert not harness.seats.live
        harness.live.current, harness.runner.begun = 6, []
        harness.seats.live[STAGE, 0] = harness.live
        harness.draw(7, -1)
        await harness.begin()
        assert harness.seats.live, "it has begun again already"


async def test_a_pause_closes_what_is_open_and_keeps_the_seat(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, monkeypatch)
        harness.draw(5, -1)
        await harness.begin()
        assert [seat.is_open for seat in harness.seats.locals()] == [True]
        for _ in range(2):
            await harness.seats.close(CloseRound(STAGE, 0))
        assert [seat.is_open for seat in harness.seats.locals()] == [False]
        harness.ledger.height = Height(10_000)
        harness.seats.tidy(harness.run)
        assert harness.held() == [5], "the draw comes after the pause"
        harness.draw(6, 0)
        await harness.begin()
    assert (harness.committed, harness.saved) == ([5], [5])
    assert [round_ for round_, *_ in harness.runner.begun] == [5, 6]


async def test_the_loss_of_the_first_round_is_known_before_it_is_over(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, monkeypatch)
        harness.draw(5, -1)
        await harness.begin()
        log, stats = harness.runner.log, NodeStats()
        assert log is not None
        log.loss_sum_micro = 0
        stats.open_loss = harness.seats.open_loss()
        assert stats.training_loss is None, "no micro-batch was answered"
        log.loss_count, log.loss_sum_micro = 4, 10_000_000
        stats.open_loss = harness.seats.open_loss()
        assert stats.training_loss == 2.5
        stats.losses.append((5, 2.25))
        assert stats.training_loss == 2.25, "a closed segment counts as a whole"
        log.loss_count = 0


@pytest.mark.rule("N20")
async def test_a_seat_without_a_device_commits_what_it_has_and_the_node_trains_no_more(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, monkeypatch)
        harness.draw(6, -1)
        await harness.begin()
        engine = harness.runner.shard.engine
        engine.notices.append("device cuda:0 is lost, going on with cuda:1: its process ended")
        harness.draw(7, -1)
        await harness.begin()
        assert harness.reported == [EventKind.WARNING]
        assert harness.node.config.solve
        engine.is_gone = True
        harness.draw(8, -1)
        await harness.begin()
    assert harness.committed == [6, 7]
    assert [round_ for round_, _, _ in harness.runner.begun] == [6, 7]
    assert not harness.node.config.solve  # so the seat is not taken again
    assert not harness.seats.live
    assert harness.reported == [EventKind.WARNING] * 2


@pytest.mark.rule("N21")
async def test_a_seat_begins_no_round_twice(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """Neither after a restart, with its segment closed before, nor again in one process."""
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, monkeypatch)
        harness.draw(1, 0)
        harness.closed_before = {1}
        await harness.begin()
        assert harness.runner.begun == []
        harness.draw(2, 0)
        await harness.begin()
        assert [round_ for round_, _, _ in harness.runner.begun] == [2]
        await harness.seats.begin(BeginRound(STAGE, 0, harness.run.rounds[-1]))
        assert [round_ for round_, _, _ in harness.runner.begun] == [2]
