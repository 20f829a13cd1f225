"""Honest windows from real seats: small pipelines in memory under virtual time, which trade as nodes do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import trio
from torch import Tensor
from trio.testing import MockClock

from swarm.config.spec import ADAPTER_TARGETS, NANO, AdapterSpec, RunSpec
from swarm.gossip.codecs.int8 import decompress
from swarm.gossip.pairing import SeatKey, pair_up
from swarm.gossip.trade.messages import Codec, FragmentKey, Receipt, sign_offer, sign_receipt
from swarm.gossip.trade.payload import Packed, ReceivedFragment, pack, read_payload
from swarm.primitives.codec import replace
from swarm.primitives.commitments import WindowResult, hash_of
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.executor import InlineExecutor
from swarm.training.averaging.outer_step import (
    FragmentSnapshot,
    Merge,
    SentFragment,
    outer_scalars,
    weight_nano,
)
from swarm.training.averaging.payload import anchor_of, common_codec, fragment_payload, read_values
from swarm.training.model.stages import init_flat, plan_stages, plans_of
from swarm.training.pipeline import Pipeline
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.training.record.segment import SegmentLog
from swarm.training.record.window import WindowData
from swarm.training.seat import SeatWorker
from swarm.training.shard import Shard
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.replay import Committed, answer
from swarm.verify.transcript import state_root, window_results
from tests.fakes import FakeHost, FakeNetwork
from tests.training.pipeline import TEXT, a_spec

CHAIN = digest("test", b"chain")
TOKENS = np.frombuffer(TEXT, dtype=np.uint8)
JOB_S = 0.02
BASE_SEED = 77
"""Draws the weights below an adapter."""
WINDOW_STEPS = 3
STEPS = 7
"""Steps of a segment: windows of three, three and one."""
ROUND_S = 15.0
FRAGMENT_S = 0.15
"""For each stage, between two fragments: the second is copied in another window than the first."""
TRANSFER_S = 0.1
"""For each stage: steps are taken while a fragment is on its way."""
ELSEWHERE = Digest(digest("test", b"another anchor"))
SeatId = tuple[int, int]
"""(stage, index)."""


def spec_of(
    stages: int, numerics: str, optimizer: str = "adamw", *, rank: int = 0, layers: int = 0
) -> RunSpec:
    """A small run; with a rank it trains an adapter on ``base_of``.

    ``layers``: of the model; 0 stands for one a stage, and two in a run of one stage.
    """
    spec = a_spec(stages=stages, numerics=numerics, optimizer=optimizer)
    checks = replace(spec.checks, window_steps=WINDOW_STEPS)
    model = replace(spec.model, num_layers=layers or spec.model.num_layers)
    spec = replace(spec, model=model, inner_steps_max=STEPS, checks=checks)
    if not rank:
        return spec
    roots = tuple(hash_of(init_flat(plan, BASE_SEED)) for plan in plan_stages(spec.model, stages))
    adapter = AdapterSpec(
        rank=rank, lora_alpha_nano=8 * NANO, targets=ADAPTER_TARGETS, base_roots=roots
    )
    return replace(spec, adapter=adapter)


def base_of(spec: RunSpec, stage: int) -> Tensor | None:
    """The weights below the adapter of a stage; None in a run without one."""
    if not spec.adapter.rank:
        return None
    return init_flat(plan_stages(spec.model, spec.num_stages)[stage], BASE_SEED)


@dataclass
class Segment:
    """One seat in one round, as it says it went."""

    plan: RoundPlan
    log: SegmentLog
    windows: list[WindowData]

    def claims(self) -> list[WindowResult]:
        """What its solver says of each window: its leaves, the states around it and its tokens."""
        return window_results(self.log)


@dataclass
class Harvest:
    """What a small swarm left behind."""

    spec: RunSpec
    secrets: dict[SeatId, SecretKey]
    anchors: dict[int, dict[Digest, Tensor]]
    """By stage: every canonical checkpoint."""
    segments: dict[tuple[int, int, int], Segment] = field(default_factory=dict)
    """By (round, stage, index)."""

    def answer(self, data: WindowData, start_root: Digest | None = None) -> WindowResult:
        """What anybody says of a log; ``start_root`` is by default that of the solver's commit."""
        segment = self.segments[data.key.round, data.key.stage, data.key.seat]
        start = state_root(segment.log.start) if start_root is None else start_root
        log = segment.log
        committed = Committed(start, log.num_steps, 1 + log.seat, log.sent)
        stage = data.key.stage
        base_W = base_of(self.spec, stage)
        return answer(committed, segment.plan, data, TOKENS, self.anchors[stage], base_W)


@dataclass
class _Seat:
    host: FakeHost
    runner: SeatWorker
    windows: trio.MemoryReceiveChannel[WindowData]


class Field:
    """``replicas`` seats in each stage."""

    def __init__(self, spec: RunSpec, replicas: int, loss: float) -> None:
        self.spec = spec
        self.offered: Callable[[int, Tensor], Tensor] = lambda _, theta_P: theta_P
        """What the seat of an index offers for its weights."""
        self.is_acknowledged: Callable[[Receipt], bool] = lambda _: True
        """Whether a receipt reaches the sender."""
        network = FakeNetwork(seed=3, loss=loss)
        self.seats: dict[SeatId, _Seat] = {}
        for stage in range(spec.num_stages):
            for index in range(replicas):
                host = network.host(1 + stage * replicas + index)
                pipeline = Pipeline(host, host.secret)
                pipeline.serve()
                send, receive = trio.open_memory_channel[WindowData](100)
                runner = SeatWorker(
                    Shard.initial(spec, StageIndex(stage), base_of(spec, stage)),
                    index,
                    tokens=TOKENS,
                    compute=InlineExecutor(lambda _: JOB_S),
                    forward=pipeline.forward,
                    incarnation=1 + index,
                    windows=send,
                )
                pipeline.add(runner)
                self.seats[stage, index] = _Seat(host, runner, receive)
        rosters = tuple(
            tuple(RosterSeat(i, self.seats[stage, i].host.peer, 0) for i in range(replicas))
            for stage in range(spec.num_stages)
        )
        self.plan = RoundPlan(
            chain=CHAIN,
            run=RunIndex(1),
            run_digest=spec.digest,
            spec=spec,
            round=RoundIndex(0),
            beacon=Digest(digest("test", b"beacon")),
            rosters=rosters,
        )

    async def trade(self, plan: RoundPlan, stage: int, exchange: int, codec: Codec | None) -> None:
        """One exchange of a whole stage, by pairs; without a codec what arrived is not merged.

        In bfloat16 the two sides have different anchors, unless that is the run's own codec.
        """
        keys = [SeatKey(seat.index, seat.peer) for seat in plan.rosters[stage]]
        pairs = pair_up(keys, plan.beacon, plan.run_digest, StageIndex(stage), exchange, plan.round)
        snapshots = {
            key: await self.seats[stage, key.index].runner.jobs.snapshot(exchange) for key in keys
        }
        common = common_codec(plan.spec, plan.round)
        used = codec if codec is Codec.BF16 else common
        root = ELSEWHERE if used is not common else None
        packed = {
            key: self._packed(plan, stage, key.index, snapshots[key], used, root) for key in keys
        }
        await trio.sleep(TRANSFER_S * self.spec.num_stages)
        async with trio.open_nursery() as nursery:
            for key in keys:
                merge = self._merge(plan, stage, key, pairs.get(key), snapshots, packed, codec)
                nursery.start_soon(self.seats[stage, key.index].runner.merge, merge)

    def _packed(
        self,
        plan: RoundPlan,
        stage: int,
        index: int,
        snapshot: FragmentSnapshot,
        codec: Codec,
        root: Digest | None,
    ) -> Packed:
        key = FragmentKey(plan.run, StageIndex(stage), snapshot.exchange, plan.round, index)
        offered = fragment_payload(plan.spec, plan.round, snapshot)
        offered = replace(offered, theta=self.offered(index, offered.theta))
        packed = pack(key, offered, codec)
        runner = self.seats[stage, index].runner
        offer = replace(packed.offer, incarnation=runner.incarnation)
        if root is None:
            runner.note_offer(snapshot.window, offer)
        else:  # a partner with another anchor, for which there is no list in this small world
            offer = replace(offer, anchor_root=root)
        signed = sign_offer(self.seats[stage, index].host.secret, plan.chain, offer)
        return replace(packed, offer=signed)

    def _merge(
        self,
        plan: RoundPlan,
        stage: int,
        me: SeatKey,
        partner: SeatKey | None,
        snapshots: dict[SeatKey, FragmentSnapshot],
        packed: dict[SeatKey, Packed],
        codec: Codec | None,
    ) -> Merge:
        scalars = outer_scalars(plan.spec.outer, plan.round)
        snapshot, mine = snapshots[me], packed[me]
        sent: SentFragment | None = None
        if partner is not None:
            sent = self._sent(plan, stage, partner.index, mine)
        if partner is None or codec is None:
            return Merge.solo(snapshot, scalars, sent)
        received, spec = packed[partner], plan.spec
        offer, payload = received.offer, decompress(received.wire, received.offer.num_bytes)
        values = read_payload(offer.codec, payload, anchor_of(spec, snapshot))
        theta_hat, phi_hat = read_values(spec, values)
        return Merge(
            snapshot=snapshot,
            theta_hat_P=theta_hat,
            weight_nano=weight_nano(snapshot.tokens, offer.tokens, 0, spec.outer.age_weights_nano),
            scalars=scalars,
            partner=partner.peer,
            partner_seat=partner.index,
            my_payload=mine.offer.payload_hash,
            received=ReceivedFragment(offer, payload, values),
            phi_hat_P=phi_hat,
            sent=sent,
        )

    def _sent(
        self, plan: RoundPlan, stage: int, receiver: int, mine: Packed
    ) -> SentFragment | None:
        """What the receiver's receipt moves, if it arrives."""
        if mine.residual is None:
            return None
        unsigned = Receipt(mine.offer.key, receiver, mine.offer.payload_hash, b"")
        receipt = sign_receipt(self.seats[stage, receiver].host.secret, plan.chain, unsigned)
        return SentFragment(receipt, mine.residual) if self.is_acknowledged(receipt) else None


Prepare = Callable[["Field"], None]
CODECS: tuple[Codec | None, ...] = (Codec.INT8, Codec.BF16, None)


def harvest(
    spec: RunSpec,
    *,
    replicas: int = 2,
    rounds: int = 2,
    loss: float = 0.0,
    codecs: Sequence[Codec | None] = CODECS,
    seconds: float = ROUND_S,
    prepare: Prepare = lambda _: None,
) -> Harvest:
    """Train ``rounds`` rounds; exchange e of round r is traded under ``codecs[r + e]``, in turn.

    From the second round on the first replica's slow weights are the anchor of its stage.
    """

    async def main() -> Harvest:
        swarm = Field(spec, replicas, loss)
        prepare(swarm)
        return await _train(swarm, rounds, seconds, codecs)

    return trio.run(main, clock=MockClock(autojump_threshold=0))


async def _train(
    swarm: Field, rounds: int, seconds: float, codecs: Sequence[Codec | None]
) -> Harvest:
    seats, spec = swarm.seats, swarm.spec
    initial = {stage: init_flat(plan, spec.seed) for stage, plan in enumerate(plans_of(spec))}
    done = Harvest(
        spec,
        {place: seat.host.secret for place, seat in seats.items()},
        {stage: {hash_of(params_P): params_P} for stage, params_P in initial.items()},
    )
    async with trio.open_nursery() as nursery:
        for seat in seats.values():
            nursery.start_soon(seat.runner.run)
        for number in range(rounds):
            plan = replace(swarm.plan, round=RoundIndex(number))
            for stage in range(spec.num_stages) if number else ():
                phi_P = seats[stage, 0].runner.shard.phi()
                done.anchors[stage][hash_of(phi_P)] = phi_P
            for (stage, _), seat in seats.items():
                root, anchor_P = list(done.anchors[stage].items())[-1]
                await seat.runner.begin_round(plan, (anchor_P, root) if number else None)
            for exchange in range(spec.outer.exchanges):
                await trio.sleep(FRAGMENT_S * spec.num_stages)
                for stage in range(spec.num_stages):
                    codec = codecs[(number + exchange) % len(codecs)]
                    nursery.start_soon(swarm.trade, plan, stage, exchange, codec)
            await trio.sleep(seconds)
            for (stage, index), seat in seats.items():
                log = await seat.runner.close_round()
                windows = list[WindowData]()
                while seat.windows.statistics().current_buffer_used:
                    windows.append(seat.windows.receive_nowait())
                done.segments[number, stage, index] = Segment(plan, log, windows)
        nursery.cancel_scope.cancel()
    return done


@cache
def honest(
    stages: int,
    numerics: str = "native",
    *,
    loss: float = 0.0,
    optimizer: str = "adamw",
    rank: int = 0,
) -> Harvest:
    """Two rounds of two replicas a stage; with a rank they train an adapter."""
    return harvest(spec_of(stages, numerics, optimizer, rank=rank), loss=loss)
