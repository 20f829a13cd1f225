"""A shard comes back from disk as it was, and goes on as if nothing had happened."""

from dataclasses import replace

import pytest
import torch

from swarm.config.spec import RunSpec
from swarm.errors import Corrupt
from swarm.training.averaging.outer_step import Merge
from swarm.training.record.checkpoint import SavedShard, decode_shard
from swarm.training.record.restore import restored, resume_shard, save_shard
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, RoundIndex
from tests.training.test_shard import (
    MUON_SPEC,
    PLAN,
    SCALARS,
    SPEC,
    TOKENS,
    a_last_stage,
    a_request,
)

both_optimizers = pytest.mark.parametrize("spec", [SPEC, MUON_SPEC], ids=["adamw", "muon"])


def alone(shard: Shard, fragment: int) -> None:
    taken = shard.offered(fragment) or shard.snapshot(fragment)
    shard.merge(Merge.solo(taken, SCALARS))


def decoded(shard: Shard) -> SavedShard:
    raw = save_shard(shard, SPEC.digest, 0, RoundIndex(0))
    return decode_shard(raw, shard.params_P.numel(), shard.optimizer.v_A.numel())


def go_on(shard: Shard, step: int) -> None:
    shard.loss(TOKENS, PLAN, a_request(step), 0)
    shard.step(PLAN, step)


@both_optimizers
@pytest.mark.rule("T23")
def test_a_saved_shard_resumes_with_the_same_roots_and_steps_alike(spec: RunSpec) -> None:
    shard = a_last_stage(spec)
    shard.loss(TOKENS, PLAN, a_request(0), 0)
    shard.step(PLAN, 0)
    saved = decoded(shard)
    again = resume_shard(spec, saved, shard.anchor_P, lambda: 0.0)
    assert again.components() == shard.components()
    for one in (shard, again):
        one.loss(TOKENS, PLAN, a_request(1), 0)
        one.step(PLAN, 1)
    assert again.components() == shard.components()


def test_what_was_merged_when_is_saved_exactly() -> None:
    shard = a_last_stage()
    go_on(shard, 0)
    alone(shard, 1)
    go_on(shard, 1)
    saved = decoded(shard)
    again = resume_shard(SPEC, saved, shard.anchor_P, lambda: 0.0)
    assert again.tokens_at_sync == shard.tokens_at_sync == [0, 4 * 16]
    assert again.components() == shard.components()
    assert again.snapshot(0).tokens == shard.snapshot(0).tokens == 2 * 4 * 16


def test_a_saved_shard_of_other_fragments_is_refused() -> None:
    shard = a_last_stage()
    saved = decoded(shard)
    with pytest.raises(Corrupt):
        resume_shard(SPEC, replace(saved, tokens_at_sync=(0,)), shard.anchor_P, lambda: 0.0)


@both_optimizers
@pytest.mark.rule("T24", "T27")
def test_a_restored_shard_goes_on_alike_with_what_was_on_its_way(spec: RunSpec) -> None:
    shard = a_last_stage(spec)
    go_on(shard, 0)
    alone(shard, 0)
    shard.set_anchor(torch.ones_like(shard.anchor_P), NO_DIGEST)
    shard.snapshot(1)
    go_on(shard, 1)
    state = shard.state()
    again = restored(spec, shard.stage, state, shard.anchor_P)
    for one in (shard, again):
        go_on(one, 2)
        alone(one, 1)
        go_on(one, 3)
    assert again.components() == shard.components()
    third = restored(spec, shard.stage, state, shard.anchor_P)
    assert third.components() != shard.components()
    go_on(third, 2)
    alone(third, 1)
    go_on(third, 3)
    assert third.components() == shard.components()
