"""A shard to bytes for this node's own restart, and back.

Core: bytes in, bytes out. Legend: P parameters.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from swarm.spec import RunSpec
from swarm.training.checkpoint import SavedShard, encode_shard
from swarm.training.inner import AdamState
from swarm.training.shard import Shard
from swarm.types import Digest, RoundIndex, StageIndex


def save_shard(shard: Shard, run_digest: Digest, seat: int, round_index: RoundIndex) -> bytes:
    """The whole state between two segments."""
    saved = SavedShard(
        run_digest,
        shard.stage,
        seat,
        round_index,
        shard.adam.step,
        shard.tokens_total,
        shard.anchor_root,
        shard.params_P,
        shard.adam.m_P,
        shard.adam.v_P,
        shard.phi_P,
        shard.momentum_P,
        torch.empty(0),
    )
    return b"".join(encode_shard(saved))


def resume_shard(
    spec: RunSpec, saved: SavedShard, anchor_P: Tensor, clock: Callable[[], float]
) -> Shard:
    """A shard as it was saved; ``anchor_P`` is the tensor that ``saved.anchor_root`` names."""
    shard = Shard(spec, StageIndex(saved.stage), saved.params_P, clock)
    shard.adam = AdamState(saved.m_P, saved.v_P, saved.step)
    shard.phi_P, shard.momentum_P = saved.phi_P, saved.momentum_P
    shard.set_anchor(anchor_P, saved.anchor_root)
    shard.tokens_total = saved.tokens
    shard.tokens_at_sync = [saved.tokens] * spec.outer.fragments
    return shard
