"""The windows of a segment cover it, and whoever computes them again finds what the seat committed to."""

import pytest
import torch
import trio
from trio.testing import MockClock

from swarm.config.spec import NANO, RunSpec
from swarm.errors import UsageError
from swarm.gossip.trade.messages import Codec, FragmentKey, Offer
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.primitives.edges import SentEntry, SentKind
from swarm.training import recorder as module
from swarm.training.averaging.outer_step import Merge
from swarm.training.messages import MicroBatch, TooBusy, sign_microbatch
from swarm.training.record.segment import MergeRecord, SegmentLog, StepRecord
from swarm.training.record.window import (
    SNAPSHOTS_MAX,
    AnchorSet,
    FragmentMerged,
    StepTaken,
    Uncounted,
    WindowData,
    anchors_named,
    waiting_max,
)
from swarm.training.recorder import SegmentRecorder
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, PeerId, RoundIndex, RunIndex, StageIndex
from tests.training.pipeline import Swarm, a_spec
from tests.training.replay import TOKENS, initial_anchors, replayed
from tests.training.test_shard import SCALARS, a_request

WIDTH = a_spec().checks.window_steps


def check_segment(swarm: Swarm, log: SegmentLog, windows: list[WindowData]) -> None:
    """Replay every window: the records are the log's, in order, and states meet where windows do."""
    plan = replace(swarm.plan, round=log.round)
    anchors = initial_anchors(swarm.spec)
    records: list[StepRecord | MergeRecord] = []
    begins = [r.components for r in log.records if isinstance(r, StepRecord) and r.components]
    assert len(begins) == len(windows)
    end = log.start
    for number, window in enumerate(windows):
        key = window.key
        assert (key.run, key.round, key.stage) == (plan.run, log.round, log.stage)
        assert (key.seat, key.window) == (log.seat, number)
        assert window.is_last == (number == len(windows) - 1)
        again = replayed(plan, window, anchors)
        assert again.start == end
        assert number == 0 or again.start == begins[number]
        records += again.records
        end = again.end
    assert records == log.records
    assert end == log.end


@pytest.mark.rule("T27", "T29")
@pytest.mark.parametrize("stages", [1, 2, 3])
async def test_windows_replay_to_the_log(stages: int, autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(stages=stages, steps=3 * WIDTH + 2), replicas=2, buffer=1)
    rounds = await swarm.train(6.0, rounds=2, trades=True)
    for key, node in swarm.nodes.items():
        at = 0
        for logs in rounds:
            log = logs[key]
            count = -(-log.num_steps // WIDTH)
            assert count > 1
            assert sum(isinstance(r, MergeRecord) and r.partner_seat >= 0 for r in log.records) == 2
            check_segment(swarm, log, node.windows[at : at + count])
            at += count
        assert at == len(node.windows)


@pytest.mark.rule("T27")
async def test_windows_of_a_lossy_network_replay_too(autojump_clock: MockClock) -> None:
    """Answers that come late, steps at their deadline, drops: none of it is in the state."""
    swarm = Swarm(a_spec(), replicas=2, buffer=0, loss=0.15, seed=4)
    (logs,) = await swarm.train(24.0, trades=True)
    dropped = 0
    for key, node in swarm.nodes.items():
        check_segment(swarm, logs[key], node.windows)
        dropped += sum(len(r.dropped) for r in logs[key].records if isinstance(r, StepRecord))
    assert dropped > 0


# --- one recorder by hand ---


def a_recorder(spec: RunSpec | None = None) -> SegmentRecorder:
    return SegmentRecorder(Shard.initial(spec or a_spec(), StageIndex(1)), 0, keeps_windows=True)


PLAN = replace(Swarm(a_spec(), replicas=2).plan, round=RoundIndex(2))
SECRET = Swarm(a_spec(), replicas=2).nodes[0, 0].host.secret


def here(number: int) -> MicroBatch:
    """A request of the round."""
    return replace(a_request(number), round=PLAN.round)


def step(
    recorder: SegmentRecorder, number: int, merges: tuple[Merge, ...] = ()
) -> list[WindowData]:
    request = sign_microbatch(SECRET, PLAN.chain, PLAN.run_digest, here(number % 2))
    recorder.loss(TOKENS, replace(request, step=number))
    return recorder.step(merges)


def alone(recorder: SegmentRecorder, fragment: int) -> Merge:
    taken = recorder.snapshot(fragment)
    return Merge.solo(taken, SCALARS)


@pytest.mark.rule("T25")
def test_a_new_anchor_is_the_first_event_and_not_in_the_start() -> None:
    recorder = a_recorder()
    before = recorder.shard.anchor_root
    anchor_P = torch.ones_like(recorder.shard.anchor_P)
    recorder.begin(PLAN, (anchor_P, hash_of(anchor_P)))
    step(recorder, 0)
    (window,) = recorder.close([])
    assert window.start.anchor_root == before
    assert window.events[0] == AnchorSet(hash_of(anchor_P))
    assert anchors_named(window) == {before, hash_of(anchor_P)}
    assert recorder.shard.anchor_root == hash_of(anchor_P)


@pytest.mark.rule("T21a")
def test_a_segment_without_a_step_leaves_no_trace() -> None:
    recorder = a_recorder()
    anchor_P = torch.ones_like(recorder.shard.anchor_P)
    log = recorder.begin(PLAN, (anchor_P, hash_of(anchor_P)))
    merge = alone(recorder, 0)
    assert not recorder.may_merge
    assert not recorder.merge([merge])
    recorder.shard.drop(0, 0, 0)
    assert recorder.close([merge]) == []
    assert log.end == log.start
    assert (log.records, log.tokens) == ([], 0)


@pytest.mark.rule("T25")
def test_windows_begin_with_every_few_steps_and_merges_belong_where_they_happened() -> None:
    recorder = a_recorder()
    log = recorder.begin(PLAN, None)
    windows = []
    for number in range(WIDTH + 1):
        merges = (alone(recorder, 0),) if number == 1 else ()
        windows += step(recorder, number, merges)
    windows += recorder.close([alone(recorder, 1)])
    assert [window.key.window for window in windows] == [0, 1]
    kinds = [[type(event).__name__ for event in window.events] for window in windows]
    taken, merged = ["StepTaken"], ["FragmentMerged"]
    assert kinds[0] == [*taken, "SnapshotTaken", *taken, *merged, *taken * (WIDTH - 2)]
    assert kinds[1] == [*taken, "SnapshotTaken", *merged]
    assert log.tokens == (WIDTH + 1) * 4 * 16
    assert log.num_steps == WIDTH + 1


@pytest.mark.rule("T26")
def test_what_was_signed_is_kept_as_it_was_signed_and_only_if_it_counted() -> None:
    recorder = a_recorder()
    recorder.begin(PLAN, None)
    request = sign_microbatch(SECRET, PLAN.chain, PLAN.run_digest, here(0))
    recorder.loss(TOKENS, request)
    (window,) = recorder.close([])
    (taken,) = window.events
    assert isinstance(taken, StepTaken)
    assert [one.request for one in taken.microbatches] == [request]
    recorder.begin(PLAN, None)
    assert recorder.close([]) == []


@pytest.mark.rule("T21a")
def test_a_fragment_is_merged_once_in_a_segment_and_offered_a_few_times() -> None:
    recorder = a_recorder()
    recorder.begin(PLAN, None)
    step(recorder, 0)
    assert recorder.merge([alone(recorder, 0)])
    assert recorder.merge([alone(recorder, 0)])
    for _ in range(SNAPSHOTS_MAX * recorder.shard.spec.outer.fragments - 2):
        recorder.snapshot(1)
    with pytest.raises(TooBusy):
        recorder.snapshot(1)
    (window,) = recorder.close([])
    assert sum(isinstance(event, FragmentMerged) for event in window.events) == 1


@pytest.mark.rule("T21a")
def test_exchanges_of_a_fragment_are_merged_in_order_once_each() -> None:
    spec = a_spec()
    spec = replace(spec, outer=replace(spec.outer, trades_per_round=3))
    fragments, plan = spec.outer.fragments, replace(PLAN, spec=spec)
    recorder = a_recorder(spec)
    recorder.begin(plan, None)
    step(recorder, 0)
    first = alone(recorder, 0)
    second = alone(recorder, fragments)
    assert recorder.merge([first, second, second])
    assert recorder.shard.trades_over == [2, 0]
    with pytest.raises(TooBusy):
        recorder.snapshot(0)
    late = alone(recorder, 2 * fragments + 1)
    with pytest.raises(TooBusy):
        recorder.snapshot(1)
    log_end = recorder.close([late, first])
    merged = [
        event.exchange
        for window in log_end
        for event in window.events
        if isinstance(event, FragmentMerged)
    ]
    assert merged == [fragments, 2 * fragments + 1], "the first copy was replaced by the second"
    assert recorder.shard.trades_over == [0, 0]


@pytest.mark.rule("T12")
def test_a_merge_waits_for_the_step_whose_gradients_are_here() -> None:
    recorder = a_recorder()
    recorder.begin(PLAN, None)
    step(recorder, 0)
    merge = alone(recorder, 0)
    recorder.loss(TOKENS, here(1))
    assert not recorder.merge([merge])
    recorder.step([merge])
    assert not recorder.shard.snapshots


@pytest.mark.rule("T26")
def test_a_merge_with_a_partner_needs_what_the_partner_signed() -> None:
    recorder = a_recorder()
    recorder.begin(PLAN, None)
    step(recorder, 0)
    taken = recorder.snapshot(0)
    partner = PeerId(bytes(32))
    merge = Merge(
        snapshot=taken,
        theta_hat_P=taken.theta_P,
        weight_nano=NANO // 2,
        scalars=SCALARS,
        partner=partner,
        partner_seat=1,
        my_payload=NO_DIGEST,
    )
    with pytest.raises(UsageError):
        recorder.merge([merge])


def test_nothing_is_kept_for_nobody() -> None:
    recorder = SegmentRecorder(Shard.initial(a_spec(), StageIndex(1)), 0, keeps_windows=False)
    recorder.begin(PLAN, None)
    assert step(recorder, 0) == []
    assert recorder.close([]) == []


def test_a_closed_segment_takes_nothing() -> None:
    recorder = a_recorder()
    for job in (
        lambda: recorder.snapshot(0),
        lambda: recorder.loss(TOKENS, here(0)),
        lambda: recorder.step([]),
    ):
        with pytest.raises(TooBusy):
            job()
    assert not recorder.merge([])


# --- what was sent ---


@pytest.mark.rule("T26a")
def test_a_list_has_every_micro_batch_that_was_answered_and_every_offer() -> None:
    recorder = a_recorder()
    log = recorder.begin(PLAN, None)
    for number in range(WIDTH + 1):
        step(recorder, number)
    offer = SentEntry(SentKind.FRAGMENT, 0, 0, 0, 0, bytes(32), b"")
    recorder.close([], [offer])
    assert log.sent[-1] == offer
    answered = [entry for entry in log.sent if entry.kind == SentKind.MICROBATCH]
    assert [entry.second for entry in answered] == list(range(WIDTH + 1))
    assert [entry.window for entry in answered] == [0] * WIDTH + [1]
    counted = [m for r in log.records if isinstance(r, StepRecord) for m in r.microbatches]
    assert [entry.down for entry in answered] == [one.out_gradient for one in counted]
    assert all(entry.up == b"" for entry in answered)


@pytest.mark.rule("T26a", "N20")
def test_answers_whose_gradients_were_lost_with_a_device_are_listed_and_replayed() -> None:
    recorder = a_recorder()
    log = recorder.begin(PLAN, None)
    request = sign_microbatch(SECRET, PLAN.chain, PLAN.run_digest, here(0))
    recorder.loss(TOKENS, replace(request, step=8))
    recorder.shard._forget()
    step(recorder, 0)
    recorder.loss(TOKENS, replace(request, step=9))
    recorder.shard._forget()
    (data,) = recorder.close([])
    assert [type(event) for event in data.events] == [Uncounted, StepTaken, Uncounted]
    assert [entry.second for entry in log.sent] == [0, 8, 9]
    assert all(entry.down for entry in log.sent)
    check_segment(Swarm(a_spec(), replicas=2), log, [data])


@pytest.mark.rule("T26a")
def test_nothing_is_computed_that_a_list_has_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = a_recorder()
    recorder.begin(PLAN, None)
    request = here(0)
    for number in range(waiting_max(PLAN, StageIndex(1))):
        recorder.loss(TOKENS, replace(request, step=number))
    with pytest.raises(TooBusy):
        recorder.loss(TOKENS, replace(request, step=40))
    step_of = recorder.step([])
    assert step_of == []
    monkeypatch.setattr(module, "SENT_MAX", waiting_max(PLAN, StageIndex(1)) + 2)
    with pytest.raises(TooBusy):
        recorder.loss(TOKENS, replace(request, step=40))


@pytest.mark.rule("T26a")
def test_a_micro_batch_of_another_round_is_not_computed() -> None:
    """It would be in the list of a segment that it does not belong to."""
    recorder = a_recorder()
    recorder.begin(PLAN, None)
    with pytest.raises(TooBusy):
        recorder.loss(TOKENS, a_request(0))


async def test_an_offer_is_signed_only_in_its_open_segment_and_with_the_same_values(
    autojump_clock: MockClock,
) -> None:
    swarm = Swarm(a_spec(stages=1), replicas=1, buffer=10)
    runner = swarm.nodes[0, 0].runner
    key = FragmentKey(RunIndex(1), StageIndex(0), 0, swarm.plan.round, 0)
    offer = Offer(key, 1, 3, 64, Codec.INT8, NO_DIGEST, NO_DIGEST, 8, 8, NO_DIGEST, b"")
    assert not runner.note_offer(0, offer), "no segment is open"
    await runner.begin_round(swarm.plan, None)
    assert runner.note_offer(0, offer)
    assert runner.note_offer(0, offer)
    assert not runner.note_offer(0, replace(offer, tokens=65)), "two messages for one place"
    assert runner.note_offer(0, replace(offer, codec=Codec.BF16))
    other = replace(key, round=RoundIndex(swarm.plan.round + 1))
    assert not runner.note_offer(0, replace(offer, key=other))
    log = await runner.close_round()
    assert len(log.sent) == 2
    assert not runner.note_offer(0, replace(offer, codec=Codec.INT4)), "the list is closed"


# --- the channel ---


@pytest.mark.rule("T29")
async def test_training_waits_when_nobody_keeps_the_windows(autojump_clock: MockClock) -> None:
    """Two complete windows: one in the channel, one in the hands of the sender; then no more steps."""
    swarm = Swarm(a_spec(stages=1), replicas=1, buffer=1)
    runner = swarm.nodes[0, 0].runner
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        await runner.begin_round(swarm.plan, None)
        await trio.sleep(60)
        assert runner.steps_total == 2 * WIDTH + 1
        nursery.cancel_scope.cancel()


async def test_a_segment_cut_off_in_the_middle_sends_no_end(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(), replicas=1, buffer=100)
    async with trio.open_nursery() as nursery:
        for node in swarm.nodes.values():
            nursery.start_soon(node.runner.run)
            nursery.start_soon(node.keep_windows)
            await node.runner.begin_round(swarm.plan, None)
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    for node in swarm.nodes.values():
        log = node.runner.log
        assert log is not None
        assert len(node.windows) == (log.num_steps - 1) // WIDTH > 0
        assert not any(window.is_last for window in node.windows)
