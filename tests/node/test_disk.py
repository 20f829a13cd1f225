"""What the disk changed is named and never trained on; what is known is read once; what nobody needs leaves."""

from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import pytest

from swarm.config.spec import DataSpec
from swarm.errors import Corrupt
from swarm.gossip.blobs.service import Blobs
from swarm.node.artifacts.cache import TABLE, ArtifactCache
from swarm.node.artifacts.checkpoints import tidy
from swarm.node.artifacts.text import token_source
from swarm.store import Store
from swarm.testing.executor import InlineExecutor
from swarm.types import NO_DIGEST, Digest, StageIndex
from tests.fakes import FakeNetwork

RUN16 = b"r" * 16


def a_context(folder: Path, **more: Any) -> Any:  # noqa: ANN401  as many kinds as fields
    """As much of a node's context as these duties look at."""
    host: Any = FakeNetwork().host(1)
    store = Store.open(folder / "store.sqlite")
    blobs = Blobs(folder / "blobs", host, quota_bytes=1 << 20)
    library = ArtifactCache(host, blobs, InlineExecutor(lambda _: 0.0), store)
    tally = Some(waits_for="")
    return Some(blobs=blobs, run16=RUN16, store=store, library=library, tally=tally, **more)


@pytest.mark.rule("N16", "T13a")
async def test_a_text_that_the_disk_changed_is_not_trained_on(tmp_path: Path) -> None:
    """It is hashed once a start, and not at all when it was fetched in this one."""
    context = a_context(tmp_path)
    root = await context.blobs.add(b"some text to train on")
    data = DataSpec("bytes", root, 21, NO_DIGEST, 1)
    run: Any = Some(seats=(), owner=b"", spec=Some(data=data))
    tokens = await token_source(context, run)
    assert bytes(tokens[:4]) == b"some"
    assert await token_source(context, run) is tokens
    path = context.blobs.path(root)
    path.write_bytes(b"same text to train on")
    context.store.close()
    with pytest.raises(Corrupt) as caught:
        await token_source(a_context(tmp_path), run)
    assert caught.value.hint == f"rm {path}"


@pytest.mark.rule("N8")
async def test_a_checkpoint_goes_when_two_newer_ones_are_here(tmp_path: Path) -> None:
    """Neither the text, nor what the ledger names, nor an anchor, nor another run's."""
    context = a_context(tmp_path, run=None)
    store = context.store

    async def checkpoint(round_: int, run16: bytes = RUN16) -> Digest:
        root: Digest = await context.blobs.add(b"phi" + run16 + bytes([round_]))
        store.put(TABLE, root, run16 + bytes(4) + round_.to_bytes(4, "big"))
        return root

    text = await context.blobs.add(b"text")
    elsewhere = await checkpoint(1, b"q" * 16)
    roots = [await checkpoint(round_) for round_ in range(1, 7)]
    canonical = [Some(round=round_, phi_root=roots[round_ - 1]) for round_ in (5, 4)]
    context.run = Some(checkpoints=[canonical])
    await tidy(context, {roots[1]}, {StageIndex(0)})
    left = {text, elsewhere, roots[1], roots[3], roots[4], roots[5]}
    assert set(context.blobs.roots()) == left
    assert store.count(TABLE) == 5

    await context.blobs.remove(roots[4])
    await tidy(context, set(), {StageIndex(0)})
    assert roots[1] in context.blobs.roots(), "with one of the two lost, the older one stays"
    await tidy(context, set(), set())
    assert roots[1] not in context.blobs.roots(), "it was fetched for a check of another's stage"
    assert roots[3] in context.blobs.roots(), "the ledger lists it: somebody may replay from it"
    store.close()
