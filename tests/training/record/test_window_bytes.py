"""A window has one form, and bytes from a stranger are that form or a fault, never more memory."""

import random

import pytest
import torch

from swarm.config.spec import SPOTS
from swarm.errors import BadEncoding, PeerFault
from swarm.primitives.codec import replace
from swarm.training.model.stages import plan_stages
from swarm.training.record import window_bytes as module
from swarm.training.record.segment import ShardState
from swarm.training.record.window import (
    Event,
    FragmentMerged,
    StepTaken,
    WindowData,
    is_bare,
)
from swarm.training.record.window_bytes import (
    MAGIC,
    decode_window,
    encode_window,
)
from swarm.types import NO_DIGEST, StageIndex
from tests.training.logs import SPEC, recorded

STAGES = (0, 1, 2)


def bytes_of(data: WindowData) -> bytes:
    return b"".join(encode_window(data))


def same_state(one: ShardState, other: ShardState) -> bool:
    numbers = [
        (s.step, s.anchor_root, s.tokens_total, s.tokens_at_sync, [x[:2] for x in s.snapshots])
        for s in (one, other)
    ]
    pairs = [*zip(one.tensors, other.tensors, strict=True)]
    pairs += [(a[2], b[2]) for a, b in zip(one.snapshots, other.snapshots, strict=True)]
    return numbers[0] == numbers[1] and all(torch.equal(a, b) for a, b in pairs)


def without_values(data: WindowData) -> WindowData:
    """A log that has only the numbers of its start state."""
    nothing = torch.empty(0)
    start = replace(
        data.start,
        params_P=nothing,
        m_P=nothing,
        v_A=nothing,
        phi_P=nothing,
        momentum_P=nothing,
        residual_R=nothing,
        snapshots=tuple((e, tokens, nothing) for e, tokens, _ in data.start.snapshots),
    )
    return replace(data, start=start)


def a_merge(data: WindowData) -> FragmentMerged:
    return next(event for event in data.events if isinstance(event, FragmentMerged))


def a_traded(stage: int = 1) -> WindowData:
    """A window with a merge."""
    return next(w for w in recorded(stage) if any(isinstance(e, FragmentMerged) for e in w.events))


def an_offering(theta: torch.Tensor) -> WindowData:
    """A window that begins with a fragment on its way."""
    data = recorded(1)[1]
    return replace(data, start=replace(data.start, snapshots=((0, 5, theta),)))


@pytest.mark.rule("T28")
@pytest.mark.parametrize("stage", STAGES)
def test_what_was_recorded_comes_back_as_it_was(stage: int) -> None:
    assert len(recorded(stage)) > 2
    for data in recorded(stage):
        again = decode_window(SPEC, bytes_of(data))
        assert (again.key, again.is_last, again.events) == (data.key, data.is_last, data.events)
        assert same_state(again.start, data.start)
        assert bytes_of(again) == bytes_of(data)


def test_a_view_is_as_good_as_bytes_and_is_not_kept() -> None:
    raw = bytearray(bytes_of(a_traded()))
    again = decode_window(SPEC, memoryview(raw))
    raw[:] = bytes(len(raw))
    assert bytes_of(again) == bytes_of(a_traded())


@pytest.mark.rule("S36", "T28")
@pytest.mark.parametrize("stage", STAGES)
def test_bytes_that_are_cut_or_grow_are_refused(stage: int) -> None:
    raw = bytes_of(recorded(stage)[0])
    rng = random.Random(stage)
    for length in (
        0,
        1,
        7,
        8,
        11,
        12,
        13,
        len(raw) - 1,
        *(rng.randrange(len(raw)) for _ in range(50)),
    ):
        with pytest.raises(PeerFault):
            decode_window(SPEC, raw[:length])
    with pytest.raises(PeerFault):
        decode_window(SPEC, raw + b"\x00")


@pytest.mark.rule("T28")
@pytest.mark.parametrize("stage", STAGES)
def test_flipped_bits_are_a_fault_or_another_window(stage: int) -> None:
    """Never another error, and never a second form of the same window."""
    raw = bytes_of(a_traded(stage))
    rng = random.Random(stage)
    header = 12 + int.from_bytes(raw[8:12], "big")
    for _ in range(400):
        bent = bytearray(raw)
        for _ in range(rng.randint(1, 3)):
            index = rng.randrange(header) if rng.random() < 0.8 else rng.randrange(len(raw))
            bent[index] ^= 1 << rng.randrange(8)
        try:
            data = decode_window(SPEC, bytes(bent))
        except PeerFault:
            continue
        assert bytes_of(data) == bytes(bent)


@pytest.mark.rule("S36", "T28")
def test_a_header_cannot_ask_for_memory() -> None:
    for length in (1 << 31, (1 << 32) - 1, 1 << 24):
        with pytest.raises(BadEncoding):
            decode_window(SPEC, MAGIC + length.to_bytes(4, "big") + bytes(100))


@pytest.mark.rule("T28")
def test_a_window_that_is_too_long_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bytes_of(recorded(0)[0])
    monkeypatch.setattr(module, "WINDOW_BYTES_MAX", len(raw) - 1)
    with pytest.raises(BadEncoding, match="bytes"):
        decode_window(SPEC, raw)


@pytest.mark.rule("V14")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["params_P", "m_P", "v_A", "phi_P", "momentum_P"])
def test_a_state_that_is_not_finite_is_refused(name: str, value: float) -> None:
    data = recorded(1)[0]
    bent = getattr(data.start, name).clone()
    bent[-1] = value
    with pytest.raises(BadEncoding, match="finite"):
        decode_window(SPEC, bytes_of(replace(data, start=replace(data.start, **{name: bent}))))


def test_a_fragment_on_its_way_is_finite_and_as_long_as_it_should_be() -> None:
    span = plan_stages(SPEC.model, SPEC.num_stages)[1].fragments(SPEC.outer.fragments)[0]
    theta = torch.arange(float(span.numel))
    again = decode_window(SPEC, bytes_of(an_offering(theta)))
    assert same_state(again.start, an_offering(theta).start)
    for bent in (theta[1:], torch.cat([theta, theta]), theta / 0.0):
        with pytest.raises(PeerFault):
            decode_window(SPEC, bytes_of(an_offering(bent)))


@pytest.mark.rule("T28")
def test_tensors_of_another_length_are_refused() -> None:
    data = recorded(1)[0]
    longer = torch.cat([data.start.params_P, torch.zeros(1)])
    for start in (
        replace(data.start, params_P=longer),
        replace(data.start, momentum_P=data.start.momentum_P[:-1]),
    ):
        with pytest.raises(PeerFault):
            decode_window(SPEC, bytes_of(replace(data, start=start)))


@pytest.mark.parametrize("stage", STAGES)
def test_a_window_of_another_stage_than_it_says_is_refused(stage: int) -> None:
    data = recorded(stage)[0]
    for other in (*STAGES, 3, 1 << 40):
        if other != stage:
            bent = replace(data, key=replace(data.key, stage=StageIndex(other)))
            with pytest.raises(PeerFault):
                decode_window(SPEC, bytes_of(bent))


def with_event(data: WindowData, old: Event, new: Event) -> WindowData:
    return replace(data, events=tuple(new if event is old else event for event in data.events))


def test_payloads_of_another_length_are_refused() -> None:
    data = a_traded()
    merge = a_merge(data)
    assert merge.offer is not None
    taken = next(event for event in data.events if isinstance(event, StepTaken))
    one = taken.microbatches[0]
    assert one.request is not None
    shorter = replace(one.request, payload=one.request.payload[:-2])
    fewer = replace(
        one.request, batch=2, payload=one.request.payload[: len(one.request.payload) // 2]
    )
    for bent in (
        with_event(data, merge, replace(merge, payload=merge.payload[:-1])),
        with_event(data, merge, replace(merge, payload=bytes(merge.payload) + b"\x00")),
        with_event(data, merge, replace(merge, offer=None)),
        with_event(data, merge, replace(merge, offer=replace(merge.offer, num_bytes=1 << 40))),
        *(
            with_event(
                data,
                taken,
                replace(
                    taken, microbatches=(replace(one, request=request), *taken.microbatches[1:])
                ),
            )
            for request in (shorter, fewer)
        ),
    ):
        with pytest.raises(PeerFault):
            decode_window(SPEC, bytes_of(bent))


def test_a_step_alone_has_no_partner() -> None:
    data = a_traded()
    merge = a_merge(data)
    solo = FragmentMerged(merge.exchange, -1, 0, NO_DIGEST, None)
    again = decode_window(SPEC, bytes_of(with_event(data, merge, solo)))
    assert solo in again.events


def test_a_log_without_its_start_state_has_the_numbers_of_it_and_no_values() -> None:
    """Where checks look at elements, most windows are kept so."""
    spec = replace(SPEC, checks=replace(SPEC.checks, window_steps=1, way=SPOTS))
    first, second = recorded(1)[:2]
    numbers = without_values(second).start
    steps = [event for event in second.events if isinstance(event, StepTaken)][:1]
    bare = replace(second, start=numbers, events=tuple(steps), is_last=False)
    assert is_bare(spec, bare.key.window)
    assert not is_bare(spec, first.key.window)
    assert not is_bare(SPEC, bare.key.window)
    back = decode_window(spec, bytes_of(bare))
    assert same_state(back.start, numbers)
    assert back.events == bare.events
    with pytest.raises(BadEncoding):
        decode_window(SPEC, bytes_of(bare))
    with pytest.raises(BadEncoding):
        decode_window(spec, bytes_of(replace(bare, start=second.start)))
