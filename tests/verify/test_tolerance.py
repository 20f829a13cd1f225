"""An honest window of a native run is within its tolerance on another machine; every lie about it is not."""

from collections.abc import Callable, Iterator
from functools import cache
from math import inf
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from swarm.config.spec import MUON, RunSpec
from swarm.config.tolerance import ADAMW_BOUND, COLD_BOUND, MUON_BOUND
from swarm.errors import BadEncoding
from swarm.gossip.trade.messages import Codec
from swarm.primitives.codec import replace
from swarm.primitives.commitments import REFUSED
from swarm.training.data.dataset import TokenSource
from swarm.training.data.samples import draw_samples
from swarm.training.devices.engine import LocalEngine
from swarm.training.model.profiles import table_on
from swarm.training.model.stages import Stage, plans_of
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import MicrobatchId, ShardState
from swarm.training.record.window import (
    Event,
    FragmentMerged,
    SnapshotTaken,
    StepTaken,
    Uncounted,
    WindowData,
)
from swarm.training.record.window_bytes import (
    decode_window,
    encode_window,
)
from swarm.types import NO_DIGEST, Digest
from swarm.verify.replay import Committed, Replay
from swarm.verify.tolerance import (
    Comparison,
    compare,
    parts_of,
    stated,
)
from swarm.verify.transcript import state_root
from tests.verify import lies
from tests.verify.lies import Lie, NotHere
from tests.verify.logs import steps_of, with_events
from tests.verify.windows import TOKENS, Harvest, Segment, harvest, spec_of

STEPS = 6
WIDTH = 3


def a_run(stages: int, optimizer: str = "adamw", codec: str = "int8") -> RunSpec:
    spec = spec_of(stages, "native", optimizer)
    checks = replace(spec.checks, window_steps=WIDTH)
    outer = replace(spec.outer, codec=codec)
    return replace(spec, rounds=20, inner_steps_max=STEPS, checks=checks, outer=outer)


@cache
def crop(stages: int, optimizer: str = "adamw", loss: float = 0.0) -> Harvest:
    return harvest(a_run(stages, optimizer), codecs=(Codec.INT8, None), loss=loss)


def windows_of(
    harvested: Harvest, stage: int | None = None
) -> Iterator[tuple[Segment, int, WindowData]]:
    for (_, where, _), segment in sorted(harvested.segments.items()):
        if stage in {None, where}:
            for number, data in enumerate(segment.windows):
                yield segment, number, data


def committed_by(segment: Segment) -> Committed:
    start = state_root(segment.log.start)
    return Committed(start, segment.log.num_steps, 1 + segment.log.seat, segment.log.sent)


def another_machine(spec: RunSpec, stage: int) -> LocalEngine:
    """One with the fused operators of an accelerator: other bits."""
    return LocalEngine(Stage(plans_of(spec)[stage], table_on("native", "cpu")))


def compared(harvested: Harvest, segment: Segment, data: WindowData) -> Comparison:
    """What another machine says of a log."""
    stage = segment.log.stage
    given = (committed_by(segment), segment.plan, data, TOKENS, harvested.anchors[stage])
    return compare(*given, None, another_machine(harvested.spec, stage))


def is_refused(found: Comparison) -> bool:
    """True for the answer to a log that no honest seat writes."""
    return found.result == REFUSED and found.distance == inf


def end_of(harvested: Harvest, segment: Segment, data: WindowData) -> ShardState:
    anchors = harvested.anchors[segment.log.stage]
    machine = Replay(segment.plan, data, TOKENS, anchors, is_forced=True)
    machine.run()
    return machine.shard.state()


# --- the honest ---


@pytest.mark.rule("V46", "V16")
@pytest.mark.parametrize(
    ("stages", "optimizer", "loss"),
    [(1, "adamw", 0.0), (2, "adamw", 0.2), (3, "adamw", 0.0), (2, MUON, 0.0)],
)
def test_another_machine_accepts_every_honest_window(
    stages: int, optimizer: str, loss: float
) -> None:
    """With merges, solo steps, drops and what was not counted; its answer is what the solver says of it."""
    harvested, seen = crop(stages, optimizer, loss), set[float]()
    for segment, number, data in windows_of(harvested):
        read = decode_window(harvested.spec, b"".join(map(bytes, encode_window(data))))
        found = compared(harvested, segment, read)
        claim = segment.claims()[number]
        assert found.result == replace(claim, leaves_root=NO_DIGEST)
        seen.add(found.distance)
    assert 0 < max(seen) < COLD_BOUND / 4
    assert 0 < min(seen) < ADAMW_BOUND / 4


def test_the_honest_windows_of_these_tests_have_everything_that_other_bits_could_upset() -> None:
    events = [
        event
        for harvested in (crop(2, loss=0.2), crop(3))
        for _, _, data in windows_of(harvested)
        for event in data.events
    ]
    assert any(isinstance(event, FragmentMerged) and event.offer is not None for event in events)
    assert any(isinstance(event, SnapshotTaken) for event in events)
    assert any(isinstance(event, Uncounted) for event in events)
    assert any(isinstance(event, StepTaken) and event.dropped for event in events)


@pytest.mark.rule("V47")
def test_the_end_in_a_log_is_the_state_that_the_next_one_begins_with_and_the_commit_names() -> None:
    for segment in crop(2).segments.values():
        roots = [result.end_root for result in segment.claims()]
        for data, root in zip(segment.windows, roots, strict=True):
            assert data.end is not None
            assert state_root(parts_of(data.end)) == root
        assert roots[-1] == state_root(segment.log.end)


@pytest.mark.rule("V47")
def test_a_log_of_an_exact_run_has_no_end() -> None:
    spec = spec_of(1, "seq-f32/1")
    harvested = harvest(spec, rounds=1)
    data = harvested.segments[0, 0, 0].windows[0]
    assert data.end is None
    with pytest.raises(BadEncoding, match="which a replay gives"):
        decode_window(spec, b"".join(map(bytes, encode_window(replace(data, end=data.start)))))


# --- lies about the arithmetic ---

Told = Callable[[Harvest, Segment, WindowData], ShardState]


def numbered(made: ShardState, data: WindowData) -> ShardState:
    """A false end with the numbers of the honest one: only its floats are a lie."""
    end = data.end
    assert end is not None
    pairs = zip(made.snapshots, end.snapshots, strict=True)
    return replace(
        made,
        step=end.step,
        tokens_total=end.tokens_total,
        tokens_at_sync=end.tokens_at_sync,
        snapshots=tuple((exchange, tokens, x) for (_, _, x), (exchange, tokens, _) in pairs),
    )


def skipped(harvested: Harvest, segment: Segment, data: WindowData) -> ShardState:
    last = steps_of(data)[-1].step
    less = with_events(data, lambda e: None if isinstance(e, StepTaken) and e.step == last else e)
    with patch("swarm.verify.log_rules._check_steps"):
        return numbered(end_of(harvested, segment, less), data)


def half_of_the_batch(harvested: Harvest, segment: Segment, data: WindowData) -> ShardState:
    def half(event: Event) -> Event:
        if not isinstance(event, StepTaken):
            return event
        kept = max(len(event.microbatches) // 2, 1)
        return replace(event, microbatches=event.microbatches[:kept])

    return numbered(end_of(harvested, segment, with_events(data, half)), data)


def in_bfloat16(harvested: Harvest, segment: Segment, data: WindowData) -> ShardState:
    stage, anchors = segment.log.stage, harvested.anchors[segment.log.stage]
    engine = LocalEngine(Stage(plans_of(harvested.spec)[stage], table_on("native-bf16", "cpu")))
    machine = Replay(segment.plan, data, TOKENS, anchors, engine=engine, is_forced=True)
    machine.run()
    return machine.shard.state()


def with_one_bad_label(harvested: Harvest, segment: Segment, data: WindowData) -> ShardState:
    chosen = steps_of(data)[0].microbatches[0].microbatch_id

    def draw(
        tokens: TokenSource, plan: RoundPlan, microbatch_id: MicrobatchId
    ) -> tuple[Tensor, Tensor, Digest]:
        inputs_BT, labels_BT, root = draw_samples(tokens, plan, microbatch_id)
        if microbatch_id == chosen:
            labels_BT = labels_BT.clone()
            labels_BT[0, 3] = (labels_BT[0, 3] + 5) % 100
        return inputs_BT, labels_BT, root

    with patch("swarm.training.shard.draw_samples", draw):
        return end_of(harvested, segment, data)


def changed(name: str) -> Told:
    """One value of one tensor is off by a hundredth of the way that the tensor went."""

    def lie(_: Harvest, __: Segment, data: WindowData) -> ShardState:
        assert data.end is not None
        now, before = getattr(data.end, name), getattr(data.start, name)
        way = float((now - before).norm())
        bent = now.clone()
        bent[1] += max(0.01 * way, 1e-3 * float(now.norm()), 1e-6)
        return replace(data.end, **{name: bent})

    return lie


ARITHMETIC: dict[str, Told] = {
    "a step left out": skipped,
    "half of the batch": half_of_the_batch,
    "products in bfloat16": in_bfloat16,
    "one bad label": with_one_bad_label,
    "other weights": changed("params_P"),
    "another first moment": changed("m_P"),
    "another second moment": changed("v_A"),
    "other slow weights": changed("phi_P"),
    "another outer momentum": changed("momentum_P"),
}


@pytest.mark.rule("V46")
@pytest.mark.parametrize("optimizer", ["adamw", MUON])
@pytest.mark.parametrize("name", ARITHMETIC)
def test_an_end_that_another_arithmetic_gives_is_rejected(name: str, optimizer: str) -> None:
    harvested, num_told = crop(2, optimizer), 0
    usual = MUON_BOUND if optimizer == MUON else ADAMW_BOUND
    for segment, _, data in windows_of(harvested, stage=1):
        if len(steps_of(data)) < 2:
            continue
        end = ARITHMETIC[name](harvested, segment, data)
        found = compared(harvested, segment, replace(data, end=end))
        assert found.result == REFUSED
        assert found.distance > found.bound >= usual
        assert found.distance < inf, "it is the arithmetic that is seen, not the form"
        num_told += 1
    assert num_told >= 4


@pytest.mark.parametrize(
    "numbers",
    [
        {"step": 99},
        {"tokens_total": 64_000},
        {"anchor_root": NO_DIGEST},
        {"tokens_at_sync": (0, 1)},
    ],
    ids=lambda numbers: next(iter(numbers)),
)
def test_another_number_in_the_end_is_rejected(numbers: dict[str, object]) -> None:
    harvested = crop(1)
    segment, _, data = next(windows_of(harvested))
    assert data.end is not None
    end = replace(data.end, **numbers)
    assert is_refused(compared(harvested, segment, replace(data, end=end)))


def test_an_end_that_is_not_finite_is_rejected() -> None:
    harvested = crop(1)
    segment, _, data = next(windows_of(harvested))
    assert data.end is not None
    for value in (inf, float("nan")):
        bad = torch.full_like(data.end.m_P, value)
        told = replace(data, end=replace(data.end, m_P=bad))
        assert is_refused(compared(harvested, segment, told))


@pytest.mark.rule("V47")
def test_the_honest_end_in_another_log_has_another_answer_than_the_commit() -> None:
    """Adversary: it commits to a lie, and writes the honest end into the log once a verifier was drawn."""
    harvested = crop(1)
    segment, number, data = next(windows_of(harvested))
    assert data.end is not None
    bent = changed("params_P")(harvested, segment, data)
    lie = replace(
        segment.claims()[number], end_root=state_root(parts_of(bent)), leaves_root=NO_DIGEST
    )
    found = compared(harvested, segment, data)
    assert found.result not in {REFUSED, lie}
    assert compared(harvested, segment, replace(data, end=bent)).result == REFUSED


# --- logs that no honest seat writes ---

LIES: list[tuple[int, dict[str, Lie], str]] = [
    (0, lies.MESSAGES_FROM_ABOVE, "a forged signature on a gradient"),
    (0, lies.MESSAGES_FROM_ABOVE, "a gradient for activations that were not computed"),
    (1, lies.MESSAGES_FROM_BELOW, "a forged signature on activations"),
    (1, lies.STEPS_TAKEN, "a micro-batch twice"),
    (1, lies.STEPS_TAKEN, "a step that was not taken"),
    (1, lies.FRAGMENTS, "another weight"),
    (1, lies.FRAGMENTS, "a flipped bit of a fragment"),
    (1, lies.ANCHORS, "an anchor that nobody knows"),
]


@pytest.mark.rule("V46", "V10")
@pytest.mark.parametrize(("stage", "kind", "name"), LIES, ids=[name for *_, name in LIES])
def test_a_log_that_no_honest_seat_writes_is_refused_as_in_exact_runs(
    stage: int, kind: dict[str, Lie], name: str
) -> None:
    harvested, lie, num_told = crop(2), kind[name], 0
    for segment, _, data in windows_of(harvested, stage):
        try:
            told = lie(harvested, data)
        except NotHere:
            continue
        assert is_refused(compared(harvested, segment, told))
        num_told += 1
    assert num_told


def test_a_log_without_its_end_or_of_another_segment_is_refused() -> None:
    harvested = crop(2)
    segment, other = harvested.segments[1, 1, 0], harvested.segments[0, 1, 0]
    data = segment.windows[0]
    stated(committed_by(segment), segment.plan, data)
    told = (replace(data, end=None), replace(data, start=other.windows[0].start))
    for one in told:
        assert is_refused(compared(harvested, segment, one))


@pytest.mark.rule("V46")
def test_a_list_that_has_other_micro_batches_than_the_log_is_refused() -> None:
    harvested = crop(2)
    segment = harvested.segments[0, 0, 0]
    data, honest = segment.windows[0], committed_by(segment)
    counted = steps_of(data)[0].microbatches[0].microbatch_id
    first = next(entry for entry in honest.sent if entry.place[1:] == counted and not entry.kind)
    for sent in (
        tuple(entry for entry in honest.sent if entry is not first),
        tuple(replace(entry, up=bytes(32)) if entry is first else entry for entry in honest.sent),
        tuple(replace(entry, window=1) if entry is first else entry for entry in honest.sent),
    ):
        found = compare(
            replace(honest, sent=sent), segment.plan, data, TOKENS, harvested.anchors[0]
        )
        assert is_refused(found)
