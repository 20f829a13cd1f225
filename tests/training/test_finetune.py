"""Two replicas of each stage fine-tune a folder of transformers' Llama by an adapter that they trade."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trio
from trio.testing import MockClock

from swarm.config.spec import ADAPTER_TARGETS, NANO, AdapterSpec
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.training.hf.adapter import adapter_files, read_adapter_folder
from swarm.training.hf.export import export_files
from swarm.training.hf.load import open_folder, read_stage
from swarm.training.inference.evaluate import heldout_loss, whole_model
from swarm.training.model.profiles import NATIVE, table
from swarm.training.model.stages import (
    Stage,
    adapter_plan,
    init_flat,
    merged,
    plan_stages,
    plans_of,
)
from swarm.training.record.checkpoint import decode_shard
from swarm.training.record.restore import resume_shard, save_shard
from swarm.types import Digest, RoundIndex, StageIndex
from tests.training.pipeline import TEXT, Swarm, a_spec

HELDOUT = np.frombuffer(TEXT[-1_000:], dtype=np.uint8)
ROUNDS, ROUND_S = 2, 3.0


@pytest.mark.rule("T40", "T41")
@pytest.mark.parametrize("numerics", ["seq-f32/1", "native"])
def test_a_folder_is_fine_tuned_and_leaves_merged_or_as_an_adapter(
    tmp_path: Path, numerics: str
) -> None:
    spec = a_spec(numerics=numerics)
    plans = plan_stages(spec.model, 2)
    llama = tmp_path / "llama"
    llama.mkdir()
    drawn = [init_flat(plan, 9) for plan in plans]
    for name, data in export_files(spec.model, drawn).items():
        (llama / name).write_bytes(data)
    below = open_folder(llama)
    bases = [read_stage(below, plan) for plan in plans]
    roots = tuple(map(hash_of, bases))
    adapter = AdapterSpec(
        rank=4, lora_alpha_nano=16 * NANO, targets=ADAPTER_TARGETS, base_roots=roots
    )
    spec = replace(spec, adapter=adapter)

    async def main() -> Swarm:
        swarm = Swarm(spec, 2, bases=bases)
        await swarm.train(ROUND_S, ROUNDS, trades=True)
        return swarm

    swarm = trio.run(main, clock=MockClock(autojump_threshold=0))
    shards = {place: node.runner.shard for place, node in swarm.nodes.items()}
    for stage, plan in enumerate(plans_of(spec)):
        mine, theirs = (shards[stage, index].phi_P for index in (0, 1))
        way = float((mine - init_flat(plan, spec.seed)).norm())
        assert way > 0.0
        assert float((mine - theirs).norm()) < 0.7 * way, "replicas go the same way"
        assert mine.numel() == plan.num_parameters < bases[stage].numel()
    assert tuple(map(hash_of, bases)) == roots, "and nothing below has moved"

    tuned = [shards[stage, 0].phi_P for stage in range(2)]
    whole = torch.cat(
        [merged(p, phi_P, w) for p, phi_P, w in zip(plans_of(spec), tuned, bases, strict=True)]
    )
    alone = whole_model(spec.model, NATIVE)
    before = heldout_loss(alone, torch.cat(bases), HELDOUT)
    after = heldout_loss(alone, whole, HELDOUT)
    assert after < before - 0.5
    plan = adapter_plan(alone.plan, replace(adapter, base_roots=()))
    beside = Stage(plan, table(numerics), torch.cat(bases))
    assert heldout_loss(beside, torch.cat(tuned), HELDOUT) == pytest.approx(after, abs=1e-4)

    out = tmp_path / "out"
    out.mkdir()
    for name, data in adapter_files(spec.model, adapter, torch.cat(tuned), "", None).items():
        (out / name).write_bytes(data)
    found, params_P = read_adapter_folder(out, below)
    assert found.adapter == plan.adapter
    assert torch.equal(params_P, torch.cat(tuned))


@pytest.mark.rule("T40", "T23")
def test_the_saved_shard_of_an_adapter_is_small_and_comes_back() -> None:
    spec = a_spec(numerics="seq-f32/1", stages=1)
    (base,) = plan_stages(spec.model, 1)
    base_W = init_flat(base, 9)
    adapter = AdapterSpec(2, 4 * NANO, ("q", "v"), (hash_of(base_W),))
    spec = replace(spec, adapter=adapter)

    async def main() -> Swarm:
        swarm = Swarm(spec, 1, bases=[base_W])
        await swarm.train(2.0)
        return swarm

    shard = trio.run(main, clock=MockClock(autojump_threshold=0)).nodes[0, 0].runner.shard
    raw = save_shard(shard, Digest(bytes(32)), 0, RoundIndex(0))
    numel = plans_of(spec)[0].num_parameters
    assert len(raw) < 20 * numel + 2_000 < 4 * base.num_parameters
    saved = decode_shard(raw, numel, numel)
    again = resume_shard(spec, saved, shard.anchor_P, float, shard.engine)
    assert again.components() == shard.components()
    assert again.stage == StageIndex(0)
