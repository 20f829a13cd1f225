"""Seats train through each other: loss falls, arrival order leaves no trace, the dead are routed around."""

import trio
from trio.testing import MockClock

from swarm.training.segment import StepRecord
from swarm.types import NO_DIGEST
from swarm.verify.transcript import segment_roots
from tests.training.pipeline import Swarm, a_spec


async def test_two_stages_learn_together(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(), replicas=2)
    rounds = await swarm.train(6.0, rounds=2)
    first, second = (logs[0, 0].loss_micro for logs in rounds)
    assert 0 < second < first
    for logs in rounds:
        for log in logs.values():
            assert log.num_steps > 3
            assert log.tokens > 0
            assert segment_roots(log, bytes(32)).num_steps == log.num_steps


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


async def test_a_dead_replica_is_routed_around(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(), replicas=2)
    swarm.nodes[1, 1].host.is_alive = False
    (logs,) = await swarm.train(8.0)
    assert logs[0, 0].num_steps > 3
    assert logs[0, 1].num_steps > 3
    assert (1, 1) not in logs


async def test_three_stages_pass_gradients_back(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(stages=3), replicas=1)
    (logs,) = await swarm.train(6.0)
    assert {key: log.num_steps > 3 for key, log in logs.items()} == dict.fromkeys(logs, True)
    assert all(log.loss_count for log in logs.values() if log.stage != 1)


async def test_one_stage_trains_alone(autojump_clock: MockClock) -> None:
    swarm = Swarm(a_spec(stages=1), replicas=1)
    one, two = await swarm.train(3.0, rounds=2)
    assert two[0, 0].loss_micro < one[0, 0].loss_micro


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
