"""Smallest valid things of the gossip package."""

from dataclasses import replace

import torch

from swarm.gossip.trade.messages import Chunks, Codec, FragmentKey, sign_offer
from swarm.gossip.trade.payload import FragmentPayload, Packed, pack
from swarm.gossip.trade.pull import Wanted
from swarm.primitives.crypto import SecretKey
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex

CHAIN = Digest(b"\x0c" * 32)
ANCHOR_ROOT = Digest(b"\x0a" * 32)
SENDER = SecretKey.from_seed(b"\x01" * 32)
RECEIVER = SecretKey.from_seed(b"\x02" * 32)
OUTSIDER = SecretKey.from_seed(b"\x03" * 32)
NUMEL = 1000


def a_key(*, round_index: int = 5, seat: int = 3, fragment: int = 1, run: int = 1) -> FragmentKey:
    return FragmentKey(RunIndex(run), StageIndex(0), fragment, RoundIndex(round_index), seat)


def a_snapshot(
    *, numel: int = NUMEL, seed: int = 1, anchor_root: Digest = ANCHOR_ROOT, tokens: int = 4096
) -> FragmentPayload:
    anchor = torch.randn(numel, generator=torch.Generator().manual_seed(0))
    drift = torch.randn(numel, generator=torch.Generator().manual_seed(seed))
    theta, residual = anchor + 0.01 * drift, 0.001 * drift.flip(0)
    return FragmentPayload(theta, anchor, anchor_root, 50, tokens, residual=residual)


def a_packed(key: FragmentKey, *, codec: Codec = Codec.INT8, numel: int = NUMEL) -> Packed:
    """What SENDER offers, signed."""
    packed = pack(key, a_snapshot(numel=numel), codec)
    return replace(packed, offer=sign_offer(SENDER, CHAIN, packed.offer))


def some_chunks(*parts: bytes) -> Chunks:
    return Chunks(tuple(memoryview(part) for part in parts))


def a_wanted(
    *,
    key: FragmentKey | None = None,
    numel: int = NUMEL,
    anchor_root: Digest = ANCHOR_ROOT,
    codec: Codec = Codec.INT8,
) -> Wanted:
    return Wanted(
        key=key or a_key(),
        partner=SENDER.peer,
        to_seat=4,
        anchor_root=anchor_root,
        numel=numel,
        codec=codec,
    )
