"""A shard computes from wire bytes, sums in any order, and comes back from disk as it was."""

import numpy as np
import pytest
import torch

from swarm.config.spec import NANO, RunSpec
from swarm.errors import PeerFault, UsageError
from swarm.gossip.codecs.activations import to_wire
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.primitives.crypto import digest
from swarm.training.averaging.outer_step import MERGED_MAX, Merge, OuterScalars
from swarm.training.messages import NO_LOSS, MicroBatch, MicroBatchGrad, TooBusy
from swarm.training.plan import RoundPlan
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
MUON_SPEC = a_spec(optimizer="muon")
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


def a_reply(activations: Digest) -> MicroBatchGrad:
    """A gradient for what has this digest."""
    return MicroBatchGrad.reply_to(a_request(0), 1, activations, NO_LOSS, a_request(1).payload)


def a_last_stage(spec: RunSpec = SPEC) -> Shard:
    return Shard.initial(spec, StageIndex(1))


@pytest.mark.rule("T8")
def test_the_order_of_arrival_leaves_no_trace() -> None:
    shards = [a_last_stage(), a_last_stage()]
    for shard, order in zip(shards, ([0, 1, 2], [2, 0, 1]), strict=True):
        for number in order:
            shard.loss(TOKENS, PLAN, a_request(number), 0)
    records = [shard.step(PLAN, 0) for shard in shards]
    assert shards[0].components() == shards[1].components()
    assert records[0] == records[1]


def test_a_step_without_gradients_is_none() -> None:
    assert a_last_stage().step(PLAN, 0) is None


@pytest.mark.rule("T3")
def test_wire_bytes_that_are_not_finite_are_the_peers_fault() -> None:
    shard = a_last_stage()
    before = shard.components()
    junk = b"\xff\x7f" * (len(a_request(0).payload) // 2)
    with pytest.raises(PeerFault):
        shard.loss(TOKENS, PLAN, a_request(0, junk), 0)
    assert shard.components() == before
    assert shard.step(PLAN, 0) is None


def test_a_merge_moves_a_fragment_and_nothing_else() -> None:
    shard = a_last_stage()
    shard.loss(TOKENS, PLAN, a_request(0), 0)
    shard.step(PLAN, 0)
    snapshot = shard.snapshot(1)
    theirs = snapshot.theta_P + 1.0
    rest = shard.params_P[shard.spans[0].slice].clone()
    partner = PeerId(bytes(32))
    record = shard.merge(
        Merge(
            snapshot=snapshot,
            theta_hat_P=theirs,
            weight_nano=NANO // 2,
            scalars=SCALARS,
            partner=partner,
            partner_seat=1,
            my_payload=NO_DIGEST,
        )
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
    shard.loss(TOKENS, PLAN, a_request(0), 0)
    shard.step(PLAN, 0)
    span = shard.spans[0].slice
    progress = shard.params_P[span] - snapshot.theta_P
    shard.merge(Merge.solo(snapshot, SCALARS))
    assert torch.equal(shard.params_P[span], shard.phi_P[span] + progress)


@pytest.mark.rule("T24")
def test_an_offered_fragment_is_part_of_the_state_until_it_is_merged_or_abandoned() -> None:
    shard = a_last_stage()
    before = shard.components()
    snapshot = shard.snapshot(1)
    assert shard.components()[9] != before[9]
    shard.merge(Merge.solo(snapshot, SCALARS))
    assert shard.components()[9] == before[9]
    shard.snapshot(0)
    shard.begin_segment()
    assert shard.components()[9] == before[9]


@pytest.mark.rule("T12a")
def test_tokens_count_when_their_step_is_taken() -> None:
    shard = a_last_stage()
    shard.loss(TOKENS, PLAN, a_request(0), 0)
    assert shard.tokens_total == 0
    shard.begin_segment()
    assert shard.step(PLAN, 0) is None
    shard.loss(TOKENS, PLAN, a_request(1), 0)
    shard.step(PLAN, 0)
    assert shard.tokens_total == 4 * 16


@pytest.mark.rule("T24")
def test_the_state_names_tokens_at_merges_and_those_of_offers() -> None:
    shard = a_last_stage()
    before = shard.components()
    shard.tokens_at_sync[1] = 5
    assert [a != b for a, b in zip(shard.components(), before, strict=True)].index(True) == 8
    shard.tokens_at_sync[1] = 0
    snapshot = shard.snapshot(1)
    offered = shard.components()
    shard.snapshots[1] = (1, 9, snapshot.theta_P)
    assert shard.components()[9] != offered[9]
    assert shard.components()[:9] == offered[:9]


@pytest.mark.rule("T12")
def test_a_gradient_counts_only_for_the_weights_of_its_forward_pass() -> None:
    shard = Shard.initial(SPEC, StageIndex(0))
    _, early = shard.forward_tokens(TOKENS, PLAN, 0, 0, 0)
    _, late = shard.forward_tokens(TOKENS, PLAN, 0, 1, 0)
    shard.backward(early, a_reply(early.record.out_activation))
    shard.step(PLAN, 0)
    with pytest.raises(TooBusy):
        shard.backward(late, a_reply(late.record.out_activation))
    assert shard.is_between_steps


@pytest.mark.rule("T3a")
def test_a_gradient_counts_only_for_the_activations_it_names() -> None:
    shard = Shard.initial(SPEC, StageIndex(0))
    _, one = shard.forward_tokens(TOKENS, PLAN, 0, 0, 0)
    _, other = shard.forward_tokens(TOKENS, PLAN, 0, 1, 0)
    with pytest.raises(PeerFault):
        shard.backward(one, a_reply(other.record.out_activation))
    assert shard.is_between_steps
    shard.backward(one, a_reply(one.record.out_activation))


@pytest.mark.rule("T12")
def test_a_merge_in_the_middle_of_a_step_is_our_own_mistake() -> None:
    shard = a_last_stage()
    merge = Merge.solo(shard.snapshot(0), SCALARS)
    shard.loss(TOKENS, PLAN, a_request(0), 0)
    with pytest.raises(UsageError):
        shard.merge(merge)


@pytest.mark.rule("T21")
@pytest.mark.parametrize("theirs", [MERGED_MAX * 8, 3.0e38])
def test_a_partner_that_would_take_us_too_far_is_declined(theirs: float) -> None:
    shard, solo = a_last_stage(), a_last_stage()
    peer = PeerId(bytes(32))
    record = shard.merge(
        Merge(
            snapshot=shard.snapshot(0),
            theta_hat_P=torch.full((shard.spans[0].numel,), theirs),
            weight_nano=NANO // 2,
            scalars=SCALARS,
            partner=peer,
            partner_seat=1,
            my_payload=NO_DIGEST,
        )
    )
    solo.merge(Merge.solo(solo.snapshot(0), SCALARS))
    assert (record.partner, record.weight_nano) == (peer, 0)
    assert shard.components() == solo.components()


@pytest.mark.rule("T24")
def test_a_state_that_is_not_finite_has_no_hashes() -> None:
    shard = a_last_stage()
    shard.optimizer.v_A[3] = float("nan")
    with pytest.raises(PeerFault):
        shard.components()


def test_fewer_sequences_than_the_samples_are_the_peers_fault() -> None:
    shard, request = a_last_stage(), a_request(0)
    half = replace(request, batch=2, payload=request.payload[: len(request.payload) // 2])
    with pytest.raises(PeerFault):
        shard.loss(TOKENS, PLAN, half, 0)
    assert shard.is_between_steps


@pytest.mark.rule("T8")
def test_arithmetic_that_leaves_the_numbers_is_a_fault_and_changes_nothing() -> None:
    first, last = Shard.initial(SPEC, StageIndex(0)), a_last_stage()
    for shard in (first, last):
        shard.params_P.fill_(float("inf"))
    with pytest.raises(PeerFault):
        first.forward_tokens(TOKENS, PLAN, 0, 0, 0)
    with pytest.raises(PeerFault):
        last.loss(TOKENS, PLAN, a_request(0), 0)
    assert last.is_between_steps


def test_a_state_is_a_copy() -> None:
    shard = a_last_stage()
    state, before = shard.state(), shard.components()
    shard.loss(TOKENS, PLAN, a_request(0), 0)
    shard.step(PLAN, 0)
    assert torch.equal(state.params_P, a_last_stage().params_P)
    assert shard.components() != before


def test_slow_weights_are_replaced_and_hashed_as_they_are() -> None:
    shard = a_last_stage()
    before, state = shard.components(), shard.state()
    shard.loss(TOKENS, PLAN, a_request(0), 0)
    shard.step(PLAN, 0)
    assert shard.components()[4:6] == before[4:6]
    shard.merge(Merge.solo(shard.snapshot(0), SCALARS))
    after = shard.components()
    assert after[4:6] == (hash_of(shard.phi_P), hash_of(shard.momentum_P)) != before[4:6]
    assert (hash_of(state.phi_P), hash_of(state.momentum_P)) == before[4:6]
