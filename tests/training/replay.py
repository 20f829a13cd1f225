"""The shortest replay of a window: no signature is checked, nothing is derived that the log has."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.gossip.trade.payload import ReceivedFragment, read_payload
from swarm.training.averaging.outer_step import Merge, outer_scalars
from swarm.training.averaging.payload import anchor_of, read_values
from swarm.training.plan import RoundPlan
from swarm.training.record.restore import replay_microbatch, restored
from swarm.training.record.segment import MergeRecord, StepRecord
from swarm.training.record.window import (
    AnchorSet,
    FragmentMerged,
    SnapshotTaken,
    StepTaken,
    Uncounted,
    WindowData,
)
from swarm.training.shard import Shard
from swarm.types import Digest, StageIndex
from tests.training.pipeline import TEXT

TOKENS = np.frombuffer(TEXT, dtype=np.uint8)
Anchors = Mapping[Digest, Tensor]


@dataclass
class Replayed:
    """What a window comes to."""

    start: tuple[Digest, ...]
    records: list[StepRecord | MergeRecord]
    end: tuple[Digest, ...]


def initial_anchors(spec: RunSpec) -> Anchors:
    """Every stage's initial weights: the anchors of a run without a checkpoint."""
    shards = [Shard.initial(spec, StageIndex(stage)) for stage in range(spec.num_stages)]
    return {shard.anchor_root: shard.anchor_P for shard in shards}


def replayed(plan: RoundPlan, data: WindowData, anchors: Anchors) -> Replayed:
    key = data.key
    shard = restored(plan.spec, key.stage, data.start, anchors[data.start.anchor_root])
    start = shard.components()
    records: list[StepRecord | MergeRecord] = []
    for event in data.events:
        match event:
            case AnchorSet(root):
                shard.set_anchor(anchors[root], root)
            case SnapshotTaken(exchange):
                shard.snapshot(exchange)
            case FragmentMerged():
                records.append(shard.merge(_merge(shard, plan, data, event)))
            case StepTaken(step, microbatches, dropped):
                for computed in reversed(microbatches):
                    replay_microbatch(shard, TOKENS, plan, key.seat, computed)
                for microbatch_id in dropped:
                    shard.drop(*microbatch_id)
                record = shard.step(plan, step)
                assert record is not None
                records.append(record)
            case Uncounted():
                pass  # what nobody counted moves no state
    if data.is_last:
        shard.begin_segment()
    return Replayed(start, records, shard.components())


def _merge(shard: Shard, plan: RoundPlan, data: WindowData, event: FragmentMerged) -> Merge:
    snapshot, offer = shard.offered(event.exchange), event.offer
    scalars = outer_scalars(plan.spec.outer, plan.round)
    assert snapshot is not None
    if offer is None:
        return replace(Merge.solo(snapshot, scalars), my_payload=event.my_payload)
    values = read_payload(offer.codec, event.payload, anchor_of(plan.spec, snapshot))
    theta_P, phi_P = read_values(plan.spec, values)
    peer = plan.rosters[data.key.stage][event.partner_seat].peer
    return Merge(
        snapshot=snapshot,
        theta_hat_P=theta_P,
        weight_nano=event.weight_nano,
        scalars=scalars,
        partner=peer,
        partner_seat=event.partner_seat,
        my_payload=event.my_payload,
        received=ReceivedFragment(offer, event.payload, values),
        phi_hat_P=phi_P,
    )
