"""A node listens where it listened before, so that those who remember it find it; and elsewhere if it must."""

import socket
from pathlib import Path

import pytest

from swarm.config.schema import NodeConfig
from swarm.node.join.known_peers import PORT_KEY, remember_port, usual_listen
from swarm.store import Store

TABLE = "node"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.rule("N15")
async def test_the_port_of_the_last_start_is_taken_again(tmp_path: Path) -> None:
    store, port = Store.open(tmp_path / "store.sqlite"), free_port()
    listen = ("127.0.0.1:0",)
    assert usual_listen(store, TABLE, listen) == listen, "the first start"
    await remember_port(store, TABLE, NodeConfig(listen=listen), [f"/ip4/127.0.0.1/tcp/{port}"])
    assert usual_listen(store, TABLE, listen) == (f"127.0.0.1:{port}",)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert usual_listen(store, TABLE, listen) == listen, "another program has it now"
    store.close()


@pytest.mark.rule("N15")
async def test_both_kinds_of_addresses_take_that_port_again(tmp_path: Path) -> None:
    store, port = Store.open(tmp_path / "store.sqlite"), free_port()
    listen = NodeConfig().listen
    assert len(listen) == 2
    await remember_port(store, TABLE, NodeConfig(), [f"/ip4/192.168.1.5/tcp/{port}"])
    assert usual_listen(store, TABLE, listen) == (f"0.0.0.0:{port}", f"[::]:{port}")
    store.close()


async def test_a_port_that_was_asked_for_stays(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    fixed = (f"127.0.0.1:{free_port()}",)
    await remember_port(store, TABLE, NodeConfig(listen=fixed), ["/ip4/127.0.0.1/tcp/4001"])
    assert store.get(TABLE, PORT_KEY) is None
    mixed = ("127.0.0.1:4001", "127.0.0.1:0")
    hosts = ["/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4002/p2p/x"]
    announced = NodeConfig(listen=mixed, announce=("203.0.113.7:4009",))
    await remember_port(store, TABLE, announced, ["/ip4/203.0.113.7/tcp/4009", *hosts])
    assert int.from_bytes(store.get(TABLE, PORT_KEY) or b"", "big") == 4002
    assert usual_listen(store, TABLE, fixed) == fixed
    store.close()


@pytest.mark.rule("N15")
@pytest.mark.parametrize("row", [b"", b"\x00", b"\x01\x00\x00\x00", b"junk and more junk"])
@pytest.mark.parametrize("listen", [("127.0.0.1:0", "[::1]:0"), ("nonsense",), ("127.0.0.1:0",)])
def test_what_cannot_be_read_changes_nothing(
    tmp_path: Path, row: bytes, listen: tuple[str, ...]
) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    store.put(TABLE, PORT_KEY, row)
    assert usual_listen(store, TABLE, listen) == listen
    store.close()
