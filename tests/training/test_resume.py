"""A shard comes back from disk as it was, and goes on as if nothing had happened."""

from swarm.training.checkpoint import decode_shard
from swarm.training.resume import resume_shard, save_shard
from swarm.types import RoundIndex
from tests.training.test_shard import PLAN, SPEC, TOKENS, a_last_stage, a_request


def test_a_saved_shard_resumes_with_the_same_roots_and_steps_alike() -> None:
    shard = a_last_stage()
    shard.loss_job(TOKENS, PLAN, a_request(0), 0)
    shard.step(PLAN, 0)
    saved = decode_shard(save_shard(shard, SPEC.digest, 0, RoundIndex(0)), shard.params_P.numel())
    again = resume_shard(SPEC, saved, shard.anchor_P, lambda: 0.0)
    assert again.components() == shard.components()
    for one in (shard, again):
        one.loss_job(TOKENS, PLAN, a_request(1), 0)
        one.step(PLAN, 1)
    assert again.components() == shard.components()
