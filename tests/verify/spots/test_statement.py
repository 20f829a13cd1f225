"""A statement is its solver's, about one window, and every trace under it is of a program that the run has."""

import pytest

from swarm.errors import PeerFault
from swarm.gossip.trade.messages import Codec
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.verify.program.account import Kind
from swarm.verify.program.cases import Facts
from swarm.verify.spots.solving import Solved
from swarm.verify.spots.statement import (
    CopyTrace,
    MergeTrace,
    MicrobatchTrace,
    TraceSaid,
    UpdateTrace,
    check_statement,
    check_trace,
    check_traces,
    decode_trace,
    program_of,
    trace_path,
    traces_of,
)
from tests.verify.spots.test_checking import Sample, samples
from tests.verify.windows import CHAIN

ROOT = bytes(32)
STRANGER = SecretKey.from_seed(bytes(32))


def with_trades() -> Sample:
    """A window with a step, a copy and a merge."""
    wanted = {Kind.STEP, Kind.COPY, Kind.MERGE}
    every = (*samples("int8", 0), *samples("int8", 1))
    return next(one for one in every if wanted <= set(one.log.account.kinds))


def facts_of(one: Sample) -> Facts:
    return one.spot.window.facts


def test_only_its_signer_has_said_it_and_as_it_is() -> None:
    one = with_trades()
    solved = Solved(one.spot.window, one.log)
    said, run = one.said(solved), one.spot.plan.run_digest
    check_statement(said, one.secret.peer, CHAIN, run)
    with pytest.raises(PeerFault):
        check_statement(said, STRANGER.peer, CHAIN, run)
    with pytest.raises(PeerFault):
        check_statement(said, one.secret.peer, CHAIN, digest("test", b"another run"))
    for change in (
        {"window": said.window + 1},
        {"claim": ROOT},
        {"claim": b""},
        {"num_traces": 0},
        {"num_traces": 1 << 20},
        {"traces": ROOT},
        {"signature": bytes(64)},
    ):
        with pytest.raises(PeerFault):
            check_statement(replace(said, **change), one.secret.peer, CHAIN, run)


def test_it_has_a_trace_of_every_program_of_the_window_in_one_order() -> None:
    one = with_trades()
    solved = Solved(one.spot.window, one.log)
    said, traces = one.said(solved), solved.traces
    step = next(e for e in solved.account.kinds if e == Kind.STEP)
    assert step == Kind.STEP
    kinds = [type(trace) for trace in traces]
    assert kinds[: len(solved.opened.microbatches)] == [MicrobatchTrace] * len(
        solved.opened.microbatches
    )
    assert {UpdateTrace, CopyTrace, MergeTrace} <= set(kinds)
    assert traces == traces_of(facts_of(one), solved.opened, one.spot.window.first_step)
    check_traces(said, traces)
    for wrong in (traces[:-1], traces[::-1], (*traces, traces[0])):
        with pytest.raises(PeerFault):
            check_traces(said, wrong)
    for at, trace in enumerate(traces):
        assert decode_trace(encode(trace)) == trace
        check_trace(said, trace, at, trace_path(traces, at))
        with pytest.raises(PeerFault):
            check_trace(said, replace(trace, root=ROOT), at, trace_path(traces, at))


@pytest.mark.parametrize(
    "trace",
    [
        UpdateTrace(step=0, seen=0, microbatches=0, root=ROOT),
        UpdateTrace(step=0, seen=0, microbatches=10**6, root=ROOT),
        UpdateTrace(step=999, seen=0, microbatches=1, root=ROOT),
        UpdateTrace(step=0, seen=-1, microbatches=1, root=ROOT),
        CopyTrace(event=0, fragment=99, root=ROOT),
        MergeTrace(0, 99, 0, None, None, moves_residual=False, root=ROOT),
        MergeTrace(0, 0, -1, Codec.INT8, None, moves_residual=False, root=ROOT),
        MergeTrace(0, 0, 1 << 40, Codec.INT8, None, moves_residual=False, root=ROOT),
        MergeTrace(0, 0, 0, Codec.INT4, None, moves_residual=False, root=ROOT),
        MergeTrace(0, 0, 0, Codec.INT8, Codec.INT8, moves_residual=True, root=ROOT),
    ],
    ids=repr,
)
def test_a_program_that_the_run_does_not_have_is_refused(trace: TraceSaid) -> None:
    with pytest.raises(PeerFault):
        program_of(facts_of(with_trades()), trace)
