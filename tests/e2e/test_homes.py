"""Two nodes behind routers of two homes find each other through a relay, and a direct way where there is one.

    home A: node - router --- relay --- router - node: home B

Both homes have the same private network, as homes have, or each a public one of IPv6 alone. The relay is
libp2p's daemon in Go (``swarm relay``), so that its forms are tested against another hand's, too.
"""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from swarm.cli.commands.relay import daemon
from swarm.errors import UsageError
from swarm.ticket import parse_ticket
from tests.e2e.localnet import WAIT_S, Localnet, Node
from tests.e2e.machines import cable, inside, ip, machines, make_firewall, make_router, on

pytestmark = pytest.mark.e2e

EVERYWHERE: Sequence[str] = ()
RELAY_PORT = 4001
V6 = "2a00:4400"
KINDS = ("keep ports", "draw ports", "IPv6 alone")


@pytest.fixture(params=KINDS)
def homes(request: pytest.FixtureRequest) -> Generator[tuple[str, ...]]:
    """The names of the relay's machine and of one in each home."""
    try:
        daemon()
    except UsageError as error:
        pytest.skip(str(error))
    with machines("relay", "router-a", "router-b", "a", "b") as names:
        middle, *others = names
        for number, (router, home) in enumerate(zip(others[:2], others[2:], strict=True), 1):
            cable(middle, router, f"line{number}", "wan")
            cable(router, home, "lan", "cable")
            if request.param == "IPv6 alone":
                v6_home(number, middle, router, home)
            else:
                v4_home(number, middle, router, home)
                make_router(router, draws_ports=request.param == "draw ports")
        yield middle, *others[2:]


def v4_home(number: int, middle: str, router: str, home: str) -> None:
    """Give a home one public address, and the private network that all homes have."""
    inside(middle, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    ip("-n", middle, "addr", "add", f"44.0.{number}.1/24", "dev", f"line{number}")
    ip("-n", router, "addr", "add", f"44.0.{number}.2/24", "dev", "wan")
    ip("-n", router, "route", "add", "default", "via", f"44.0.{number}.1")
    ip("-n", router, "addr", "add", "192.168.1.1/24", "dev", "lan")
    ip("-n", home, "addr", "add", f"192.168.1.{10 * number}/24", "dev", "cable")
    ip("-n", home, "route", "add", "default", "via", "192.168.1.1")


def v6_home(number: int, middle: str, router: str, home: str) -> None:
    """Give a home a public network of IPv6 behind a firewall, and nothing else."""
    line, net = f"{V6}:{number}:", f"{V6}:{10 + number}:"
    inside(middle, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    make_firewall(router)
    for machine, address, device in (
        (middle, f"{line}:1", f"line{number}"),
        (router, f"{line}:2", "wan"),
        (router, f"{net}:1", "lan"),
        (home, f"{net}:10", "cable"),
    ):
        ip("-6", "-n", machine, "addr", "add", f"{address}/64", "dev", device, "nodad")
    ip("-6", "-n", middle, "route", "add", f"{net}:/64", "via", f"{line}:2")
    ip("-6", "-n", router, "route", "add", "default", "via", f"{line}:1")
    ip("-6", "-n", home, "route", "add", "default", "via", f"{net}:1")


@pytest.mark.rule("H34", "H35", "H37", "N33")
def test_who_is_behind_a_router_is_joined_through_a_relay_and_trains(
    net: Localnet, homes: tuple[str, str, str], request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.id[:4]
    host = f"[{V6}:1::1]" if kind == "IPv6" else "44.0.1.1"
    relay = Relay(homes[0], net.folder / f"relay-{kind}", f"{host}:{RELAY_PORT}")
    request.addfinalizer(relay.stop)
    address = relay.address
    (launcher_name, joiner_name) = (f"{name}-{kind}" for name in ("launcher", "joiner"))
    for name in (launcher_name, joiner_name):
        (net.folder / name).mkdir()
        (net.folder / name / "node.toml").write_text(f'relays = ["{address}"]\n')
    launcher = net.start(
        launcher_name, "launch", str(net.run_file()), program=on(homes[1]), listen=EVERYWHERE
    )
    ticket = launcher.ticket()
    # At home an IPv6 address is a public one, too, and nobody knows yet that it cannot be dialled.
    assert parse_ticket(ticket, 0).addresses[kind == "IPv6"] == f"{address}/p2p-circuit"
    joiner = net.start(joiner_name, "join", ticket, program=on(homes[2]), listen=EVERYWHERE)
    joiner.wait_event("seat_taken")
    joiner.wait_event("traded")
    for node in (launcher, joiner):
        node.wait_event("network", "others reach it through the relay")
    way = "relayed" if "draw" in kind else "direct"
    net.wait(f"a {way} way", lambda: path(joiner, homes[2]) == way, WAIT_S, joiner)
    for node in (joiner, launcher):
        assert node.stop()[0] == 130
    assert relay.stop() == 130


@pytest.fixture
def forwarding() -> Generator[tuple[str, str, Path]]:
    """The names of a machine outside and of one at home, and what the home's router says that it forwards."""
    with machines("outside", "router", "home") as (outside, router, home):
        cable(outside, router, "line1", "wan")
        cable(router, home, "lan", "cable")
        v4_home(1, outside, router, home)
        make_router(router, draws_ports=True)
        for machine, device in ((router, "lan"), (home, "cable")):
            ip("-n", machine, "route", "add", "224.0.0.0/4", "dev", device)
        inside(router, "iptables", "-I", "INPUT", "-i", "lan", "-j", "ACCEPT")
        command = [sys.executable, "-m", "tests.e2e.igd", "192.168.1.1", "44.0.1.2"]
        with tempfile.NamedTemporaryFile() as said:
            process = subprocess.Popen(
                ["ip", "netns", "exec", router, *command], stdout=said, stderr=said
            )
            try:
                yield outside, home, Path(said.name)
            finally:
                process.kill()
                process.wait()


@pytest.mark.rule("H23", "H39")
def test_a_router_that_forwards_is_asked_and_the_node_behind_it_is_dialled_from_outside(
    net: Localnet, forwarding: tuple[str, str, Path]
) -> None:
    outside, home, said = forwarding
    net.wait("the router", lambda: "ready" in said.read_text())
    file = str(net.run_file())
    launcher = net.start("outside", "launch", file, program=on(outside), listen=EVERYWHERE)
    joiner = net.start("home", "join", launcher.ticket(), program=on(home), listen=EVERYWHERE)
    joiner.wait_event("network", "the router at 192.168.1.1 forwards its TCP port")
    told = joiner.wait_event("network", "anybody can reach this node")["text"]
    port = said.read_text().split("forwards ")[1].split()[0]
    assert f"/ip4/44.0.1.2/tcp/{port}" in told
    assert answers(outside, "44.0.1.2", port)
    state = json.loads(asked(joiner, home, "status", "--json"))
    assert state["node"]["addresses"][0] == f"/ip4/44.0.1.2/tcp/{port}"
    assert f"forwards TCP port {port} to it (UPnP)" in state["node"]["reach_text"]
    assert joiner.stop()[0] == 130
    assert f"ends {port}" in said.read_text()
    assert not answers(outside, "44.0.1.2", port)
    assert launcher.stop()[0] == 130


def answers(machine: str, host: str, port: str) -> bool:
    """Whether something listens there, as seen from a machine."""
    code = f"import socket; socket.create_connection(({host!r}, {port}), 3)"
    words = ["ip", "netns", "exec", machine, sys.executable, "-c", code]
    return not subprocess.run(words, check=False, capture_output=True).returncode


class Relay:
    """A relay on a machine, listening."""

    def __init__(self, machine: str, home: Path, listen: str) -> None:
        # As a script's background job is started, which ignores Ctrl-C: the relay heeds it all the same.
        deaf = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
        command = [
            *deaf,
            *on(machine),
            "--home",
            str(home),
            "relay",
            "--listen",
            listen,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._output = self._process.stdout
        word, self.address = self._output.readline().split()
        assert word == "relay"

    def stop(self) -> int:
        """End it as Ctrl-C does; return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._output.close()
        return self._process.wait(20)


def asked(node: Node, machine: str, *words: str) -> str:
    """What a command says of a node, on its machine; "" if it fails."""
    done = subprocess.run(
        [*on(machine), *words, "--home", str(node.home)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return "" if done.returncode else done.stdout


def path(node: Node, machine: str) -> str:
    """The way to the other node, as ``swarm peers ls`` says."""
    peers = json.loads(asked(node, machine, "peers", "ls", "--json") or "[]")
    return next((str(peer["path"]) for peer in peers if not peer["me"]), "")
