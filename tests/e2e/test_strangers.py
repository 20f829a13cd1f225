"""A lone launch, and who comes to it: whatever a stranger sends, it trains on and its data stays whole; and who
cannot find the network or the run says why, and what to do, and never hangs silently.
"""

import secrets
import signal
import socket
import time

import pytest
import trio

from swarm.dht import announcer
from swarm.dht import service as dht
from swarm.errors import SwarmError
from swarm.gossip.blobs.service import BLOB_PROTOCOL
from swarm.gossip.trade.service import EXCHANGE_PROTOCOL
from swarm.host import handshake
from swarm.host.connections import PING_PROTOCOL
from swarm.host.service import Host, open_host
from swarm.host.streams import LINK_ERRORS, FrameStream
from swarm.ledger.consensus import validator
from swarm.ledger.net import relay
from swarm.ledger.net.sync import SYNC_PROTOCOL
from swarm.ledger.snapshot import SNAPSHOT_PROTOCOL
from swarm.node.inference import server as generation
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey
from swarm.ticket import Ticket, format_ticket, parse_ticket
from swarm.training import pipeline
from swarm.training.averaging.adoption import ADOPTION_PROTOCOL
from swarm.verify.manifest import WINDOW_PROTOCOL
from tests.e2e.localnet import WAIT_S, Localnet, Node, last_commit

pytestmark = pytest.mark.e2e

SPOKEN = (
    handshake.PROTOCOL,
    announcer.PROTOCOL,
    pipeline.PROTOCOL,
    EXCHANGE_PROTOCOL,
    BLOB_PROTOCOL,
    ADOPTION_PROTOCOL,
    WINDOW_PROTOCOL,
    validator.PROTOCOL,
    SYNC_PROTOCOL,
    SNAPSHOT_PROTOCOL,
    relay.PROTOCOL,
    PING_PROTOCOL,
    dht.PROTOCOL,
    generation.PROTOCOL,
)
JUNK = {
    "4 GiB announced": b"\xff\xff\xff\xff" + bytes(100),
    "random": (900).to_bytes(4, "big") + secrets.token_bytes(900),
    "deeply nested": (5000).to_bytes(4, "big") + b"\x91" * 5000,
    "empty frame": bytes(4),
    "half a frame": (100).to_bytes(4, "big") + b"half",
}
PATIENCE_S = 2.0


async def send_junk(host: Host, ticket: Ticket, protocol: str, data: bytes) -> None:
    """Send raw bytes on a fresh stream of a fresh connection, as far as the other side lets us."""
    with trio.move_on_after(PATIENCE_S):
        try:
            await host.connect(ticket.peer, ticket.addresses)
            (link, *_) = host._links.of(ticket.peer)
            stream = await host._links.open_on(link, [protocol])
            await stream.write(data)
            await FrameStream(stream).receive(1 << 20)
        except (SwarmError, ValueError, *LINK_ERRORS):
            return  # cut off, refused or banned: all of them are its right


@pytest.mark.rule("S3")
async def test_frames_of_every_wrong_kind_change_nothing(launcher: Node, ticket: str) -> None:
    """Every protocol, every kind of junk, each from a peer with a key of its own, all at once."""
    launcher.wait("a commit", lambda s: last_commit(s) >= 0)
    goal = parse_ticket(ticket, 0)

    async def mallory(junk: bytes) -> None:
        secret = SecretKey.from_seed(secrets.token_bytes(32))
        chain16 = goal.genesis16
        host_of = open_host(secret, listen=["127.0.0.1:0"], chain16=chain16)
        async with host_of as host, trio.open_nursery() as throws:
            for name in (*SPOKEN, "/swarm/no-such-thing/1"):
                throws.start_soon(send_junk, host, goal, name, junk)

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
    here = node.wait("the state document", lambda s: s)
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


@pytest.fixture(scope="module")
def goal(ticket: str) -> Ticket:
    return parse_ticket(ticket, int(time.time()))


def told(node: Node, code: int) -> str:
    """What a node that gives up by itself says at its end."""
    assert node.process.wait(WAIT_S) == code, node.tail()
    words = node.log.read_text()
    assert "Traceback" not in words
    assert not list(node.home.glob("trace-*"))
    return words[words.index("error: ") :]


def test_a_ticket_that_fits_no_network_run_or_address(net: Localnet, goal: Ticket) -> None:
    """Wrong genesis and wrong run end with a sentence; an address where nobody answers is tried for ever."""
    elsewhere = net.join("elsewhere", format_ticket(replace(goal, genesis16=bytes(16))))
    no_run = net.join("no-run", format_ticket(replace(goal, run16=b"r" * 16)))
    nobody = replace(goal, addresses=("/ip4/127.0.0.1/tcp/9",))
    alone = net.join("alone", format_ticket(nobody))

    words = told(elsewhere, 2)
    assert "is on another network" in words
    assert "try: ask for a new one: swarm ticket new" in words

    alone.wait_event("network", "connection refused")
    again = alone.wait_event("network", "next try in", after=3)
    assert "cannot reach" in again["text"]
    assert alone.stop(signal.SIGINT)[0] == 130

    words = told(no_run, 4)
    assert f"has no run {(b'r' * 4).hex()}" in words
    assert "try: ask for a new one: swarm ticket new" in words
    assert net.read("ledger", "verify", home=no_run.home)["height"] > 0


def test_the_same_home_joins_when_the_peer_is_there(net: Localnet, goal: Ticket) -> None:
    """What was tried in vain before costs a home nothing."""
    node = net.join("alone", format_ticket(goal), "--no-solve")
    node.wait("the run", lambda s: s["run"] is not None)
    node.stop()
