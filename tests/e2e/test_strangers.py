"""Whatever a stranger sends, the node answers others, trains on, and its data stays whole."""

import secrets
import socket

import pytest
import trio

from swarm.errors import SwarmError
from swarm.host.service import Host, open_host
from swarm.host.streams import LINK_ERRORS, FrameStream
from swarm.primitives.crypto import SecretKey
from swarm.ticket import Ticket, parse_ticket
from tests.e2e.localnet import Localnet, Node, last_commit

pytestmark = pytest.mark.e2e

SPOKEN = (
    "hello announce micro-batch exchange blob consensus ledger-sync transactions ping kad".split()
)
JUNK = {
    "4 GiB announced": b"\xff\xff\xff\xff" + bytes(100),
    "random": (900).to_bytes(4, "big") + secrets.token_bytes(900),
    "deeply nested": (5000).to_bytes(4, "big") + b"\x91" * 5000,
    "empty frame": bytes(4),
    "half a frame": (100).to_bytes(4, "big") + b"half",
}
PATIENCE_S = 2.0


async def throw(host: Host, ticket: Ticket, protocol: str, data: bytes) -> None:
    """Send raw bytes on a fresh stream of a fresh connection, as far as the other side lets us."""
    with trio.move_on_after(PATIENCE_S):
        try:
            await host.connect(ticket.peer, ticket.addresses)
            (link, *_) = host._links.of(ticket.peer)
            stream = await host._links.open_on(link, [protocol])
            await stream.write(data)
            await FrameStream(stream).receive(1 << 20)
        except (SwarmError, ValueError, *LINK_ERRORS):
            return  # cut off, refused or exiled: all of them are its right


@pytest.mark.rule("S3")
async def test_frames_of_every_wrong_kind_change_nothing(launcher: Node, ticket: str) -> None:
    """Every protocol, every kind of junk, each from a peer with a key of its own, all at once."""
    launcher.wait("a commit", lambda s: last_commit(s) >= 0)
    goal = parse_ticket(ticket, 0)

    async def mallory(junk: bytes) -> None:
        secret = SecretKey.from_seed(secrets.token_bytes(32))
        chain16 = goal.genesis16
        async with open_host(secret, listen=["127.0.0.1:0"], chain16=chain16) as host:
            for name in SPOKEN:
                await throw(host, goal, f"/swarm/{name}/1", junk)
            await throw(host, goal, "/swarm/no-such-thing/1", junk)

    async with trio.open_nursery() as nursery:
        for junk in JUNK.values():
            nursery.start_soon(mallory, junk)
    assert_well(launcher)


async def test_bytes_that_are_not_even_libp2p_change_nothing(launcher: Node, ticket: str) -> None:
    """Junk, silence and HTTP on the port of the network; junk on the port of the page."""
    goal = parse_ticket(ticket, 0)
    port = int(goal.addresses[0].rpartition("/")[2])
    page = int(
        launcher.wait("a page", lambda s: s["node"]["api_url"]).rstrip("/").rpartition(":")[2]
    )
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    for number in (port, page):
        for data in (b"GET / HTTP/1.1\r\n\r\n", secrets.token_bytes(65_536), b"\x00" * 10):
            with socket.create_connection(("127.0.0.1", number)) as line:
                line.settimeout(PATIENCE_S)
                line.sendall(data)
    assert_well(launcher)
    for line in silent:
        line.close()


def assert_well(node: Node) -> None:
    """The node makes blocks and rounds from here on, and nothing unexpected was written down."""
    here = node.wait("a picture", lambda s: s)
    height, round_ = here["ledger"]["height"], last_commit(here)
    node.wait("more blocks", lambda s: s["ledger"]["height"] > height + 3)
    node.wait("more commits", lambda s: last_commit(s) > round_)
    assert not node.events("error")
    assert "Traceback" not in node.log.read_text()
    assert not list(node.home.glob("trace-*"))


def test_its_ledger_is_whole_afterwards(net: Localnet, launcher: Node) -> None:
    """Every block from genesis, read while the node runs."""
    launcher.wait("a commit", lambda s: last_commit(s) >= 0)
    assert net.read("ledger", "verify", home=launcher.home)["supply_conserved"]
