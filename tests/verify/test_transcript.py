"""A transcript names exactly what happened, both ends of an edge agree, and a component can be proven alone."""

from dataclasses import replace

import pytest

from swarm.errors import BrokenPromise, UsageError
from swarm.primitives.codec import replace as changed
from swarm.primitives.commitments import (
    SALT_BYTES,
    WindowResult,
    leaves_root,
    trace_commit,
    trace_root,
)
from swarm.primitives.crypto import SecretKey, fast_digest
from swarm.primitives.edges import sent_root
from swarm.primitives.merkle import verify_proof
from swarm.training.record.segment import MergeRecord, MicrobatchRecord, SegmentLog, StepRecord
from swarm.training.recorder import entry_of
from swarm.types import NO_DIGEST, Digest, RoundIndex, StageIndex
from swarm.verify.transcript import (
    COMPONENTS,
    component_proof,
    merge_leaf,
    microbatch_leaf,
    segment_roots,
    state_root,
    step_leaf,
    window_results,
)

SALT = bytes(range(SALT_BYTES))


def some(name: str) -> Digest:
    return fast_digest("test", name.encode())


STATE = tuple(some(name) for name in COMPONENTS)
MIDDLE = MicrobatchRecord(
    origin=2,
    step=7,
    microbatch=1,
    in_activation=some("in act"),
    in_gradient=some("in grad"),
    out_activation=some("out act"),
    out_gradient=some("out grad"),
    source=4,
    destination=5,
    sample_ids_root=some("ids"),
)
STEP = StepRecord(7, STATE, (MIDDLE, replace(MIDDLE, microbatch=0)), ((1, 7, 3), (0, 7, 2)), 2048)
PARTNER = SecretKey.from_seed(b"\x05" * 32).peer
MERGE = MergeRecord(
    exchange=1,
    partner=PARTNER,
    partner_seat=6,
    my_payload=some("mine"),
    partner_payload=some("theirs"),
    weight_nano=500_000_000,
    components=STATE,
)


LATER = replace(STEP, step=8, components=None, microbatches=())


def a_log() -> SegmentLog:
    log = SegmentLog(StageIndex(1), 3, RoundIndex(9), STATE)
    log.records += [STEP, MERGE, LATER]
    log.end, log.tokens = tuple(reversed(STATE)), 4096
    return log


@pytest.mark.rule("V1")
def test_a_state_has_ten_components_and_each_can_be_proven_alone() -> None:
    root = state_root(STATE)
    for index, leaf in enumerate(STATE):
        verify_proof(root, leaf, index, 10, component_proof(STATE, index))
    with pytest.raises(BrokenPromise):
        verify_proof(root, STATE[3], 4, 10, component_proof(STATE, 4))
    for wrong in (STATE[:9], (*STATE, STATE[0])):
        with pytest.raises(UsageError):
            state_root(wrong)
        with pytest.raises(UsageError):
            component_proof(wrong, 0)


@pytest.mark.rule("V1")
def test_phi_is_component_four() -> None:
    assert COMPONENTS[4] == "phi"


@pytest.mark.rule("V2")
@pytest.mark.parametrize(
    "field",
    list(MicrobatchRecord.__dataclass_fields__),
)
def test_every_field_of_a_micro_batch_changes_its_leaf(field: str) -> None:
    value = getattr(MIDDLE, field)
    other = some("other") if isinstance(value, bytes) else value + 1
    assert microbatch_leaf(replace(MIDDLE, **{field: other})) != microbatch_leaf(MIDDLE)  # type: ignore[arg-type]


@pytest.mark.rule("V3")
@pytest.mark.parametrize(
    "changes",
    [
        {"step": 8},
        {"components": None},
        {"components": tuple(reversed(STATE))},
        {"microbatches": (MIDDLE,)},
        {"microbatches": ()},
        {"dropped": ((0, 7, 2),)},
    ],
)
def test_everything_in_a_step_changes_its_leaf(changes: dict[str, object]) -> None:
    assert step_leaf(replace(STEP, **changes)) != step_leaf(STEP)  # type: ignore[arg-type]


@pytest.mark.rule("V3")
def test_the_order_in_which_micro_batches_arrived_does_not_matter() -> None:
    shuffled = replace(STEP, microbatches=STEP.microbatches[::-1], dropped=STEP.dropped[::-1])
    assert step_leaf(shuffled) == step_leaf(STEP)


@pytest.mark.rule("V4")
@pytest.mark.parametrize(
    "changes",
    [
        {"exchange": 2},
        {"partner": None},
        {"partner_seat": 7},
        {"my_payload": NO_DIGEST},
        {"partner_payload": NO_DIGEST},
        {"weight_nano": 0},
        {"components": tuple(reversed(STATE))},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_everything_in_a_merge_changes_its_leaf(changes: dict[str, object]) -> None:
    assert merge_leaf(replace(MERGE, **changes)) != merge_leaf(MERGE)  # type: ignore[arg-type]


@pytest.mark.rule("V5", "V7")
def test_a_segment_commits_to_its_leaves_in_their_order() -> None:
    log = a_log()
    roots = segment_roots(log, SALT)
    leaves = leaves_root([step_leaf(STEP), merge_leaf(MERGE), step_leaf(LATER)])
    window = WindowResult(leaves, state_root(log.start), state_root(log.end), 4096)
    assert window_results(log) == [window]
    assert roots.trace_root == trace_root([window.claim])
    assert roots.trace_commit == trace_commit(roots.trace_root, SALT)
    assert (roots.start_root, roots.end_root) == (state_root(log.start), state_root(log.end))
    assert (roots.num_steps, roots.tokens) == (2, 4096)
    log.records = [STEP, LATER, MERGE]
    assert segment_roots(log, SALT).trace_root != roots.trace_root


@pytest.mark.rule("V5")
@pytest.mark.parametrize("name", list(WindowResult.__struct_fields__))
def test_everything_in_a_result_changes_its_claim(name: str) -> None:
    (result,) = window_results(a_log())
    value = getattr(result, name)
    other = some("other") if isinstance(value, bytes) else value + 1
    assert changed(result, **{name: other}).claim != result.claim


@pytest.mark.rule("V5")
def test_a_later_window_begins_with_a_step_and_merges_belong_to_the_one_before() -> None:
    """Merges before the first step are in the first window, and those between two windows in the earlier."""
    middle = tuple(some(f"middle {name}") for name in COMPONENTS)
    first, second = replace(STEP, tokens=1000), replace(STEP, step=9, components=middle, tokens=96)
    early, late = replace(MERGE, exchange=0), replace(MERGE, exchange=2)
    log = a_log()
    log.records = [early, first, replace(LATER, tokens=500), MERGE, second, late]
    leaves = [
        [merge_leaf(early), step_leaf(first), step_leaf(LATER), merge_leaf(MERGE)],
        [step_leaf(second), merge_leaf(late)],
    ]
    start, between, end = (state_root(state) for state in (log.start, middle, log.end))
    assert window_results(log) == [
        WindowResult(leaves_root(leaves[0]), start, between, 1500),
        WindowResult(leaves_root(leaves[1]), between, end, 96),
    ]


@pytest.mark.rule("V5")
def test_merges_alone_are_one_window() -> None:
    log = a_log()
    log.records = [MERGE, replace(MERGE, exchange=2)]
    leaves = leaves_root([merge_leaf(MERGE), merge_leaf(replace(MERGE, exchange=2))])
    assert window_results(log) == [
        WindowResult(leaves, state_root(log.start), state_root(log.end), 0)
    ]


@pytest.mark.rule("V5")
def test_the_salt_hides_the_trace() -> None:
    assert trace_commit(some("trace"), SALT) != trace_commit(some("trace"), bytes(SALT_BYTES))
    with pytest.raises(UsageError):
        trace_commit(some("trace"), b"short")


@pytest.mark.rule("V8")
def test_nothing_has_no_root() -> None:
    assert sent_root([]) == leaves_root([]) == trace_root([]) == NO_DIGEST
    log = SegmentLog(StageIndex(0), 0, RoundIndex(0), STATE)
    log.records, log.end = [LATER], STATE
    assert segment_roots(log, SALT).sent_root == NO_DIGEST


@pytest.mark.rule("V6", "V8")
def test_all_that_was_sent_is_under_one_root() -> None:
    log = a_log()
    log.sent = (entry_of(MIDDLE, 0), entry_of(replace(MIDDLE, microbatch=9), 0))
    assert segment_roots(log, SALT).sent_root == sent_root(log.sent)
    assert (log.sent[0].up, log.sent[0].down) == (MIDDLE.out_activation, MIDDLE.out_gradient)
    lie = replace(MIDDLE, out_gradient=some("another"))
    assert sent_root((entry_of(lie, 0), log.sent[1])) != sent_root(log.sent)
