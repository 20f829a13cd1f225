"""The parts of the benchmark of verification still run: a step is committed and replayed, a fault pinned."""

from benchmarks.checking import Bench
from benchmarks.common import Outcome
from benchmarks.faults import QUICK_FAULTS, measure_faults


def test_a_segment_is_trained_committed_and_replayed() -> None:
    bench = Bench(1)
    windows, committing_s = bench.commit()
    assert len(windows) == 2
    assert committing_s > 0
    bench.replay(windows)


def test_faults_are_pinned() -> None:
    outcome = Outcome(parameters={})
    measure_faults(outcome, quick=True)
    assert outcome.figures["faults_pinned"] == outcome.figures["faults"] == QUICK_FAULTS
