"""A seat steps once per quota, or at the deadline with what it has, and never mixes versions."""

import pytest

from swarm.errors import OutOfTurn, UsageError
from swarm.training.step_policy import StepPolicy, StepSlot


def an_open_stepper(quota: int = 2, steps_max: int = 3) -> StepPolicy:
    stepper = StepPolicy(step_s=10.0)
    stepper.begin_round(quota, steps_max)
    return stepper


def admitted(stepper: StepPolicy, now: float = 0.0) -> StepSlot:
    ticket = stepper.admit(now)
    assert ticket is not None
    return ticket


def test_a_step_is_due_when_the_quota_is_answered() -> None:
    stepper = an_open_stepper()
    first, second = admitted(stepper), admitted(stepper)
    stepper.settle(first, answered=True)
    assert not stepper.is_due(1.0)
    stepper.settle(second, answered=True)
    assert stepper.is_due(1.0)


def test_extra_microbatches_wait_for_the_next_version() -> None:
    stepper = an_open_stepper(quota=1)
    ticket = admitted(stepper)
    assert stepper.admit(0.0) is None
    stepper.settle(ticket, answered=True)
    stepper.stepped()
    assert stepper.is_current(admitted(stepper))
    assert not stepper.is_current(ticket)


def test_the_deadline_takes_the_step_with_what_there_is() -> None:
    stepper = an_open_stepper()
    stepper.settle(admitted(stepper, now=5.0), answered=True)
    assert stepper.deadline == 15.0
    assert not stepper.is_due(14.9)
    assert stepper.is_due(15.0)


def test_a_deadline_without_an_answer_reopens_the_step() -> None:
    stepper = an_open_stepper()
    stale = admitted(stepper, now=0.0)
    assert not stepper.is_due(10.0)
    assert stepper.expire(10.0)
    stepper.settle(stale, answered=True)
    assert stepper.answered == 0
    assert stepper.deadline is None


def test_a_failed_microbatch_frees_its_place() -> None:
    stepper = an_open_stepper(quota=1)
    stepper.settle(admitted(stepper), answered=False)
    assert stepper.admit(0.0) is not None


def test_a_segment_takes_at_most_its_steps() -> None:
    stepper = an_open_stepper(quota=1, steps_max=2)
    for _ in range(2):
        stepper.settle(admitted(stepper), answered=True)
        assert stepper.is_due(0.0)
        stepper.stepped()
    assert stepper.is_full
    assert stepper.admit(0.0) is None


def test_a_closed_round_admits_nothing_and_forgets_what_is_out() -> None:
    stepper = an_open_stepper()
    ticket = admitted(stepper)
    stepper.close_round()
    stepper.settle(ticket, answered=True)
    assert stepper.admit(0.0) is None
    assert not stepper.is_due(100.0)
    stepper.begin_round(1, 3)
    assert stepper.steps == 0


def test_a_quota_of_nothing_is_our_callers_mistake() -> None:
    with pytest.raises(UsageError):
        StepPolicy(step_s=1.0).begin_round(0, 1)


def test_a_microbatch_is_taken_once_per_segment() -> None:
    stepper = an_open_stepper()
    stepper.see((0, 1, 2))
    with pytest.raises(OutOfTurn):
        stepper.see((0, 1, 2))
    stepper.begin_round(1, 3)
    stepper.see((0, 1, 2))
