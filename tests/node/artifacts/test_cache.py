"""Texts and anchors are read, hashed and decoded once; only what the ledger or the spec names is canonical."""

from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import pytest
import torch
from torch import Tensor

from swarm.config.bounds import check_spec
from swarm.config.load import parse_run_file, run_spec
from swarm.config.spec import DataSpec, RunSpec
from swarm.errors import Corrupt, Unreachable
from swarm.gossip.blobs.service import Blobs
from swarm.node.artifacts import cache as library_module
from swarm.node.artifacts.cache import ANCHORS_KEPT, ArtifactCache
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.primitives.merkle import merkle_root
from swarm.store import Store
from swarm.testing.executor import InlineExecutor
from swarm.training.model.stages import init_flat, init_root, plan_stages
from swarm.training.record.checkpoint import phi_bytes
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
        self.library = ArtifactCache(host, self.blobs, InlineExecutor(lambda _: 0.0), self.store)
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


@pytest.mark.rule("N16")
async def test_a_checkpoint_of_another_size_is_not_even_asked_for(tmp_path: Path) -> None:
    """Whoever was drawn to post it wrote its length; the run says how long it is."""
    shelf = Shelf(tmp_path)
    root, phi_P = await shelf.post(4)
    posted = shelf.run.checkpoints[STAGE][0]
    for wrong in (4 * phi_P.numel() - 4, 4 * phi_P.numel() + 4, 1 << 34, 0):
        posted.phi_bytes = wrong
        with pytest.raises(Unreachable, match="has the wrong size"):
            await shelf.library.anchor(shelf.run, STAGE, root)


@pytest.mark.rule("N16")
async def test_an_anchor_that_the_disk_changed_is_named(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    root, _ = await shelf.post(4)
    path = shelf.blobs.path(root)
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    with pytest.raises(Corrupt) as caught:
        await shelf.library.anchor(shelf.run, STAGE, root)
    assert caught.value.hint == f"rm {path}"


@pytest.mark.rule("T4")
async def test_the_weights_that_a_run_goes_on_from_are_fetched_by_their_names(
    tmp_path: Path,
) -> None:
    shelf = Shelf(tmp_path)
    roots, tensors = list[Digest](), list[Tensor]()
    for plan in shelf.plans:
        start_P = init_flat(plan, 99) * 0.5
        roots.append(
            await shelf.blobs.add(phi_bytes(start_P), dtype="float32", shape=tuple(start_P.shape))
        )
        tensors.append(start_P)
    spec = replace(shelf.spec, initial_roots=tuple(roots), init_root=merkle_root(roots))
    check_spec(spec)
    shelf.run.spec, shelf.run.spec_digest = spec, spec.digest
    for number, (root, start_P) in enumerate(zip(roots, tensors, strict=True)):
        stage = StageIndex(number)
        assert await shelf.library.initial_root(spec, stage) == root
        assert shelf.library.canonical(shelf.run, stage, root)
        assert torch.equal(await shelf.library.initial(shelf.run, stage), start_P)
        assert torch.equal(await shelf.library.anchor(shelf.run, stage, root), start_P)
        assert await shelf.library.served(shelf.run, stage, root) is not None
    drawn = hash_of(init_flat(shelf.plans[STAGE], spec.seed))
    assert not shelf.library.canonical(shelf.run, STAGE, drawn)
    assert await shelf.library.served(shelf.run, STAGE, drawn) is None
    await shelf.blobs.remove(roots[0])
    shelf.library.forget(roots[0])
    assert await shelf.library.served(shelf.run, StageIndex(0), roots[0]) is None


async def test_initial_weights_that_are_not_finite_are_of_no_use(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    bad_P = torch.full((shelf.plans[STAGE].num_parameters,), float("nan"))
    root = await shelf.blobs.add(phi_bytes(bad_P), dtype="float32", shape=tuple(bad_P.shape))
    shelf.run.spec = replace(
        shelf.spec, initial_roots=(root, root), init_root=merkle_root([root] * 2)
    )
    with pytest.raises(Unreachable, match="of no use"):
        await shelf.library.initial(shelf.run, STAGE)


@pytest.mark.rule("N16")
async def test_held_out_text_is_checked_like_the_text(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    heldout = bytes(range(256)) * 4
    root = await shelf.blobs.add(heldout)
    shelf.run.spec = replace(
        shelf.spec, data=replace(shelf.spec.data, heldout_root=root, heldout_bytes=len(heldout))
    )
    assert bytes(await shelf.library.heldout(shelf.run)) == heldout
