"""A step counts what came in any order, and nothing that was refused."""

import pytest
import torch

from swarm.errors import PeerFault
from swarm.training.messages import TooBusy
from swarm.training.model.optimizer import MICROBATCHES_MAX, GradientSum
from swarm.training.record.segment import MicrobatchRecord
from swarm.training.shard import DROPPED_MAX, OpenStep
from swarm.types import NO_DIGEST


def a_record(*microbatch_id: int) -> MicrobatchRecord:
    origin, step, microbatch = microbatch_id
    none = NO_DIGEST
    return MicrobatchRecord(
        origin=origin,
        step=step,
        microbatch=microbatch,
        in_activation=none,
        in_gradient=none,
        out_activation=none,
        out_gradient=none,
        source=-1,
        destination=-1,
        sample_ids_root=none,
    )


def test_the_order_of_arrival_leaves_no_trace() -> None:
    steps = [OpenStep(GradientSum(3)), OpenStep(GradientSum(3))]
    ids = [(1, 0, 0), (0, 2, 1), (0, 2, 0)]
    for step, order in zip(steps, (ids, ids[::-1]), strict=True):
        for microbatch_id in order:
            step.add(torch.full((3,), 0.1 * microbatch_id[1]), 7, a_record(*microbatch_id))
            step.drop((microbatch_id[0], microbatch_id[1] + 5, microbatch_id[2]))
    first_P, second_P = (step.take_mean() for step in steps)
    assert first_P is not None
    assert second_P is not None
    assert torch.equal(first_P, second_P)
    first, second = (step.take() for step in steps)
    assert first == second
    assert [record.microbatch_id for record in first.records] == sorted(ids)
    assert first.tokens == 21
    assert all(step.is_empty for step in steps)


def test_what_is_refused_is_not_counted() -> None:
    step = OpenStep(GradientSum(2))
    for bad in (float("nan"), 1e9):
        with pytest.raises(PeerFault):
            step.add(torch.tensor([0.0, bad]), 7, a_record(0, 0, 0))
    assert step.is_empty
    assert step.take().tokens == 0


def test_a_full_step_is_busy() -> None:
    step = OpenStep(GradientSum(1))
    for number in range(MICROBATCHES_MAX):
        step.check_room()
        step.add(torch.zeros(1), 1, a_record(0, 0, number))
    with pytest.raises(TooBusy):
        step.check_room()


def test_only_so_many_drops_are_said() -> None:
    step = OpenStep(GradientSum(1))
    for number in range(DROPPED_MAX + 5):
        step.drop((0, 0, number))
    assert len(step.take().dropped) == DROPPED_MAX
    assert step.take().dropped == ()
