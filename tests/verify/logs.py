"""The smallest honest logs of each kind of seat: three stages of two replicas, no arithmetic behind them."""

from collections.abc import Callable
from functools import cache
from typing import cast

import torch

from swarm.config.spec import RunSpec
from swarm.gossip.codecs.int8 import decompress
from swarm.gossip.pairing import SeatKey, pair_up
from swarm.gossip.trade.messages import Codec, FragmentKey, Offer, sign_offer
from swarm.gossip.trade.payload import FragmentPayload, pack
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.training.averaging.payload import common_codec
from swarm.training.messages import NO_LOSS, MicroBatch, MicroBatchGrad, sign_grad, sign_microbatch
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.training.record.segment import ShardState
from swarm.training.record.window import (
    AnchorSet,
    ComputedMicrobatch,
    Event,
    FragmentMerged,
    SnapshotTaken,
    StepTaken,
    WindowData,
    WindowKey,
)
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex
from tests.training.pipeline import a_spec

CHAIN = digest("test", b"chain")
ANCHOR = Digest(digest("test", b"anchor"))
ELSEWHERE = Digest(digest("test", b"another anchor"))
ACTIVATIONS = Digest(digest("test", b"activations"))
"""What a gradient says it answers: no arithmetic here could tell."""
NUMEL = 200
"""Values of a fragment; the shard behind it does not exist."""
ROUND = RoundIndex(5)
WIDTH = 2
"""Steps of a window."""
MINE = 1
"""The seat whose log it is."""
REPLICAS = 3


def secret(stage: int, index: int) -> SecretKey:
    return SecretKey.from_seed(bytes([1 + stage * REPLICAS + index]) * 32)


@cache
def spec_of(stages: int) -> RunSpec:
    spec = a_spec(stages=stages, steps=10)
    return replace(spec, checks=replace(spec.checks, window_steps=WIDTH))


@cache
def plan_of(stages: int) -> RoundPlan:
    """With a beacon that gives ``MINE`` a partner for one fragment of each stage, and none for the other."""
    beacons = (Digest(digest("test", b"beacon", bytes([number]))) for number in range(256))
    plans = (_plan(stages, beacon) for beacon in beacons)
    return next(plan for plan in plans if all(_has_both(plan, stage) for stage in range(stages)))


def _has_both(plan: RoundPlan, stage: int) -> bool:
    fragments = range(plan.spec.outer.fragments)
    return len({partner_index(plan, stage, fragment) >= 0 for fragment in fragments}) == 2


def _plan(stages: int, beacon: Digest) -> RoundPlan:
    spec = spec_of(stages)
    return RoundPlan(
        chain=CHAIN,
        run=RunIndex(4),
        run_digest=spec.digest,
        spec=spec,
        round=ROUND,
        beacon=beacon,
        rosters=tuple(
            tuple(RosterSeat(index, secret(stage, index).peer, 0) for index in range(REPLICAS))
            for stage in range(stages)
        ),
    )


def a_request(
    plan: RoundPlan, stage: int, numbers: tuple[int, int, int], /, **changes: object
) -> MicroBatch:
    """Activations from seat 2 of the stage below, signed by whoever sits there."""
    origin, step, microbatch = numbers
    shape = (plan.spec.microbatch_size, plan.spec.model.seq_len, plan.spec.model.hidden_size)
    request = MicroBatch(
        plan.run, plan.round, step, microbatch, origin, StageIndex(stage), 2, MINE, 7, 3, 500, *shape,
        bytes(2 * shape[0] * shape[1] * shape[2]), b"",
    )  # fmt: skip
    signer = cast("SecretKey", changes.pop("signer", secret(stage - 1, 2)))
    return sign_microbatch(signer, plan.chain, plan.run_digest, replace(request, **changes))


def a_reply(
    plan: RoundPlan, stage: int, numbers: tuple[int, int, int], version: int, /, **changes: object
) -> MicroBatchGrad:
    """A gradient from seat 0 of the stage above, signed by whoever sits there."""
    origin, step, microbatch = numbers
    tokens = plan.spec.microbatch_size * plan.spec.model.seq_len
    reply = MicroBatchGrad(
        run=plan.run,
        round=plan.round,
        step=step,
        microbatch=microbatch,
        origin=origin,
        stage=StageIndex(stage + 1),
        source=MINE,
        destination=0,
        incarnation=9,
        version=version,
        answerer=4,
        activations=ACTIVATIONS,
        loss_micro=NO_LOSS,
        tokens=tokens,
        payload=bytes(2 * tokens * plan.spec.model.hidden_size),
        signature=b"",
    )
    signer = cast("SecretKey", changes.pop("signer", secret(stage + 1, 0)))
    return sign_grad(signer, plan.chain, plan.run_digest, replace(reply, **changes))


def computed(
    plan: RoundPlan, stage: int, numbers: tuple[int, int, int], version: int
) -> ComputedMicrobatch:
    is_last = stage == plan.spec.num_stages - 1
    return ComputedMicrobatch(
        *numbers,
        a_request(plan, stage, numbers) if stage else None,
        None if is_last else a_reply(plan, stage, numbers, version),
    )


def an_offer(
    plan: RoundPlan, stage: int, fragment: int, codec: Codec, /, **changes: object
) -> tuple[Offer, bytes]:
    """What the partner of seat ``MINE`` offers, signed, and its payload."""
    partner = partner_index(plan, stage, fragment)
    theta = torch.randn(NUMEL, generator=torch.Generator().manual_seed(3))
    root = ANCHOR if codec is common_codec(plan.spec, plan.round) else ELSEWHERE
    residual = torch.zeros(NUMEL)
    snapshot = FragmentPayload(theta, torch.zeros(NUMEL), root, 40, 1000, residual=residual)
    key = FragmentKey(plan.run, StageIndex(stage), fragment, plan.round, partner)
    packed = pack(key, snapshot, codec)
    signer = cast("SecretKey", changes.pop("signer", secret(stage, partner)))
    offer = sign_offer(signer, plan.chain, replace(packed.offer, **changes))
    return offer, bytes(decompress(packed.wire, packed.offer.num_bytes))


def partner_index(plan: RoundPlan, stage: int, fragment: int) -> int:
    seats = {SeatKey(seat.index, seat.peer) for seat in plan.rosters[stage]}
    pairs = pair_up(
        sorted(seats), plan.beacon, plan.run_digest, StageIndex(stage), fragment, plan.round
    )
    mine = next(seat for seat in seats if seat.index == MINE)
    return pairs[mine].index if mine in pairs else -1


def a_fragment(plan: RoundPlan, stage: int, *, paired: bool = True) -> int:
    """A fragment whose partner the beacon gave to seat ``MINE``, or one without."""
    count = plan.spec.outer.fragments
    return next(f for f in range(count) if (partner_index(plan, stage, f) >= 0) == paired)


def a_merge(plan: RoundPlan, stage: int, codec: Codec = Codec.INT8) -> FragmentMerged:
    fragment = a_fragment(plan, stage)
    offer, payload = an_offer(plan, stage, fragment, codec)
    mine = Digest(digest("test", b"mine"))
    return FragmentMerged(fragment, offer.key.seat, 10, mine, offer, payload=payload)


def a_state() -> ShardState:
    nothing = torch.zeros(4)
    return ShardState(
        params_P=nothing,
        m_P=nothing,
        v_A=nothing,
        phi_P=nothing,
        momentum_P=nothing,
        step=0,
        anchor_root=ANCHOR,
        tokens_total=0,
        tokens_at_sync=(0, 0),
        snapshots=(),
        residual_R=torch.zeros(0),
    )


def a_window(plan: RoundPlan, stage: int) -> WindowData:
    """Window 0: an anchor, two steps, and a fragment traded between them."""
    origin = MINE if stage == 0 else 0
    steps = [
        StepTaken(
            step,
            tuple(computed(plan, stage, (origin, step, number), 4 + step) for number in (0, 1)),
            (),
        )
        for step in range(WIDTH)
    ]
    merge = a_merge(plan, stage)
    events: tuple[Event, ...] = (
        AnchorSet(ANCHOR), SnapshotTaken(merge.exchange), steps[0], merge, steps[1],
    )  # fmt: skip
    key = WindowKey(plan.run, plan.round, StageIndex(stage), MINE, 0)
    return WindowData(key, False, a_state(), events)


def steps_of(data: WindowData) -> list[StepTaken]:
    return [event for event in data.events if isinstance(event, StepTaken)]


def with_events(data: WindowData, change: Callable[[Event], Event | None]) -> WindowData:
    """The log with each event replaced, or left out where ``change`` gives None."""
    events = [change(event) for event in data.events]
    return replace(data, events=tuple(event for event in events if event is not None))


def with_microbatch(data: WindowData, at_step: int, index: int, **changes: object) -> WindowData:
    """The log with some fields of one micro-batch replace."""

    def change(event: Event) -> Event:
        if not isinstance(event, StepTaken) or event.step != at_step:
            return event
        listed = list(event.microbatches)
        listed[index] = replace(listed[index], **changes)
        return replace(event, microbatches=tuple(listed))

    return with_events(data, change)
