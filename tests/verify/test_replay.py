"""An honest window replays to its solver's own leaves, whoever replays it; a lie in it does not."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import cast

import pytest
import torch
from torch import Tensor

from swarm.config.spec import OptimizerSpec
from swarm.errors import OutOfTurn, PeerFault
from swarm.gossip.trade.messages import Codec
from swarm.primitives.codec import decode, encode, replace
from swarm.primitives.commitments import REFUSED, hash_of
from swarm.training.averaging.outer_step import OuterScalars, OuterState, Partner, outer_step
from swarm.training.data.dataset import TokenSource
from swarm.training.data.samples import draw_samples
from swarm.training.messages import MicroBatch, MicroBatchGrad, Passed, wire_digest
from swarm.training.model.operators import Ops
from swarm.training.model.optimizer import OptimizerState, optimizer_step
from swarm.training.model.stages import Matrix, Span
from swarm.training.pipeline import Pipeline
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import MergeRecord, MicrobatchRecord, ShardState, StepRecord
from swarm.training.record.window import (
    AnchorSet,
    FragmentMerged,
    StepTaken,
    WindowData,
)
from swarm.training.record.window_bytes import (
    decode_window,
    encode_window,
)
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest
from swarm.verify.log_rules import check_place
from swarm.verify.replay import Committed, answer, replay
from swarm.verify.transcript import state_root
from tests.verify import lies
from tests.verify.lies import Lie, NotHere
from tests.verify.logs import steps_of, with_events, with_microbatch
from tests.verify.windows import (
    TOKENS,
    Field,
    Harvest,
    Segment,
    base_of,
    harvest,
    honest,
    spec_of,
)

EXACT = "seq-f32/1"


def two_stages() -> Harvest:
    return honest(2, EXACT)


def windows_of(crop: Harvest, stage: int) -> Iterator[tuple[Segment, int, WindowData]]:
    for (_, where, _), segment in sorted(crop.segments.items()):
        if where == stage:
            for number, data in enumerate(segment.windows):
                yield segment, number, data


# --- the honest ---


@pytest.mark.rule("V16")
@pytest.mark.parametrize(
    ("stages", "numerics", "loss", "optimizer"),
    [
        (1, "native", 0.0, "adamw"),
        (1, EXACT, 0.0, "adamw"),
        (2, EXACT, 0.0, "adamw"),
        (2, "native", 0.15, "adamw"),
        (3, EXACT, 0.15, "adamw"),
        (1, "native", 0.0, "muon"),
        (2, EXACT, 0.15, "muon"),
        (1, EXACT, 0.0, "adapter"),
        (2, EXACT, 0.15, "adapter"),
        (2, "native", 0.0, "adapter"),
    ],
)
def test_honest_windows_replay_to_their_solvers_leaves(
    stages: int, numerics: str, loss: float, optimizer: str
) -> None:
    """With the two optimizers, and of an adapter, whose log holds nothing of the weights below it."""
    rank, name = (4, "adamw") if optimizer == "adapter" else (0, optimizer)
    crop = honest(stages, numerics, loss=loss, optimizer=name, rank=rank)
    for (_, stage, _), segment in crop.segments.items():
        assert segment.windows[-1].is_last
        tokens = 0
        for data, claim in zip(segment.windows, segment.claims(), strict=True):
            base_W = base_of(crop.spec, stage)
            result = replay(segment.plan, data, TOKENS, crop.anchors[stage], base_W)
            assert result == claim
            tokens += result.tokens
            if data.key.window == 0:
                assert result.start_root == state_root(segment.log.start)
        assert tokens == segment.log.tokens


@pytest.mark.rule("V16", "T40")
def test_an_adapter_on_other_weights_gives_other_leaves() -> None:
    """The base is an input of the replay, and a log of an adapter holds its own small state alone."""
    crop = honest(2, EXACT, rank=4)
    segment = crop.segments[0, 1, 0]
    data, claim, anchors = segment.windows[0], segment.claims()[0], crop.anchors[1]
    base_W = base_of(crop.spec, 1)
    assert base_W is not None
    assert data.start.params_P.numel() < base_W.numel()
    bent_W = base_W.clone()
    bent_W[5] += 1e-3
    assert replay(segment.plan, data, TOKENS, anchors, base_W) == claim
    assert replay(segment.plan, data, TOKENS, anchors, bent_W).leaves_root != claim.leaves_root
    kept = decode_window(crop.spec, b"".join(encode_window(data)))
    assert kept.start.params_P.numel() == data.start.params_P.numel()


def test_the_honest_windows_of_these_tests_have_everything_a_window_can_have() -> None:
    crops = [two_stages(), honest(3, EXACT, loss=0.15)]
    windows = [w for crop in crops for s in crop.segments.values() for w in s.windows]
    events = [event for data in windows for event in data.events]
    merges = [event for event in events if isinstance(event, FragmentMerged)]
    assert {merged.offer and merged.offer.codec for merged in merges} == {
        Codec.INT8,
        Codec.BF16,
        None,
    }
    assert any(isinstance(event, AnchorSet) for event in events)
    assert any(taken.dropped for data in windows for taken in steps_of(data))
    assert any(data.start.snapshots for data in windows)
    assert any(data.key.window and not data.is_last for data in windows)
    in_the_middle = [
        data for data in windows
        if any(isinstance(event, FragmentMerged) for event in data.events)
        and isinstance(data.events[-1], StepTaken)
    ]  # fmt: skip
    assert in_the_middle


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_window_replays_from_its_bytes(optimizer: str) -> None:
    crop = honest(2, EXACT, optimizer=optimizer)
    for stage in (0, 1):
        for segment, number, data in windows_of(crop, stage):
            raw = b"".join(bytes(piece) for piece in encode_window(data))
            assert crop.answer(decode_window(crop.spec, raw)) == segment.claims()[number]


def test_the_order_in_which_micro_batches_arrived_leaves_no_trace() -> None:
    crop = two_stages()
    segment = crop.segments[0, 1, 0]
    for data, claim in zip(segment.windows, segment.claims(), strict=True):
        shuffled = with_events(
            data,
            lambda e: replace(e, microbatches=e.microbatches[::-1], dropped=e.dropped[::-1])
            if isinstance(e, StepTaken) else e,
        )  # fmt: skip
        assert crop.answer(shuffled) == claim


@pytest.mark.rule("V17")
def test_a_replay_changes_nothing_that_it_reads() -> None:
    crop = two_stages()
    segment = crop.segments[1, 1, 0]
    data, anchors = segment.windows[1], crop.anchors[1]
    before = [hash_of(x) for x in (*data.start.tensors, *anchors.values())]
    assert crop.answer(data) == crop.answer(data)
    assert [hash_of(x) for x in (*data.start.tensors, *anchors.values())] == before


@pytest.mark.rule("S12")
def test_a_partner_that_was_declined_replays_as_declined() -> None:
    def prepare(swarm: Field) -> None:
        swarm.offered = lambda index, theta_P: torch.full_like(theta_P, 3e38) if index else theta_P

    crop = harvest(spec_of(1, EXACT), rounds=1, codecs=(Codec.BF16,), prepare=prepare)
    segment = crop.segments[0, 0, 0]
    merges = [record for record in segment.log.records if isinstance(record, MergeRecord)]
    assert merges
    assert all(merge.partner is not None and merge.weight_nano == 0 for merge in merges)
    for data, claim in zip(segment.windows, segment.claims(), strict=True):
        assert crop.answer(data) == claim
    cheat = crop.segments[0, 0, 1]  # It says that it gave what it never had.
    assert REFUSED in [crop.answer(data) for data in cheat.windows]


# --- logs that lie ---

LIES: list[tuple[int, str, Lie]] = [
    *((0, name, lie) for name, lie in lies.MESSAGES_FROM_ABOVE.items()),
    *((1, name, lie) for name, lie in lies.MESSAGES_FROM_BELOW.items()),
    *((0, name, lie) for name, lie in lies.STEPS_TAKEN.items()),
    *((1, name, lie) for name, lie in lies.STEPS_TAKEN.items()),
    *((1, name, lie) for name, lie in lies.FRAGMENTS.items()),
    *((0, name, lie) for name, lie in lies.STATES.items()),
    *((1, name, lie) for name, lie in lies.ANCHORS.items()),
]
"""(stage of two, what it is, the lie)."""
WINDOWS_EACH = 2


@pytest.mark.rule("V10")
@pytest.mark.parametrize(("stage", "name", "lie"), LIES, ids=[f"{s}: {n}" for s, n, _ in LIES])
def test_a_lie_in_a_log_gives_another_answer_than_the_solvers(
    stage: int, name: str, lie: Lie
) -> None:
    crop = two_stages()
    num_told = 0
    for segment, number, data in windows_of(crop, stage):
        try:
            changed_data = lie(crop, data)
        except NotHere:
            continue
        assert crop.answer(changed_data) != segment.claims()[number]
        num_told += 1
        if num_told == WINDOWS_EACH:
            return
    assert num_told, "no window to tell it in"


FORGERIES = [
    (0, "a forged signature on a gradient"),
    (0, "a gradient that the solver signed itself"),
    (0, "a gradient of another micro-batch"),
    (0, "a gradient for activations that were not computed"),
    (1, "a forged signature on activations"),
    (1, "activations that the solver signed itself"),
    (1, "a micro-batch twice"),
    (1, "a step that was not taken"),
    (1, "a forged signature on an offer"),
    (1, "a partner that the beacon did not choose"),
    (1, "another weight"),
    (1, "tokens of a friend"),
    (1, "a flipped bit of a fragment"),
    (1, "another payload of ours"),
    (1, "an anchor that nobody knows"),
]


@pytest.mark.rule("V10", "V15")
@pytest.mark.parametrize(("stage", "name"), FORGERIES, ids=[n for _, n in FORGERIES])
def test_what_no_honest_seat_writes_is_refused_without_an_answer_of_its_own(
    stage: int, name: str
) -> None:
    crop = two_stages()
    lie = next(found for where, what, found in LIES if (where, what) == (stage, name))
    for _, _, data in windows_of(crop, stage):
        try:
            refused = crop.answer(lie(crop, data))
        except NotHere:
            continue
        assert refused == REFUSED
        return


@pytest.mark.rule("V14")
def test_the_first_window_starts_where_the_commit_says() -> None:
    crop = two_stages()
    first, second = crop.segments[0, 1, 0], crop.segments[1, 1, 0]
    honest_one, claim = second.windows[0], second.claims()[0]
    assert crop.answer(honest_one) == claim
    swapped = replace(honest_one, start=first.windows[0].start)
    assert crop.answer(swapped) == REFUSED
    assert crop.answer(honest_one, start_root=state_root(first.log.start)) == REFUSED
    later = second.windows[1]
    assert crop.answer(later, start_root=NO_DIGEST) == second.claims()[1]


@pytest.mark.rule("V11")
def test_a_segment_does_not_end_in_the_middle_nor_claim_steps_that_it_left_out() -> None:
    """Its first windows would be short, or an exchange could be merged a second time after the end."""
    crop = two_stages()
    segment = crop.segments[1, 0, 0]
    first, last = segment.windows[0], segment.windows[-1]
    assert crop.answer(first) != REFUSED
    cut = [event for event in first.events if not isinstance(event, FragmentMerged)]
    one = next(at for at, event in enumerate(cut) if isinstance(event, StepTaken)) + 1
    for wrong in (
        replace(first, is_last=True),
        replace(first, events=tuple(cut[:one]), is_last=True),
        replace(last, is_last=False),
    ):
        assert crop.answer(wrong) == REFUSED
    log = segment.log
    start = state_root(log.start)
    more = Committed(start, log.num_steps + 1, 1 + log.seat, log.sent)
    with pytest.raises(OutOfTurn, match=f"steps in window {last.key.window}"):
        check_place(segment.plan, last, more.num_steps)
    assert answer(more, segment.plan, last, TOKENS, crop.anchors[0]) == REFUSED


@pytest.mark.rule("V11")
def test_an_anchor_that_is_not_handed_in_is_no_anchor() -> None:
    crop = two_stages()
    segment = crop.segments[1, 1, 0]
    data = segment.windows[0]
    root = next(event.root for event in data.events if isinstance(event, AnchorSet))
    old = {name: x for name, x in crop.anchors[1].items() if name != root}
    with pytest.raises(PeerFault, match="anchor"):
        replay(segment.plan, data, TOKENS, old)


def test_one_flipped_bit_of_what_was_signed_is_always_seen(seed: int) -> None:
    crop = two_stages()
    rng = random.Random(seed)
    for stage in (0, 1):
        data = crop.segments[1, stage, 0].windows[1]
        for taken in steps_of(data):
            for index, one in enumerate(taken.microbatches):
                for side in ("request", "reply"):
                    message = getattr(one, side)
                    if message is None:
                        continue
                    bit = rng.randrange(8 * len(message.payload))
                    wrong = replace(message, payload=lies.flipped(message.payload, bit))
                    lie = with_microbatch(data, taken.step, index, **{side: wrong})
                    assert crop.answer(lie) == REFUSED


def test_every_answer_is_a_claim_of_its_own() -> None:
    crop = two_stages()
    answers = [claim for segment in crop.segments.values() for claim in segment.claims()]
    claims = {one.claim for one in [*answers, REFUSED]}
    assert len(claims) == len(answers) + 1


# --- solvers that lie ---

LIE_STEP = 3


@dataclass
class Update:
    """What an optimizer step is called with."""

    ops: Ops
    params_P: Tensor
    grad_P: Tensor
    state: OptimizerState
    rate: float
    spec: OptimizerSpec
    decayed: Sequence[Span]
    matrices: Sequence[Matrix]


def _adamw(change: Callable[[Update], Update | None]) -> Callable[..., float]:
    """AdamW, but for one step."""

    def adamw(
        ops: Ops,
        params_P: Tensor,
        grad_P: Tensor,
        state: OptimizerState,
        rate: float,
        spec: OptimizerSpec,
        decayed: Sequence[Span],
        matrices: Sequence[Matrix],
    ) -> float:
        update: Update | None = Update(
            ops=ops,
            params_P=params_P,
            grad_P=grad_P,
            state=state,
            rate=rate,
            spec=spec,
            decayed=decayed,
            matrices=matrices,
        )
        if state.step == LIE_STEP and update is not None:
            update = change(update)
        if update is None:
            state.step += 1
            return 0.0
        return optimizer_step(
            **{field.name: getattr(update, field.name) for field in fields(update)}
        )

    return adamw


def _one_ulp(update: Update) -> Update:
    update.params_P.view(torch.int32)[17] ^= 1
    return update


def _other_samples(
    tokens: TokenSource, plan: RoundPlan, microbatch_id: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Digest]:
    origin, step, microbatch = microbatch_id
    return draw_samples(tokens, plan, (origin, step + (step == LIE_STEP), microbatch))


def _other_data(
    tokens: TokenSource, plan: RoundPlan, microbatch_id: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Digest]:
    return draw_samples(
        tokens[::-1] if microbatch_id[1] == LIE_STEP else tokens, plan, microbatch_id
    )


def _ignoring(
    state: OuterState, theta_F: Tensor, _: Partner | None, scalars: OuterScalars
) -> OuterState:
    return outer_step(state, theta_F, None, scalars)


def _longer(
    state: OuterState, theta_F: Tensor, partner: Partner | None, scalars: OuterScalars
) -> OuterState:
    return outer_step(state, theta_F, partner, replace(scalars, beta=0.71, gamma=0.71))


SOLVERS: dict[str, tuple[str, Callable[..., object]]] = {
    "skips a step": ("optimizer_step", _adamw(lambda _: None)),
    "scales a gradient": ("optimizer_step", _adamw(lambda u: replace(u, grad_P=u.grad_P * 1.01))),
    "takes another learning rate": (
        "optimizer_step",
        _adamw(lambda u: replace(u, rate=u.rate * 1.001)),
    ),
    "does not decay": ("optimizer_step", _adamw(lambda u: replace(u, decayed=()))),
    "is one ulp off": ("optimizer_step", _adamw(_one_ulp)),
    "takes other samples": ("draw_samples", _other_samples),
    "takes other data": ("draw_samples", _other_data),
    "ignores its partner": ("outer_step", _ignoring),
    "takes longer outer steps": ("outer_step", _longer),
}


@pytest.mark.rule("S13")
@pytest.mark.parametrize("patch", SOLVERS.values(), ids=list(SOLVERS))
def test_a_solver_that_computes_something_else_is_found_in_the_window_where_it_did(
    patch: tuple[str, Callable[..., object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        module = "averaging.outer_step" if patch[0] == "outer_step" else "shard"
        patched.setattr(f"swarm.training.{module}.{patch[0]}", patch[1])
        crop = harvest(spec_of(1, EXACT), rounds=1)
    segment = crop.segments[0, 0, 0]
    wrong = [crop.answer(w) != c for w, c in zip(segment.windows, segment.claims(), strict=True)]
    with_step = [
        any(taken.step == LIE_STEP for taken in steps_of(data)) for data in segment.windows
    ]
    assert wrong == with_step if patch[0] != "outer_step" else any(wrong)


GARBAGE = b"\x80\x3f"
"""One, over and over: finite, and like no activations."""


@pytest.mark.rule("S16", "V9", "V12a")
@pytest.mark.parametrize("stage", [0, 1])
def test_a_seat_that_sends_other_activations_than_it_computes_is_found(
    stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights and leaves are what follows from an honest forward pass: only the answers betray it."""
    honest_forward, honest_backward = Pipeline.forward, Shard.backward

    async def forward(
        self: Pipeline, plan: RoundPlan, request: MicroBatch, wire: Digest, budget_s: float
    ) -> MicroBatchGrad:
        if (request.stage - 1, request.source, request.step) == (stage, 0, LIE_STEP):
            request = replace(request, payload=GARBAGE * (len(request.payload) // 2))
            wire = wire_digest(request.payload)
        return await honest_forward(self, plan, request, wire, budget_s)

    def backward(
        self: Shard, passed: Passed, reply: MicroBatchGrad
    ) -> tuple[bytes, MicrobatchRecord]:
        return honest_backward(
            self, passed, replace(reply, activations=passed.record.out_activation)
        )

    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "forward", forward)
        patched.setattr(Shard, "backward", backward)
        crop = harvest(spec_of(3, EXACT), rounds=1)
    guilty = 0
    for (_, where, index), segment in crop.segments.items():
        for data, claim in zip(segment.windows, segment.claims(), strict=True):
            lied = (where, index) == (stage, 0) and any(
                one.step == LIE_STEP for taken in steps_of(data) for one in taken.microbatches
            )
            assert crop.answer(data) == (REFUSED if lied else claim)
            guilty += lied
    assert guilty


def test_a_solver_that_counts_more_tokens_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest_step = Shard.step

    def step(self: Shard, plan: RoundPlan, number: int) -> StepRecord | None:
        self.tokens_total += 1
        return honest_step(self, plan, number)

    with monkeypatch.context() as patched:
        patched.setattr(Shard, "step", step)
        crop = harvest(spec_of(1, EXACT), replicas=1, rounds=1)
    segment = crop.segments[0, 0, 0]
    for data, claim in zip(segment.windows, segment.claims(), strict=True):
        assert crop.answer(data) != claim


# --- whatever bytes there are ---

MUTATIONS = 200
NUMBERS = (-1, 0, 1, 2, 7, 255, 1 << 31, (1 << 53) - 1, 1 << 53, (1 << 63) - 1, 1 << 63)
HEAD = 12
"""Bytes before the header of a window: the magic number and a length."""


def _damaged(raw: bytes, rng: random.Random) -> bytes:
    """Some bytes replace, lost or added."""
    where = rng.randrange(len(raw))
    match rng.randrange(4):
        case 0:
            return raw[:where]
        case 1:
            return raw[:where] + rng.randbytes(rng.randrange(1, 9)) + raw[where:]
        case 2:
            return raw[:where] + rng.randbytes(4) + raw[where + 4 :]
        case _:
            return lies.flipped(raw, 8 * where + rng.randrange(8))


def _rewritten(raw: bytes, rng: random.Random) -> bytes:
    """One value of the header replace, and all of it well encoded."""
    length = int.from_bytes(raw[HEAD - 4 : HEAD], "big")
    head = cast("list[object]", decode(object, raw[HEAD : HEAD + length]))
    _change_one(head, rng)
    again = encode(head)
    return raw[: HEAD - 4] + len(again).to_bytes(4, "big") + again + raw[HEAD + length :]


def _change_one(node: list[object], rng: random.Random) -> None:
    at = rng.randrange(len(node))
    value = node[at]
    if isinstance(value, list) and value and rng.random() < 0.9:
        _change_one(cast("list[object]", value), rng)
        return
    match rng.randrange(8), value:
        case 0, _:
            del node[at]
        case 1, _:
            node.insert(at, value)
        case 2, _:
            node[at] = None
        case 3, _:
            rng.shuffle(node)
        case _, bool():
            node[at] = not value
        case _, int():
            node[at] = rng.choice((*NUMBERS, value + 1, value - 1))
        case _, bytes() if value:
            node[at] = lies.flipped(value, rng.randrange(8 * len(value)))
        case _:
            node[at] = rng.choice(NUMBERS)


@pytest.mark.rule("V15")
def test_any_bytes_are_no_window_or_have_one_answer(seed: int) -> None:
    crop = two_stages()
    rng = random.Random(seed)
    originals = [
        (segment.claims()[number], b"".join(bytes(piece) for piece in encode_window(data)))
        for stage in (0, 1) for segment, number, data in windows_of(crop, stage)
    ]  # fmt: skip
    outcomes = set[str]()
    for _ in range(MUTATIONS):
        claim, raw = rng.choice(originals)
        wrong = rng.choice((_damaged, _rewritten))(raw, rng)
        try:
            data = decode_window(crop.spec, wrong)
        except PeerFault:
            outcomes.add("no window")
            continue
        if (data.key.round, data.key.stage, data.key.seat) in crop.segments:
            found = crop.answer(data)
            # The same is possible: a copy that is said to be made twice, at once.
            outcomes.add("refused" if found == REFUSED else "same" if found == claim else "other")
    assert outcomes >= {"no window", "refused", "other"}


PATTERNS = {
    "zeros": b"\x00\x00",
    "the largest": b"\x7f\x7f",
    "infinity": b"\x80\x7f",
    "not a number": b"\xff\x7f",
    "the smallest": b"\x01\x00",
    "large": b"\x00\x5f",
    "of both signs": b"\x7f\x7f\x7f\xff",
}


@pytest.mark.rule("V15")
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=list(PATTERNS))
def test_whatever_others_signed_a_replay_ends_with_one_answer(pattern: bytes) -> None:
    crop = two_stages()
    for stage in (0, 1):
        segment = crop.segments[0, stage, 1]
        for data, claim in zip(segment.windows, segment.claims(), strict=True):
            extreme = lies.extreme(crop, data, pattern)
            found = crop.answer(extreme)
            assert found != claim
            assert found == crop.answer(extreme)


def _filled(value: float) -> Callable[[ShardState], ShardState]:
    def change(state: ShardState) -> ShardState:
        tensors = [torch.full_like(tensor, value) for tensor in state.tensors]
        names = ("params_P", "m_P", "v_A", "phi_P", "momentum_P")
        return replace(state, **dict(zip(names, tensors, strict=True)))

    return change


STATES: dict[str, Callable[[ShardState], ShardState]] = {
    "huge": _filled(3e38),
    "tiny": _filled(1e-45),
    "negative": _filled(-1.0),
    "infinite": _filled(float("inf")),
    "not a number": _filled(float("nan")),
    "a huge momentum": lambda s: replace(s, momentum_P=torch.full_like(s.momentum_P, 3e38)),
    "a negative second moment": lambda s: replace(s, v_A=-torch.ones_like(s.v_A)),
    "many steps": lambda s: replace(s, step=(1 << 53) - 1),
    "negative steps": lambda s: replace(s, step=-1),
    "endless steps": lambda s: replace(s, step=1 << 70),
    "many tokens": lambda s: replace(s, tokens_total=(1 << 53) - 1),
    "negative tokens": lambda s: replace(s, tokens_total=-1),
    "tokens from the future": lambda s: replace(s, tokens_at_sync=(s.tokens_total + 1, 0)),
    "no fragments": lambda s: replace(s, tokens_at_sync=()),
    "a copy of nothing": lambda s: replace(s, snapshots=((0, 0, torch.zeros(3)),)),
    "a copy of another fragment": lambda s: replace(s, snapshots=((7, 0, torch.zeros(3)),)),
    "a copy with too many tokens": lambda s: replace(
        s, snapshots=tuple((f, 1 << 60, x) for f, _, x in s.snapshots) or ((9, 0, s.v_A),)
    ),
    "a short tensor": lambda s: replace(s, m_P=s.m_P[1:]),
    "short tensors": lambda s: replace(
        s, params_P=s.v_A[1:], m_P=s.v_A[1:], v_A=s.v_A[1:], phi_P=s.v_A[1:], momentum_P=s.v_A[1:]
    ),
}


@pytest.mark.rule("V14")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("change", STATES.values(), ids=list(STATES))
def test_from_whatever_state_a_replay_ends_with_an_answer(
    change: Callable[[ShardState], ShardState], optimizer: str
) -> None:
    crop = honest(2, EXACT, optimizer=optimizer)
    for stage in (0, 1):
        segment = crop.segments[0, stage, 0]
        data = replace(segment.windows[1], start=change(segment.windows[1].start))
        assert crop.answer(data) != segment.claims()[1]
