"""A shard computes from wire bytes, sums in any order, and comes back from disk as it was."""

import numpy as np
import pytest
import torch

from swarm.crypto import digest
from swarm.errors import PeerFault
from swarm.gossip.quantize import to_wire
from swarm.spec import NANO
from swarm.training.fragments import Merge
from swarm.training.messages import MicroBatch
from swarm.training.outer import OuterScalars
from swarm.training.round_plan import RoundPlan
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest, PeerId, RoundIndex, RunIndex, StageIndex
from tests.training.pipeline import TEXT, a_spec

SPEC = a_spec()
TOKENS = np.frombuffer(TEXT, dtype=np.uint8)
PLAN = RoundPlan(
    chain=NO_DIGEST,
    run=RunIndex(1),
    run_digest=SPEC.digest,
    spec=SPEC,
    round=RoundIndex(0),
    beacon=Digest(digest("test", b"beacon")),
    rosters=((), ()),
)
SCALARS = OuterScalars(0.5, 0.7, 0.7)


def a_request(microbatch: int, payload: bytes | None = None) -> MicroBatch:
    model = SPEC.model
    shape = (SPEC.microbatch_size, model.seq_len, model.hidden_size)
    generator = torch.Generator().manual_seed(microbatch)
    made = to_wire(torch.randn(shape, generator=generator))
    return MicroBatch(
        RunIndex(1), RoundIndex(0), 0, microbatch, 0, StageIndex(1), 0, 0, 1, 0, 1000, *shape,
        made if payload is None else payload, b"",
    )  # fmt: skip


def a_last_stage() -> Shard:
    return Shard.initial(SPEC, StageIndex(1))


def test_the_order_of_arrival_leaves_no_trace() -> None:
    shards = [a_last_stage(), a_last_stage()]
    for shard, order in zip(shards, ([0, 1, 2], [2, 0, 1]), strict=True):
        for number in order:
            shard.loss_job(TOKENS, PLAN, a_request(number), 0)
    records = [shard.step(PLAN, 0) for shard in shards]
    assert shards[0].components() == shards[1].components()
    assert records[0] == records[1]


def test_a_step_without_gradients_is_none() -> None:
    assert a_last_stage().step(PLAN, 0) is None


def test_wire_bytes_that_are_not_finite_are_the_peers_fault() -> None:
    shard = a_last_stage()
    before = shard.components()
    junk = b"\xff\x7f" * (len(a_request(0).payload) // 2)
    with pytest.raises(PeerFault):
        shard.loss_job(TOKENS, PLAN, a_request(0, junk), 0)
    assert shard.components() == before
    assert shard.step(PLAN, 0) is None


def test_a_merge_moves_a_fragment_and_nothing_else() -> None:
    shard = a_last_stage()
    shard.loss_job(TOKENS, PLAN, a_request(0), 0)
    shard.step(PLAN, 0)
    snapshot = shard.snapshot(1)
    theirs = snapshot.theta_P + 1.0
    rest = shard.params_P[shard.spans[0].slice].clone()
    partner = PeerId(bytes(32))
    record = shard.merge(
        Merge(snapshot, theirs, NANO // 2, SCALARS, partner, 1, NO_DIGEST, NO_DIGEST)
    )
    assert record.weight_nano == NANO // 2
    assert torch.equal(shard.params_P[shard.spans[0].slice], rest)
    moved = shard.phi_P[shard.spans[1].slice]
    start = Shard.initial(SPEC, StageIndex(1)).phi_P[shard.spans[1].slice]
    expected = start + (snapshot.theta_P * 0.5 + theirs * 0.5 - start) * 0.7
    assert torch.allclose(moved, expected, atol=1e-6)
    assert torch.equal(shard.params_P[shard.spans[1].slice], moved)


def test_progress_during_an_exchange_is_kept() -> None:
    shard = a_last_stage()
    snapshot = shard.snapshot(0)
    shard.loss_job(TOKENS, PLAN, a_request(0), 0)
    shard.step(PLAN, 0)
    span = shard.spans[0].slice
    progress = shard.params_P[span] - snapshot.theta_P
    shard.merge(Merge(snapshot, None, 0, SCALARS, None, -1, NO_DIGEST, NO_DIGEST))
    assert torch.equal(shard.params_P[span], shard.phi_P[span] + progress)


def test_an_offered_fragment_is_part_of_the_state_until_it_is_merged_or_abandoned() -> None:
    shard = a_last_stage()
    before = shard.components()
    snapshot = shard.snapshot(1)
    assert shard.components()[9] != before[9]
    shard.merge(Merge(snapshot, None, 0, SCALARS, None, -1, NO_DIGEST, NO_DIGEST))
    assert shard.components()[9] == before[9]
    shard.snapshot(0)
    shard.abandon_snapshots()
    assert shard.components()[9] == before[9]
