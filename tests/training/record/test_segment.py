"""A log counts what was measured and claims nothing that was not."""

from swarm.primitives.state_parts import COMPONENTS
from swarm.training.record.segment import SegmentLog, StepRecord
from swarm.types import NO_DIGEST, RoundIndex, StageIndex


def a_log() -> SegmentLog:
    return SegmentLog(StageIndex(0), 0, RoundIndex(1), (NO_DIGEST,) * COMPONENTS)


def test_a_log_without_losses_has_no_loss() -> None:
    assert a_log().loss_micro == -1
    assert a_log().num_steps == 0


def test_the_loss_is_the_mean_of_what_was_measured() -> None:
    log = a_log()
    log.loss_sum_micro, log.loss_count = 9_000_000, 4
    assert log.loss_micro == 2_250_000


def test_steps_are_counted_from_the_records() -> None:
    log = a_log()
    log.records = [StepRecord(step, None, (), (), 0) for step in range(3)]
    assert log.num_steps == 3
