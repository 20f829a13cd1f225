"""Seats train through each other: loss falls, arrival order leaves no trace, the dead are routed around."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from swarm.primitives.codec import replace as changed
from swarm.primitives.commitments import SALT_BYTES
from swarm.primitives.crypto import SecretKey
from swarm.training.averaging.outer_step import Merge
from swarm.training.messages import (
    MicroBatch,
    MicroBatchGrad,
    TooBusy,
    sign_grad,
    wire_digest,
)
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import MergeRecord, StepRecord
from swarm.training.record.window import StepTaken
from swarm.types import NO_DIGEST, Digest, RoundIndex
from swarm.verify.transcript import segment_roots
from tests.training.pipeline import Swarm, a_spec
from tests.training.test_shard import SCALARS


async def test_two_stages_learn_together(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(), replicas=2)
    rounds = await swarm.train(3.0, rounds=2)
    first, second = (logs[0, 0].loss_micro for logs in rounds)
    assert 0 < second < first
    for logs in rounds:
        for log in logs.values():
            assert log.num_steps > 3
            assert log.tokens > 0
            assert segment_roots(log, bytes(SALT_BYTES)).num_steps == log.num_steps


async def test_a_segment_starts_where_the_last_one_ended(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(), replicas=1)
    one, two = await swarm.train(3.0, rounds=2)
    assert one[0, 0].end == two[0, 0].start
    assert one[1, 0].end == two[1, 0].start


async def test_the_edges_of_both_ends_agree(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(), replicas=1)
    (logs,) = await swarm.train(4.0)
    below = {
        (m.origin, m.step, m.microbatch): m
        for record in logs[0, 0].records
        if isinstance(record, StepRecord)
        for m in record.microbatches
    }
    above = [
        m
        for record in logs[1, 0].records
        if isinstance(record, StepRecord)
        for m in record.microbatches
    ]
    matched = [m for m in above if (m.origin, m.step, m.microbatch) in below]
    assert len(matched) > 5
    for m in matched:
        mine = below[m.origin, m.step, m.microbatch]
        assert m.in_activation == mine.out_activation != NO_DIGEST
        assert m.out_gradient == mine.in_gradient != NO_DIGEST


@pytest.mark.rule("T16")
async def test_a_dead_replica_is_routed_around(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(), replicas=2)
    swarm.nodes[1, 1].host.is_alive = False
    (logs,) = await swarm.train(4.0)
    assert logs[0, 0].num_steps > 3
    assert logs[0, 1].num_steps > 3
    assert (1, 1) not in logs


async def test_a_peer_at_half_speed_neither_blocks_nor_starves(autojump_clock: MockClock) -> None:
    """In whatever stage: its sibling goes on nearly as before, and it takes more than half of its steps."""
    spec = a_spec(steps=400)
    (even,) = await Swarm(spec, replicas=2).train(5.0)
    for slow in ((0, 1), (1, 1)):
        (logs,) = await Swarm(spec, replicas=2, slow={slow: 2.0}).train(5.0)
        kept = {key: logs[key].num_steps / even[key].num_steps for key in logs}
        assert kept[slow] > 0.5, slow
        assert kept[slow[0], 0] > 0.75, slow
        assert min(kept.values()) > 0.5, slow


async def test_windows_come_in_order_whoever_wakes_first(autojump_clock: MockClock) -> None:
    """A step and the end of its segment may be over in one tick, and the last window is the last."""
    swarm = Swarm(a_spec(stages=1), replicas=1, buffer=10)
    runner, kept = swarm.nodes[0, 0].runner, swarm.nodes[0, 0].kept
    await runner.begin_round(swarm.plan, None)
    is_over = trio.Event()

    async def step(_: object) -> list[str]:
        await is_over.wait()
        return ["first"]

    async def close(*_: object) -> list[str]:
        return ["last"]

    runner.jobs = cast("Any", SimpleNamespace(step=step, close=close))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner._take_step)
        await wait_all_tasks_blocked()
        nursery.start_soon(runner.close_round)
        await wait_all_tasks_blocked()
        is_over.set()
    assert kept is not None
    found: list[object] = [kept.receive_nowait() for _ in range(2)]
    assert found == ["first", "last"]


async def test_three_stages_pass_gradients_back(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(stages=3), replicas=1)
    (logs,) = await swarm.train(6.0)
    assert {key: log.num_steps > 3 for key, log in logs.items()} == dict.fromkeys(logs, True)
    assert all(log.loss_count for log in logs.values() if log.stage != 1)


async def test_one_stage_trains_alone(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(stages=1), replicas=1)
    one, two = await swarm.train(3.0, rounds=2)
    assert two[0, 0].loss_micro < one[0, 0].loss_micro


@pytest.mark.rule("T12b")
async def test_an_origin_has_only_so_many_micro_batches_on_their_way(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And yet takes every step whole: those that wait are sent as soon as others are back."""
    monkeypatch.setattr("swarm.training.messages.IN_FLIGHT_BYTES", 1)
    swarm = Swarm(changed(a_spec(), microbatches_per_step=10), replicas=1)
    runner, out, most = swarm.nodes[0, 0].runner, 0, 0
    forward = runner._forward

    async def slowly(
        plan: RoundPlan, request: MicroBatch, wire: Digest, budget_s: float
    ) -> MicroBatchGrad:
        nonlocal out, most
        out += 1
        most = max(most, out)
        try:
            await trio.sleep(0.4)
            return await forward(plan, request, wire, budget_s)
        finally:
            out -= 1

    runner._forward = slowly
    (logs,) = await swarm.train(12.0)
    assert most == 2 * swarm.spec.num_stages
    steps = [record for record in logs[0, 0].records if isinstance(record, StepRecord)]
    assert len(steps) > 3
    assert {len(step.microbatches) for step in steps[:-1]} == {10}


@pytest.mark.rule("T12b")
async def test_what_waits_for_its_turn_past_the_step_is_not_sent(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that takes too long is taken with what it has, and the others are dropped, not sent late."""
    monkeypatch.setattr("swarm.training.messages.IN_FLIGHT_BYTES", 1)
    swarm = Swarm(changed(a_spec(), microbatches_per_step=200), replicas=1)
    runner, sent = swarm.nodes[0, 0].runner, dict[int, list[float]]()
    forward = runner._forward

    async def noted(
        plan: RoundPlan, request: MicroBatch, wire: Digest, budget_s: float
    ) -> MicroBatchGrad:
        sent.setdefault(request.step, []).append(trio.current_time())
        return await forward(plan, request, wire, budget_s)

    runner._forward = noted
    (logs,) = await swarm.train(13.0)
    steps = [record for record in logs[0, 0].records if isinstance(record, StepRecord)]
    assert len(steps) > 1
    for step in steps[:-1]:
        assert 0 < len(step.microbatches) < 200
        assert len(step.microbatches) + len(step.dropped) == 200
    step_s = swarm.spec.deadlines.step_ms / 1000
    assert max(max(times) - min(times) for times in sent.values()) < step_s + 0.1


async def test_loss_of_messages_costs_steps_not_the_run(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(), replicas=2, loss=0.1, seed=3)
    (logs,) = await swarm.train(30.0)
    assert logs[0, 0].num_steps > 3
    assert not any(node.host.blamed for node in swarm.nodes.values())


async def test_no_segment_has_more_steps_than_the_run_allows(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(steps=12), replicas=1)
    (logs,) = await swarm.train(15.0)
    assert {log.num_steps for log in logs.values()} == {12}


async def test_an_origin_past_its_deadline_waits_without_spinning(
    autojump_clock: MockClock,
) -> None:
    swarm = Swarm(a_spec(), replicas=2, loss=0.3, seed=5)
    with trio.fail_after(600):
        (logs,) = await swarm.train(40.0)
    assert logs[0, 0].num_steps > 1


async def test_junk_from_above_is_not_blamed_on_those_below(autojump_clock: MockClock) -> None:
    """The seat in the middle drops the micro-batch; only who computed the junk could be blamed."""
    swarm = Swarm(a_spec(stages=3), replicas=1)
    top = swarm.nodes[2, 0].runner

    async def junk(request: MicroBatch, plan_round: RoundIndex) -> tuple[int, bytes]:
        return 0, b"\x80\x7f" * (len(request.payload) // 2)

    top.answer = junk  # type: ignore[method-assign]
    (logs,) = await swarm.train(4.0)
    assert logs[1, 0].num_steps == 0
    assert not any(node.host.blamed for node in swarm.nodes.values())


def answers_other_activations(framer: SecretKey, patch: pytest.MonkeyPatch) -> None:
    """From now on the owner of a key signs that it was sent something else."""

    def sign(
        secret: SecretKey, chain: Digest, run_digest: Digest, reply: MicroBatchGrad
    ) -> MicroBatchGrad:
        if secret == framer:
            reply = changed(reply, activations=wire_digest(b"what was never sent"))
        return sign_grad(secret, chain, run_digest, reply)

    patch.setattr("swarm.training.pipeline.sign_grad", sign)


@pytest.mark.rule("S16", "T3a", "V12a")
async def test_who_answers_other_activations_is_blamed_and_a_sibling_is_asked(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody above can put into a seat's log what would convict it."""
    swarm = Swarm(a_spec(), replicas=2, buffer=0)
    answers_other_activations(swarm.nodes[1, 0].host.secret, monkeypatch)
    await swarm.train(3.0)
    framer = swarm.nodes[1, 0].host.peer
    for index in (0, 1):
        below = swarm.nodes[0, index]
        assert set(below.host.faults()) == {framer}
        taken = [e for window in below.windows for e in window.events if isinstance(e, StepTaken)]
        replies = [one.reply for step in taken for one in step.microbatches]
        assert {reply.destination for reply in replies if reply is not None} == {1}


async def test_a_micro_batch_that_only_such_an_answer_came_back_for_is_dropped(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarm = Swarm(a_spec(), replicas=1)
    answers_other_activations(swarm.nodes[1, 0].host.secret, monkeypatch)
    (logs,) = await swarm.train(4.0)
    assert logs[0, 0].num_steps == 0
    assert swarm.nodes[0, 0].host.blamed


async def test_a_snapshot_needs_an_open_segment(autojump_clock: MockClock) -> None:
    runner = Swarm(a_spec(), replicas=1).nodes[1, 0].runner
    with pytest.raises(TooBusy):
        await runner.jobs.snapshot(0)


@pytest.mark.rule("T21a")
async def test_a_merge_that_comes_before_the_first_step_waits_for_it(
    autojump_clock: MockClock,
) -> None:
    swarm = Swarm(a_spec(), replicas=2)
    below, above = swarm.nodes[0, 0], swarm.nodes[1, 0]
    merged = trio.Event()

    async def merge() -> None:
        snapshot = await above.runner.jobs.snapshot(0)
        solo = Merge.solo(snapshot, SCALARS)
        await above.runner.merge(solo)
        merged.set()

    async with trio.open_nursery() as nursery:
        await above.runner.begin_round(swarm.plan, None)
        nursery.start_soon(above.runner.run)
        nursery.start_soon(merge)
        await trio.sleep(10)
        assert not merged.is_set()
        await below.runner.begin_round(swarm.plan, None)
        nursery.start_soon(below.runner.run)
        await merged.wait()
        log = await above.runner.close_round()
        nursery.cancel_scope.cancel()
    assert [type(record) for record in log.records[:2]] == [StepRecord, MergeRecord]
