"""A port of a router is had, kept and given back, and a hostile router costs a moment."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import IPv4Interface
from typing import Any

import pytest
import trio

from swarm.host.upnp import mapper, messages
from swarm.host.upnp.mapper import keep_forwarded
from tests.e2e.igd import Router

LAN, ROUTER, PORT = IPv4Interface("127.0.0.9/8"), "127.0.0.8", 4001


class Node:
    """A host as far as a mapping uses it."""

    def __init__(self) -> None:
        self.supposed, self.said, self.lan = list[str](), list[str](), [LAN]

    def forwardable(self, own: str) -> int:
        assert own == str(LAN.ip)
        return PORT

    def suppose(self, address: str) -> None:
        self.supposed.append(address)

    async def run(self) -> None:
        await keep_forwarded(self, self.said.append, lambda: self.lan[0] if self.lan else None)


@asynccontextmanager
async def serving(router: Router, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Node]:
    monkeypatch.setattr(mapper, "FIRST_S", 0.0)
    monkeypatch.setattr(mapper, "SEARCH_S", 0.3)
    monkeypatch.setattr(mapper, "ASK_S", 0.5)
    monkeypatch.setattr(mapper, "LOOK_S", 0.02)
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as search:
        await search.bind((ROUTER, 0))
        monkeypatch.setattr(messages, "SEARCH_AT", search.getsockname())
        async with trio.open_nursery() as nursery:
            await nursery.start(router.serve, search)
            yield Node()
            nursery.cancel_scope.cancel()


async def until(condition: Any) -> None:  # noqa: ANN401
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.mark.rule("H39")
@pytest.mark.parametrize("only_permanent", [False, True])
async def test_a_port_is_had_renewed_and_given_back(
    monkeypatch: pytest.MonkeyPatch, *, only_permanent: bool
) -> None:
    router = Router(ROUTER, "44.0.1.2", only_permanent=only_permanent)
    monkeypatch.setattr(mapper, "LEASE_S", 1)
    async with serving(router, monkeypatch) as node, trio.open_nursery() as nursery:
        nursery.start_soon(node.run)
        await until(lambda: node.supposed)
        assert node.supposed == ["/ip4/44.0.1.2/tcp/4001"]
        assert "the router at 127.0.0.8 forwards its TCP port 4001" in node.said[0]
        assert router.entries == {"4001": ("127.0.0.9", "4001")}
        leases = [lease for action, lease in router.asked if action == "AddPortMapping"]
        assert leases == (["1", "0"] if only_permanent else ["1"])
        await until(
            lambda: len([a for a, _ in router.asked if a == "AddPortMapping"]) > len(leases)
        )
        nursery.cancel_scope.cancel()
    assert not router.entries
    assert node.supposed[1:] == [""]


@pytest.mark.rule("H39")
async def test_a_port_that_another_machine_has_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    router = Router(ROUTER, "44.0.1.2")
    router.entries["4001"] = "127.0.0.77", "4001"
    async with serving(router, monkeypatch) as node, trio.open_nursery() as nursery:
        nursery.start_soon(node.run)
        await until(lambda: node.supposed)
        assert len(router.entries) == 2
        assert router.entries["4001"] == ("127.0.0.77", "4001")
        nursery.cancel_scope.cancel()
    assert list(router.entries) == ["4001"]


@pytest.mark.rule("H39")
async def test_in_another_network_another_router_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router(ROUTER, "44.0.1.2")
    async with serving(router, monkeypatch) as node, trio.open_nursery() as nursery:
        nursery.start_soon(node.run)
        await until(lambda: node.supposed)
        node.lan.clear()
        await until(lambda: node.supposed[1:] == [""])
        await until(lambda: not router.entries)
        node.lan.append(LAN)
        await until(lambda: len(node.supposed) == 3)
        nursery.cancel_scope.cancel()


HEAD = b"HTTP/1.1 200 OK\r\n"
REDIRECTION = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.7/\r\nContent-Length: 0\r\n\r\n"
SPOILT: dict[str, dict[str, Any]] = {
    "its own machine": {"location": "http://127.0.0.9:9/desc.xml"},
    "another host": {"location": "http://44.0.0.1/desc.xml"},
    "controlled at another host": {"control": "http://127.0.0.7:9/ctl"},
    "no services": {"description": "<root/>"},
    "a redirection": {"raw": REDIRECTION},
    "half an answer": {"raw": HEAD + b"Content-Length: 9\r\n\r\nx"},
    "an endless answer": {"raw": HEAD + b"\r\n" + b"x" * (1 << 20)},
    "an endless head": {"raw": b"\x00" * 100_000},
    "a private address": {"external": "192.168.1.1"},
    "no address": {"external": "no address"},
}


@pytest.mark.rule("H39", "S4d")
@pytest.mark.parametrize("kind", SPOILT)
async def test_attack_a_hostile_router_costs_a_moment(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It is left alone, and nobody is told an address of it."""
    router = Router(ROUTER, **{"external": "44.0.1.2", **SPOILT[kind]})
    async with serving(router, monkeypatch) as node:
        with trio.move_on_after(1.0):
            await node.run()
        assert not node.supposed
        assert not router.entries
        assert len(node.said) <= 1


@pytest.mark.rule("H39")
async def test_a_router_that_never_answers_is_left_after_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_STREAM) as mute:
        await mute.bind((ROUTER, 0))
        mute.listen(1)
        at = f"http://{ROUTER}:{mute.getsockname()[1]}/"
        async with serving(Router(ROUTER, "44.0.1.2", location=at), monkeypatch):
            with trio.fail_after(3), pytest.raises(Exception, match="no router answers"):
                await mapper._map_somewhere(LAN, PORT)
