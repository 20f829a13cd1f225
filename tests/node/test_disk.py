"""What the disk changed is named and never trained on; what is known is read once; what no peer needs is
deleted.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from swarm.config.spec import DataSpec
from swarm.errors import Corrupt
from swarm.gossip.blobs.service import Blobs
from swarm.ledger.state.records import Checkpoint
from swarm.node.artifacts.cache import TABLE, ArtifactCache
from swarm.node.artifacts.checkpoints import tidy
from swarm.node.artifacts.text import token_source
from swarm.store import Store
from swarm.testing.executor import InlineExecutor
from swarm.testing.ledger import small_run_spec
from swarm.types import NO_DIGEST, Digest, Height, RoundIndex, StageIndex
from tests.fakes import FakeNetwork
from tests.node.fakes import KEY, FakeNode, a_run, unused

RUN16 = b"r" * 16


@dataclass
class Disk(FakeNode):
    """A node with a real disk."""

    artifacts: ArtifactCache = field(default_factory=unused)
    blobs: Blobs = field(default_factory=unused)
    store: Store = field(default_factory=unused)


def a_node(folder: Path) -> Disk:
    host: Any = FakeNetwork().host(1)
    store = Store.open(folder / "store.sqlite")
    blobs = Blobs(folder / "blobs", host, quota_bytes=1 << 20)
    artifacts = ArtifactCache(host, blobs, InlineExecutor(lambda _: 0.0), store)
    return Disk(blobs=blobs, run16=RUN16, store=store, artifacts=artifacts)


@pytest.mark.rule("N16", "T13a")
async def test_a_text_that_the_disk_changed_is_not_trained_on(tmp_path: Path) -> None:
    """It is hashed once a start, and not at all when it was fetched in this one."""
    node = a_node(tmp_path)
    root = await node.blobs.add(b"some text to train on")
    data = DataSpec("bytes", root, 21, NO_DIGEST, 1)
    run = a_run(small_run_spec(data=data))
    tokens = await token_source(node, run)
    assert bytes(tokens[:4]) == b"some"
    assert await token_source(node, run) is tokens
    path = node.blobs.path(root)
    path.write_bytes(b"same text to train on")
    node.store.close()
    with pytest.raises(Corrupt) as caught:
        await token_source(a_node(tmp_path), run)
    assert caught.value.hint == f"rm {path}"


@pytest.mark.rule("N8")
async def test_a_checkpoint_goes_when_two_newer_ones_are_here(tmp_path: Path) -> None:
    """Neither the text, nor what the ledger names, nor an anchor, nor another run's."""
    node = a_node(tmp_path)
    store = node.store

    async def checkpoint(round_: int, run16: bytes = RUN16) -> Digest:
        root: Digest = await node.blobs.add(b"phi" + run16 + bytes([round_]))
        store.put(TABLE, root, run16 + bytes(4) + round_.to_bytes(4, "big"))
        return root

    text = await node.blobs.add(b"text")
    elsewhere = await checkpoint(1, b"q" * 16)
    roots = [await checkpoint(round_) for round_ in range(1, 7)]
    canonical = tuple(
        Checkpoint(
            round=RoundIndex(round_),
            phi_root=roots[round_ - 1],
            phi_bytes=4,
            peer=KEY.peer,
            seat=0,
            height=Height(0),
            is_void=False,
        )
        for round_ in (5, 4)
    )
    node.run = a_run(small_run_spec(), checkpoints=(canonical,))
    await tidy(node, {roots[1]}, {StageIndex(0)})
    left = {text, elsewhere, roots[1], roots[3], roots[4], roots[5]}
    assert set(node.blobs.roots()) == left
    assert store.count(TABLE) == 5

    await node.blobs.remove(roots[4])
    await tidy(node, set(), {StageIndex(0)})
    assert roots[1] in node.blobs.roots(), "with one of the two lost, the older one stays"
    await tidy(node, set(), set())
    assert roots[1] not in node.blobs.roots(), "it was fetched for a check of another's stage"
    assert roots[3] in node.blobs.roots(), "the ledger lists it: a peer may replay from it"
    store.close()
