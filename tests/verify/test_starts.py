"""A segment begins from a checkpoint, initial weights or the end of another, or its log is refused."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

from swarm.errors import BrokenPromise, PeerFault
from swarm.ledger.state.records import StartKind
from swarm.primitives.codec import replace
from swarm.primitives.commitments import REFUSED, hash_of
from swarm.primitives.merkle import merkle_root
from swarm.training.averaging.adoption import OfferedState, adopt
from swarm.training.record.restore import adopted_shard, restored
from swarm.training.record.segment import COMPONENTS, ShardState
from swarm.training.record.window import (
    WindowData,
    WindowKey,
)
from swarm.training.record.window_bytes import (
    decode_window,
    encode_window,
)
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.replay import Committed, answer
from swarm.verify.starts import Start, check_source, check_source_parts, fresh_parts
from swarm.verify.transcript import state_root
from tests.verify.windows import TOKENS, Harvest, honest

KEY = WindowKey(RunIndex(1), RoundIndex(1), StageIndex(0), 0, 0)


@cache
def crop() -> Harvest:
    return honest(2, "seq-f32/1")


def end_of_round_0() -> tuple[ShardState, tuple[Digest, ...]]:
    """The state of a seat after its first segment, and the parts that it has committed."""
    state = crop().segments[1, 0, 0].windows[0].start
    return state, crop().segments[0, 0, 0].log.end


def inherited() -> tuple[Start, WindowData]:
    """A seat that goes on from what another ended with."""
    state, parts = end_of_round_0()
    offered = OfferedState(state.phi_P, state.v_A, state.step, parts)
    adopted = adopt(offered, state.phi_P.numel(), state.v_A.numel())
    anchor = (state.phi_P, hash_of(state.phi_P))
    shard = adopted_shard(crop().spec, KEY.stage, adopted, anchor, lambda: 0.0)
    assert shard.source is not None
    start = Start(state_root(shard.components()), StartKind.INHERITED, Digest(shard.source.root))
    return start, WindowData(KEY, False, shard.state(), (), shard.source.parts)


def from_checkpoint() -> tuple[Start, WindowData]:
    """A seat that begins from a checkpoint."""
    phi_P = end_of_round_0()[0].phi_P
    shard = Shard(crop().spec, KEY.stage, phi_P)
    start = Start(state_root(shard.components()), StartKind.CHECKPOINT, hash_of(phi_P))
    return start, WindowData(KEY, False, shard.state(), ())


def check_both(start: Start, data: WindowData) -> None:
    """Check a start by its values and by the digests of its parts, which must say the same."""
    state, spec = data.start, crop().spec
    shard = restored(spec, KEY.stage, state, state.phi_P)
    fresh = fresh_parts(spec, state.params_P.numel(), state.v_A.numel())
    faults = list[BrokenPromise]()
    try:
        check_source(start, data)
    except BrokenPromise as fault:
        faults.append(fault)
    try:
        check_source_parts(start, shard.components(), data.inherited, fresh)
    except BrokenPromise as fault:
        faults.append(fault)
    assert len(faults) in {0, 2}
    if faults:
        raise faults[0]


@pytest.mark.rule("V34")
def test_what_honest_seats_begin_from_passes() -> None:
    for start, data in (inherited(), from_checkpoint()):
        check_both(start, data)
    first = crop().segments[0, 0, 0]
    initial = Start(state_root(first.log.start), StartKind.INITIAL, initial_root())
    committed = Committed(initial, first.log.num_steps, 1, first.log.sent)
    said = answer(committed, first.plan, first.windows[0], TOKENS, crop().anchors[0])
    assert said == first.claims()[0]
    goes_on = crop().segments[1, 0, 0]
    own = Start(state_root(goes_on.log.start), StartKind.CONTINUED, NO_DIGEST)
    check_source(own, goes_on.windows[0])


@pytest.mark.rule("V34")
@pytest.mark.parametrize("kind", [StartKind.INITIAL, StartKind.CHECKPOINT, StartKind.INHERITED])
def test_random_weights_put_in_at_a_segments_start_are_refused(kind: StartKind) -> None:
    """Its commit names the root of the state that it began from, and all its arithmetic is right."""
    first = crop().segments[0, 0, 0]
    honest_data = first.windows[0]
    noise_P = torch.randn(honest_data.start.phi_P.shape, generator=torch.Generator().manual_seed(1))
    state = replaced(honest_data.start, params_P=noise_P, phi_P=noise_P.clone())
    forged = replace_window(honest_data, state)
    shard = Shard(crop().spec, KEY.stage, noise_P)
    shard.set_anchor(crop().anchors[0][initial_root()], initial_root())
    root = state_root(shard.components())
    for source in (initial_root(), merkle_root(first.log.end)):
        start = Start(root, kind, source)
        committed = Committed(start, first.log.num_steps, 1, first.log.sent)
        said = answer(committed, first.plan, forged, TOKENS, crop().anchors[0])
        assert said == REFUSED


def initial_root() -> Digest:
    return Digest(crop().segments[0, 0, 0].log.start[4])


def replaced(state: ShardState, **changes: object) -> ShardState:
    fields = {name: getattr(state, name) for name in state.__dataclass_fields__}
    return ShardState(**(fields | changes))


def replace_window(data: WindowData, state: ShardState) -> WindowData:
    return WindowData(data.key, data.is_last, state, data.events, data.inherited)


Lie = Callable[[ShardState], ShardState]
LIES: dict[str, Lie] = {
    "fast weights": lambda s: replaced(s, params_P=s.params_P + 1),
    "slow weights": lambda s: replaced(s, params_P=s.phi_P + 1, phi_P=s.phi_P + 1),
    "first moments": lambda s: replaced(s, m_P=s.m_P + 1),
    "a negative zero": lambda s: replaced(s, m_P=-s.m_P),
    "second moments": lambda s: replaced(s, v_A=s.v_A + 1),
    "momentum": lambda s: replaced(s, momentum_P=s.momentum_P + 1),
    "step": lambda s: replaced(s, step=s.step + 1),
    "tokens": lambda s: replaced(s, tokens_total=1),
    "tokens of a fragment": lambda s: replaced(s, tokens_at_sync=(1, *s.tokens_at_sync[1:])),
}


@pytest.mark.rule("V34")
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("begin", [inherited, from_checkpoint])
def test_whatever_else_a_start_has_is_refused(
    begin: Callable[[], tuple[Start, WindowData]], lie: str
) -> None:
    start, data = begin()
    forged = replace_window(data, LIES[lie](data.start))
    with pytest.raises(BrokenPromise):
        check_both(start, forged)


@pytest.mark.rule("V34")
def test_parts_that_are_not_those_of_the_end_are_refused() -> None:
    start, data = inherited()
    _, parts = end_of_round_0()
    swapped = (*parts[:1], NO_DIGEST, *parts[2:])
    for wrong in ((), parts[:-1], swapped):
        with pytest.raises(BrokenPromise):
            check_both(start, WindowData(KEY, False, data.start, (), wrong))
    own, other = from_checkpoint()
    with pytest.raises(BrokenPromise):
        check_both(own, WindowData(KEY, False, other.start, (), parts))
    goes_on = Start(start.root, StartKind.CONTINUED, NO_DIGEST)
    with pytest.raises(BrokenPromise):
        check_both(goes_on, data)


@pytest.mark.rule("V34")
def test_the_parts_travel_in_the_log_of_the_first_window_only() -> None:
    first = crop().segments[0, 0, 0].windows[0]
    _, parts = end_of_round_0()
    spec = crop().spec
    raw = b"".join(encode_window(replace(first, inherited=parts)))
    assert decode_window(spec, raw).inherited == parts
    assert len(parts) == COMPONENTS
    for wrong in (
        replace(first, inherited=parts[:3]),
        replace(first, inherited=(*parts[:9], Digest(b"short"))),
        replace(first, key=replace(first.key, window=1), inherited=parts),
    ):
        with pytest.raises(PeerFault):
            decode_window(spec, b"".join(encode_window(wrong)))
