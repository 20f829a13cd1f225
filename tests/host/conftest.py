"""Hosts on loopback for the tests of this package."""

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType

import pytest
import trio
from libp2p.peer.id import ID
from multiaddr.multiaddr import Multiaddr

from swarm.host.service import Host, open_host
from swarm.primitives.crypto import SecretKey
from swarm.types import PeerId

CHAIN = b"c" * 16
UPPER = "/swarm/upper/1"


def a_secret(number: int) -> SecretKey:
    return SecretKey.from_seed(bytes([number]) * 32)


async def upper(peer: PeerId, request: bytes) -> bytes:
    return request.upper()


@asynccontextmanager
async def hosts(count: int, *, chain: bytes = CHAIN) -> AsyncGenerator[list[Host]]:
    """``count`` hosts, not yet connected, each answering UPPER."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(a_host(number, chain=chain))
            for number in range(1, count + 1)
        ]


@asynccontextmanager
async def a_host(number: int, *, chain: bytes = CHAIN, port: int = 0) -> AsyncGenerator[Host]:
    secret = a_secret(number)
    async with open_host(secret, listen=[f"127.0.0.1:{port}"], chain16=chain) as host:
        host.serve(UPPER, upper, request_limit=4 << 20)
        yield host


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait for a condition, not for a time."""
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110  conditions of many kinds, none with an event
            await trio.sleep(0.01)


async def meet(asker: Host, answerer: Host) -> None:
    """Connect two hosts, both ends."""
    await asker.connect(answerer.peer, answerer.addresses())
    await until(lambda: answerer.is_connected(asker.peer))


@pytest.fixture
def net() -> ModuleType:
    """This module: tests cannot import from a conftest."""
    return sys.modules[__name__]


def freeze(host: Host) -> None:
    """Let a host receive and never send again, as a stopped process or a dead route does."""
    for conn in host.libp2p_host.get_network().get_connections():
        conn.muxed_conn._write_frame = _silence  # type: ignore[attr-defined]


async def _silence(*_: object) -> None:
    await trio.sleep_forever()


def multiaddr(host: Host) -> Multiaddr:
    return Multiaddr(host.addresses()[0])


def id_of(host: Host) -> ID:
    return host.libp2p_host.get_id()
