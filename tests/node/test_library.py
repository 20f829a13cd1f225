"""Texts and anchors are read, hashed and decoded once; only what the ledger or the spec names is canonical."""

from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import pytest
import torch
from torch import Tensor

from swarm.compute import InlineCompute
from swarm.config import parse_run_file, run_spec
from swarm.errors import Corrupt, Unreachable
from swarm.gossip.blobs import Blobs
from swarm.node import library as library_module
from swarm.node.library import ANCHORS_KEPT, Library
from swarm.spec import DataSpec, RunSpec
from swarm.store import Store
from swarm.tensors import hash_of
from swarm.training.checkpoint import phi_bytes
from swarm.training.stages import init_flat, init_root, plan_stages
from swarm.types import NO_DIGEST, Digest, StageIndex
from tests.fakes import FakeNetwork

RUN = """
[model]
hidden_size = 32
num_layers = 2
num_heads = 2
num_kv_heads = 2
intermediate_size = 64
seq_len = 32
"""
STAGE = StageIndex(1)


def a_spec() -> RunSpec:
    return run_spec(
        parse_run_file(RUN, "run.toml"),
        data=DataSpec("bytes", NO_DIGEST, 1000, NO_DIGEST, 1000),
        init_root=NO_DIGEST,
    )


class Shelf:
    """A library, its blobs, and a run whose ledger names what is in them."""

    def __init__(self, folder: Path) -> None:
        host: Any = FakeNetwork().host(1)
        self.store = Store.open(folder / "store.sqlite")
        self.blobs = Blobs(folder / "blobs", host, quota_bytes=1 << 24)
        self.library = Library(host, self.blobs, InlineCompute(lambda _: 0.0), self.store)
        self.spec = a_spec()
        self.plans = plan_stages(self.spec.model, self.spec.num_stages)
        self.run: Any = Some(
            spec=self.spec,
            spec_digest=self.spec.digest,
            seats=(),
            owner=host.peer,
            checkpoints=[(), ()],
        )

    async def post(self, number: int) -> tuple[Digest, Tensor]:
        """A checkpoint that the ledger names."""
        phi_P = torch.full((self.plans[STAGE].num_parameters,), float(number))
        root = await self.blobs.add(phi_bytes(phi_P), dtype="float32", shape=tuple(phi_P.shape))
        posted = Some(phi_root=root, phi_bytes=4 * phi_P.numel(), peer=self.run.owner, round=number)
        self.run.checkpoints[STAGE] = (posted, *self.run.checkpoints[STAGE])
        return root, phi_P


async def test_the_initial_weights_are_an_anchor(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    await shelf.library.prepare(shelf.spec)
    initial_P = init_flat(shelf.plans[STAGE], shelf.spec.seed)
    root = hash_of(initial_P)
    assert shelf.library.canonical(shelf.run, STAGE, root)
    assert not shelf.library.canonical(shelf.run, StageIndex(0), root)
    anchor_P = await shelf.library.anchor(shelf.run, STAGE, root)
    assert torch.equal(anchor_P, initial_P)
    assert await shelf.library.anchor(shelf.run, STAGE, root) is anchor_P
    assert init_root(shelf.plans, shelf.spec.seed) != root


async def test_a_checkpoint_is_read_and_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path)
    await shelf.library.prepare(shelf.spec)
    root, phi_P = await shelf.post(4)
    hashed = list[int]()

    def count(tensor: Tensor) -> Digest:
        hashed.append(tensor.numel())
        return hash_of(tensor)

    monkeypatch.setattr(library_module, "hash_of", count)
    assert shelf.library.canonical(shelf.run, STAGE, root)
    for _ in range(3):
        assert torch.equal(await shelf.library.anchor(shelf.run, STAGE, root), phi_P)
    assert len(hashed) == 1
    assert shelf.store.count(library_module.TABLE) == 1


async def test_few_anchors_stay_in_memory(tmp_path: Path) -> None:
    """An old one is read again, and what is on the disk still serves when the ledger lists it no more."""
    shelf = Shelf(tmp_path)
    roots = [(await shelf.post(number))[0] for number in range(ANCHORS_KEPT + 2)]
    for root in roots:
        await shelf.library.anchor(shelf.run, STAGE, root)
    shelf.run.checkpoints[STAGE] = ()
    assert not shelf.library.canonical(shelf.run, STAGE, roots[0])
    again_P = await shelf.library.anchor(shelf.run, STAGE, roots[0])
    assert hash_of(again_P) == roots[0]
    with pytest.raises(Unreachable, match="on ledger or disk"):
        await shelf.library.anchor(shelf.run, STAGE, NO_DIGEST)


async def test_an_anchor_that_the_disk_changed_is_named(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    root, _ = await shelf.post(4)
    path = shelf.blobs.path(root)
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    with pytest.raises(Corrupt) as caught:
        await shelf.library.anchor(shelf.run, STAGE, root)
    assert caught.value.hint == f"rm {path}"
