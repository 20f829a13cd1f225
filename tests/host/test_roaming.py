"""A node that has moved lets go of the connections from where it was, and asks anew who can reach it."""

from types import ModuleType

import pytest
import trio

from swarm.host import roaming
from swarm.host.reachability import Reachable
from swarm.host.roaming import keep_roaming
from swarm.host.whereabouts import Move


@pytest.mark.rule("H38")
async def test_connections_from_an_address_that_is_gone_are_dropped(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roaming, "LOOK_S", 0.02)
    seen, moves = ["127.0.0.1", "127.0.0.2"], list[Move]()
    async with net.hosts(2) as (alice, bob), trio.open_nursery() as nursery:
        await net.meet(alice, bob)
        nursery.start_soon(keep_roaming, alice, moves.append, lambda: list(seen))
        await trio.sleep(0.01)
        alice.reach._votes.note(bob.peer, ("/ip4/44.0.0.1/tcp/1",), ("/ip4/44.0.0.1/tcp/1",), 1e12)
        assert alice.reach._votes.verdict(1e12).reached is Reachable.PUBLIC
        seen.remove("127.0.0.2")
        await net.until(lambda: len(moves) == 1)
        assert alice.is_connected(bob.peer), "its connection is from another address"
        assert alice.reach._votes.verdict(1e12).reached is Reachable.UNKNOWN
        seen[:] = ["127.0.0.3"]
        await net.until(lambda: not alice.is_connected(bob.peer))
        assert moves[1] == Move(("127.0.0.1",), ("127.0.0.3",))
        await alice.connect(bob.peer, bob.addresses())
        nursery.cancel_scope.cancel()
