"""Texts and anchors are read, hashed and decoded once; only what the ledger or the spec names is canonical."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import pytest
import torch
from torch import Tensor

from swarm.config.bounds import check_spec
from swarm.config.load import parse_run_file, run_spec
from swarm.config.spec import NANO, AdapterSpec, DataSpec, RunSpec
from swarm.errors import Corrupt, Unreachable
from swarm.gossip.blobs.service import Blobs
from swarm.node.artifacts import cache as cache_module
from swarm.node.artifacts.cache import ANCHORS_KEPT, ArtifactCache
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.store import Store
from swarm.testing.executor import InlineExecutor
from swarm.training.model.stages import init_flat, plan_stages, plans_of
from swarm.training.record.checkpoint import phi_bytes
from swarm.training.starts import starts_of
from swarm.types import NO_DIGEST, Digest, PeerId, StageIndex
from tests.fakes import FakeNetwork
from tests.training.pipeline import with_seeded_starts

RUN = """
[run]
recipe = "lora"
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
    file, data = (
        parse_run_file(RUN, "run.toml"),
        DataSpec("bytes", NO_DIGEST, 1000, NO_DIGEST, 1000),
    )
    return with_seeded_starts(run_spec(file, data=data))


class Harness:
    """A cache, its blobs, and a run whose ledger names what is in them."""

    def __init__(self, folder: Path) -> None:
        host: Any = FakeNetwork().host(1)
        self.store = Store.open(folder / "store.sqlite")
        self.blobs = Blobs(folder / "blobs", host, quota_bytes=1 << 24)
        self.artifacts = ArtifactCache(host, self.blobs, InlineExecutor(lambda _: 0.0), self.store)
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
    harness = Harness(tmp_path)
    initial_P = init_flat(harness.plans[STAGE], harness.spec.seed)
    root = hash_of(initial_P)
    assert harness.artifacts.canonical(harness.run, STAGE, root)
    assert not harness.artifacts.canonical(harness.run, StageIndex(0), root)
    anchor_P = await harness.artifacts.anchor(harness.run, STAGE, root)
    assert torch.equal(anchor_P, initial_P)
    assert await harness.artifacts.anchor(harness.run, STAGE, root) is anchor_P


async def test_a_checkpoint_is_read_and_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = Harness(tmp_path)
    root, phi_P = await harness.post(4)
    hashed = list[int]()

    def count(tensor: Tensor) -> Digest:
        hashed.append(tensor.numel())
        return hash_of(tensor)

    monkeypatch.setattr(cache_module, "hash_of", count)
    assert harness.artifacts.canonical(harness.run, STAGE, root)
    for _ in range(3):
        assert torch.equal(await harness.artifacts.anchor(harness.run, STAGE, root), phi_P)
    assert len(hashed) == 1
    assert harness.store.count(cache_module.TABLE) == 1


async def test_few_anchors_stay_in_memory(tmp_path: Path) -> None:
    """An old one is read again, and what is on the disk still serves when the ledger lists it no more."""
    harness = Harness(tmp_path)
    roots = [(await harness.post(number))[0] for number in range(ANCHORS_KEPT + 2)]
    for root in roots:
        await harness.artifacts.anchor(harness.run, STAGE, root)
    harness.run.checkpoints[STAGE] = ()
    assert not harness.artifacts.canonical(harness.run, STAGE, roots[0])
    again_P = await harness.artifacts.anchor(harness.run, STAGE, roots[0])
    assert hash_of(again_P) == roots[0]
    with pytest.raises(Unreachable, match="on ledger or disk"):
        await harness.artifacts.anchor(harness.run, STAGE, NO_DIGEST)


@pytest.mark.rule("N16")
async def test_a_checkpoint_of_another_size_is_not_even_asked_for(tmp_path: Path) -> None:
    """The peer that was drawn to post it wrote its length; the run says how long it is."""
    harness = Harness(tmp_path)
    root, phi_P = await harness.post(4)
    posted = harness.run.checkpoints[STAGE][0]
    for wrong in (4 * phi_P.numel() - 4, 4 * phi_P.numel() + 4, 1 << 34, 0):
        posted.phi_bytes = wrong
        with pytest.raises(Unreachable, match="has the wrong size"):
            await harness.artifacts.anchor(harness.run, STAGE, root)


async def test_weights_that_are_deleted_before_they_are_read_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task of the node may delete what it fetched for itself: the node goes on, and fetches again."""
    harness = Harness(tmp_path)
    root, _ = await harness.post(4)
    fetch = harness.blobs.fetch

    async def fetched(
        root: Digest, size: int, peers: Callable[[], list[PeerId]], *, patience_s: float
    ) -> Path:
        path = await fetch(root, size, peers, patience_s=patience_s)
        path.unlink()
        return path

    monkeypatch.setattr(harness.blobs, "fetch", fetched)
    with pytest.raises(Unreachable, match="deleted here before"):
        await harness.artifacts.anchor(harness.run, STAGE, root)


@pytest.mark.rule("N16")
async def test_an_anchor_that_the_disk_changed_is_named(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    root, _ = await harness.post(4)
    path = harness.blobs.path(root)
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    with pytest.raises(Corrupt) as caught:
        await harness.artifacts.anchor(harness.run, STAGE, root)
    assert caught.value.hint == f"rm {path}"


@pytest.mark.rule("T4")
async def test_the_weights_that_a_run_goes_on_from_are_fetched_by_their_names(
    tmp_path: Path,
) -> None:
    harness = Harness(tmp_path)
    roots, tensors = list[Digest](), list[Tensor]()
    for plan in harness.plans:
        start_P = init_flat(plan, 99) * 0.5
        roots.append(
            await harness.blobs.add(phi_bytes(start_P), dtype="float32", shape=tuple(start_P.shape))
        )
        tensors.append(start_P)
    spec = replace(harness.spec, starts=starts_of(harness.spec, roots), is_pretrained=True)
    check_spec(spec)
    harness.run.spec, harness.run.spec_digest = spec, spec.digest
    for number, (root, start_P) in enumerate(zip(roots, tensors, strict=True)):
        stage = StageIndex(number)
        assert harness.artifacts.canonical(harness.run, stage, root)
        assert torch.equal(await harness.artifacts.initial(harness.run, stage), start_P)
        assert torch.equal(await harness.artifacts.anchor(harness.run, stage, root), start_P)
        assert await harness.artifacts.served(harness.run, stage, root) is not None
    seeded = hash_of(init_flat(harness.plans[STAGE], spec.seed))
    assert not harness.artifacts.canonical(harness.run, STAGE, seeded)
    assert await harness.artifacts.served(harness.run, STAGE, seeded) is None
    await harness.blobs.remove(roots[0])
    harness.artifacts.forget(roots[0])
    assert await harness.artifacts.served(harness.run, StageIndex(0), roots[0]) is None


@pytest.mark.rule("T40")
async def test_the_weights_below_an_adapter_are_fetched_by_name_and_held_once(
    tmp_path: Path,
) -> None:
    """Alive as long as somebody uses them; they are no anchor of the adapter."""
    harness = Harness(tmp_path)
    artifacts, run = harness.artifacts, harness.run
    assert await artifacts.base(run, STAGE) is None
    bases = [init_flat(plan, 99) for plan in harness.plans]
    roots = [
        await harness.blobs.add(phi_bytes(base_W), dtype="float32", shape=tuple(base_W.shape))
        for base_W in bases
    ]
    adapter = AdapterSpec(4, 8 * NANO, ("q", "down"), tuple(roots))
    spec = with_seeded_starts(replace(harness.spec, adapter=adapter))
    check_spec(spec)
    run.spec, run.spec_digest = spec, spec.digest
    base_W = await artifacts.base(run, STAGE)
    assert base_W is not None
    assert torch.equal(base_W, bases[STAGE])
    assert await artifacts.base(run, STAGE, is_here=True) is base_W
    assert not artifacts.canonical(run, STAGE, roots[STAGE])
    with pytest.raises(Unreachable, match="on ledger or disk"):
        await artifacts.anchor(run, STAGE, NO_DIGEST)
    initial_P = await artifacts.initial(run, STAGE)
    assert initial_P.numel() == plans_of(spec)[STAGE].num_parameters < base_W.numel()
    assert artifacts.canonical(run, STAGE, hash_of(initial_P))
    path = harness.blobs.path(roots[STAGE])
    del base_W
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x00\x00")
    with pytest.raises(Corrupt) as caught:
        await artifacts.base(run, STAGE)
    assert str(path) in caught.value.hint
    await artifacts.keep_base(run, StageIndex(0))
    assert harness.blobs.has(roots[0])
    await harness.blobs.remove(roots[0])
    with pytest.raises(Unreachable, match="not here"):
        await artifacts.base(run, StageIndex(0), is_here=True)


async def test_initial_weights_that_are_not_finite_are_of_no_use(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    bad_P = torch.full((harness.plans[STAGE].num_parameters,), float("nan"))
    root = await harness.blobs.add(phi_bytes(bad_P), dtype="float32", shape=tuple(bad_P.shape))
    starts = starts_of(harness.spec, (root, root))
    harness.run.spec = replace(harness.spec, starts=starts, is_pretrained=True)
    with pytest.raises(Unreachable, match="of no use"):
        await harness.artifacts.initial(harness.run, STAGE)


@pytest.mark.rule("N16")
async def test_held_out_text_is_checked_like_the_text(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    heldout = bytes(range(256)) * 4
    root = await harness.blobs.add(heldout)
    harness.run.spec = replace(
        harness.spec, data=replace(harness.spec.data, heldout_root=root, heldout_bytes=len(heldout))
    )
    assert bytes(await harness.artifacts.heldout(harness.run)) == heldout
