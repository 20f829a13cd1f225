"""A node remembers its connected peers, and a row that it cannot read means none."""

from pathlib import Path

import pytest
import trio
import trio.testing

from swarm.node.join.known_peers import PEERS_KEY, PEERS_MAX, keep_recalling, recalled
from swarm.store import Store
from swarm.types import PeerId

TABLE = "node"


class Links:
    """The part of a host that matters here."""

    def __init__(self, peers: list[PeerId]) -> None:
        self.peers = peers

    def connected(self) -> list[PeerId]:
        return self.peers

    def known_addresses(self, peer: PeerId) -> list[str]:
        return [f"/ip4/127.0.0.1/tcp/{4000 + peer[0]}"] if peer[0] else []


async def remembered(store: Store, links: Links) -> None:
    with trio.move_on_after(2.5):
        await keep_recalling(links, store, TABLE)  # type: ignore[arg-type]


@pytest.mark.rule("N15")
async def test_those_connected_come_first_and_earlier_ones_stay(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A peer whose address is unknown is no help to the next start."""
    store = Store.open(tmp_path / "store.sqlite")
    peers = [PeerId(bytes([number]) * 32) for number in range(PEERS_MAX + 4)]
    await remembered(store, Links(peers[:3]))
    assert recalled(store, TABLE) == [
        (peer, (f"/ip4/127.0.0.1/tcp/{4000 + peer[0]}",)) for peer in peers[1:3]
    ]
    await remembered(store, Links(peers[3:]))
    now = [peer for peer, _ in recalled(store, TABLE)]
    assert now == peers[3 : 3 + PEERS_MAX]
    await remembered(store, Links([]))
    assert [peer for peer, _ in recalled(store, TABLE)] == now
    store.put(TABLE, PEERS_KEY, b"junk")
    assert recalled(store, TABLE) == []
    store.close()
