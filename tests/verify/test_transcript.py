"""A transcript names exactly what happened, both ends of an edge agree, and a component can be proven alone."""

from dataclasses import replace

import pytest

from swarm.errors import BrokenPromise, UsageError
from swarm.primitives.commitments import trace_commit, trace_root
from swarm.primitives.crypto import SecretKey, fast_digest
from swarm.primitives.merkle import verify_proof
from swarm.training.record.segment import MergeRecord, MicrobatchRecord, SegmentLog, StepRecord
from swarm.types import NO_DIGEST, Digest, RoundIndex, StageIndex
from swarm.verify.transcript import (
    COMPONENTS,
    component_proof,
    edges_root,
    inbox,
    merge_leaf,
    microbatch_leaf,
    outbox,
    segment_leaves,
    segment_roots,
    state_root,
    step_leaf,
)

SALT = bytes(range(32))


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
STEP = StepRecord(7, STATE, (MIDDLE, replace(MIDDLE, microbatch=0)), ((1, 7, 3), (0, 7, 2)))
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


def a_log() -> SegmentLog:
    log = SegmentLog(StageIndex(1), 3, RoundIndex(9), STATE)
    log.records += [STEP, MERGE, replace(STEP, step=8, components=None, microbatches=())]
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
    assert roots.trace_root == trace_root(
        [step_leaf(STEP), merge_leaf(MERGE), segment_leaves(log)[2]]
    )
    assert roots.trace_commit == trace_commit(roots.trace_root, SALT)
    assert (roots.start_root, roots.end_root) == (state_root(log.start), state_root(log.end))
    assert (roots.num_steps, roots.tokens) == (2, 4096)
    log.records.reverse()
    assert segment_roots(log, SALT).trace_root != roots.trace_root


@pytest.mark.rule("V5")
def test_the_salt_hides_the_trace() -> None:
    assert trace_commit(some("trace"), SALT) != trace_commit(some("trace"), bytes(32))
    with pytest.raises(UsageError):
        trace_commit(some("trace"), b"short")


@pytest.mark.rule("V8")
def test_nothing_has_no_root() -> None:
    log = SegmentLog(StageIndex(0), 0, RoundIndex(0), STATE)
    log.end = STATE
    roots = segment_roots(log, SALT)
    assert roots.inbox_root == roots.outbox_root == roots.gossip_root == NO_DIGEST
    assert roots.trace_root == NO_DIGEST


@pytest.mark.rule("V6", "V9")
def test_both_ends_of_every_edge_write_the_same_leaf() -> None:
    lower = replace(
        MIDDLE,
        in_activation=NO_DIGEST,
        out_gradient=NO_DIGEST,
        out_activation=some("up"),
        in_gradient=some("down"),
        source=-1,
        destination=5,
    )
    upper = replace(
        MIDDLE,
        in_activation=some("up"),
        out_gradient=some("down"),
        out_activation=NO_DIGEST,
        in_gradient=NO_DIGEST,
        source=3,
        destination=-1,
    )
    below, above = StageIndex(0), StageIndex(1)
    assert edges_root(outbox(below, 3, [lower])) == edges_root(inbox(above, 5, [upper]))
    assert edges_root(inbox(below, 3, [lower])) == edges_root(outbox(above, 5, [upper]))
    lie = replace(upper, out_gradient=some("another"))
    assert edges_root(inbox(below, 3, [lower])) != edges_root(outbox(above, 5, [lie]))


@pytest.mark.rule("V6")
def test_a_seat_in_the_middle_has_two_edges_each_way() -> None:
    assert len(inbox(StageIndex(1), 3, [MIDDLE])) == len(outbox(StageIndex(1), 3, [MIDDLE])) == 2


def test_a_micro_batch_that_was_sent_twice_is_written_down_twice() -> None:
    once = inbox(StageIndex(1), 3, [MIDDLE])
    assert edges_root(once) != edges_root([*once, *once])
