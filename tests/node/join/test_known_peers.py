"""A node remembers its peers on the disk, and a row that it cannot read means none."""

from pathlib import Path

import pytest

from swarm.node.join.anchors import Anchor, Anchors, Seen
from swarm.node.join.known_peers import (
    ANCHORS_KEY,
    PEERS_KEY,
    anchors_of,
    recalled,
    remember,
)
from swarm.store import Store
from swarm.types import PeerId

TABLE = "node"
ANN, BOB = (PeerId(bytes([number]) * 32) for number in (1, 2))
WHERE = ("/ip4/127.0.0.1/tcp/4001",)


@pytest.mark.rule("N15", "N29")
async def test_anchors_are_recalled_before_those_connected_and_outlive_both(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    assert recalled(store, TABLE) == []
    assert anchors_of(store, TABLE) == Anchors()
    seen = [Seen(peer=peer, addresses=WHERE) for peer in (ANN, BOB)]
    anchors = Anchors((Anchor(BOB, "8.8.8.0/24", 700),), 30)
    await remember(store, TABLE, anchors, seen)
    assert recalled(store, TABLE) == [(BOB, WHERE), (ANN, WHERE)]
    assert anchors_of(store, TABLE) == anchors
    await remember(store, TABLE, anchors, [])
    assert recalled(store, TABLE) == [(BOB, WHERE), (ANN, WHERE)]
    for key in (PEERS_KEY, ANCHORS_KEY):
        store.put(TABLE, key, b"junk")
    assert recalled(store, TABLE) == []
    assert anchors_of(store, TABLE) == Anchors()
    store.close()
