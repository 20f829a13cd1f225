"""A state is taken over from a sibling only if it is the one that sibling committed."""

from dataclasses import replace

import pytest
import torch

from swarm.config.spec import RunSpec
from swarm.errors import BadEncoding, BrokenPromise, PeerFault
from swarm.primitives.codec import encode
from swarm.primitives.codec import replace as changed
from swarm.primitives.state_parts import PHI, SECOND, STEPS
from swarm.training.averaging.adoption import (
    REPLICAS_TRIED,
    REPLY_BYTES_MAX,
    OfferedState,
    StateFound,
    StateMissing,
    adopt,
    check_found,
    decode_reply,
    parts_given,
    replicas_to_ask,
)
from swarm.training.record.checkpoint import decode_shard
from swarm.training.record.restore import adopted_shard, save_shard, saved_components
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest, RoundIndex
from swarm.verify.transcript import COMPONENTS, state_root
from tests.training.test_shard import MUON_SPEC, PLAN, SPEC, TOKENS, a_last_stage, a_request
from tests.training.test_terms import PEERS, STAGE, a_plan

both_optimizers = pytest.mark.parametrize("spec", [SPEC, MUON_SPEC], ids=["adamw", "muon"])


def a_trained_shard(spec: RunSpec = SPEC) -> Shard:
    shard = a_last_stage(spec)
    for step in range(3):
        shard.loss(TOKENS, PLAN, a_request(step), 0)
        shard.step(PLAN, step)
    return shard


def sizes_of(shard: Shard) -> tuple[int, int]:
    return shard.params_P.numel(), shard.optimizer.v_A.numel()


def a_state() -> StateFound:
    shard = a_trained_shard()
    return StateFound(RoundIndex(4), shard.components(), shard.optimizer.step)


def test_the_parts_stand_where_the_transcript_has_them() -> None:
    indices = (SECOND, STEPS, PHI)
    assert [COMPONENTS[index] for index in indices] == ["adam_v", "step", "phi"]


@pytest.mark.rule("T20d")
def test_what_was_committed_is_believed_and_its_answer_is_small() -> None:
    found = a_state()
    check_found(found, state_root(found.components))
    raw = encode(found)
    assert len(raw) < REPLY_BYTES_MAX
    assert decode_reply(raw) == found
    assert decode_reply(encode(StateMissing())) == StateMissing()


@pytest.mark.rule("T20d")
def test_anything_else_is_the_siblings_fault() -> None:
    found = a_state()
    root = state_root(found.components)
    parts = found.components
    for bad in (
        changed(found, components=parts[:-1]),
        changed(found, components=(*parts, NO_DIGEST)),
        changed(found, components=(parts[1], parts[0], *parts[2:])),
        changed(found, components=(Digest(b"short"), *parts[1:])),
        changed(found, step=found.step + 1),
        changed(found, step=-1),
        changed(found, step=1 << 62),
        changed(found, components=()),
    ):
        with pytest.raises(PeerFault):
            check_found(bad, root)
    with pytest.raises(BrokenPromise):
        check_found(found, NO_DIGEST)


@pytest.mark.parametrize("raw", [b"", b"\xc1", bytes(2000), encode((1, 2, 3))])
def test_junk_is_no_answer(raw: bytes) -> None:
    with pytest.raises(BadEncoding):
        decode_reply(raw)


@both_optimizers
def test_a_saved_shard_has_the_components_of_the_live_one(spec: RunSpec) -> None:
    shard = a_trained_shard(spec)
    raw, sizes = save_shard(shard, SPEC.digest, 0, RoundIndex(4)), sizes_of(shard)
    saved = decode_shard(raw, *sizes)
    assert saved_components(saved) == shard.components()


@pytest.mark.rule("T20d")
@both_optimizers
def test_who_adopts_goes_on_from_phi_with_the_second_moments_and_trades_against_the_anchor(
    spec: RunSpec,
) -> None:
    shard, anchor_P = a_trained_shard(spec), torch.ones_like(a_last_stage().params_P)
    offered = OfferedState(
        shard.phi(), shard.optimizer.v_A, shard.optimizer.step, shard.components()
    )
    adopted = adopt(offered, *sizes_of(shard))
    root = Digest(b"\x07" * 32)
    again = adopted_shard(spec, shard.stage, adopted, (anchor_P, root), lambda: 0.0)
    assert torch.equal(again.params_P, shard.phi_P)
    assert torch.equal(again.phi_P, shard.phi_P)
    assert torch.equal(again.optimizer.v_A, shard.optimizer.v_A)
    assert (again.optimizer.step, again.anchor_root) == (3, root)
    assert not bool(again.optimizer.m_P.any() or again.momentum_P.any())
    assert (again.tokens_total, set(again.tokens_at_sync)) == (0, {0})
    again.loss(TOKENS, PLAN, a_request(0), 0)
    again.step(PLAN, 0)
    assert again.optimizer.step == 4
    names = parts_given(again.components())
    assert names == (again.components()[4], again.components()[2])


def test_asked_are_those_who_committed_lately_in_an_order_of_each_peer_its_own() -> None:
    plan = a_plan(8)
    me = PEERS[0]
    asked = replicas_to_ask(plan, STAGE, me)
    assert len(asked) == REPLICAS_TRIED
    assert me not in {seat.peer for seat in asked}
    assert asked == replicas_to_ask(plan, STAGE, me)
    orders = {tuple(s.index for s in replicas_to_ask(plan, STAGE, peer)) for peer in PEERS}
    assert len(orders) > 4


def test_nobody_asks_a_seat_without_a_commit_or_one_that_fell_behind() -> None:
    for unfit in ({"weight": 0}, {"lag": 3}):
        plan = a_plan(2)
        roster = plan.rosters[STAGE]
        rosters = (roster, (roster[0], replace(roster[1], **unfit)))  # type: ignore[arg-type]
        assert replicas_to_ask(replace(plan, rosters=rosters), STAGE, PEERS[0]) == ()
        assert replicas_to_ask(replace(plan, rosters=rosters), STAGE, PEERS[1]) == (roster[0],)
