"""Run a public relay: libp2p's daemon in Go, which hivemind brings along.

Shell: writes a key, starts the daemon, says at which addresses it is, and ends with it.
"""

import os
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import Terminal, terminal
from swarm.errors import UsageError

if TYPE_CHECKING:
    from swarm.primitives.crypto import SecretKey

DAEMON = Path("hivemind_cli", "p2pd")
START_S = 20.0
"""Seconds for the daemon to listen."""
POLL_S = 0.1
KEY_HEAD = bytes.fromhex("08011240")
"""Head of libp2p's protobuf {type: Ed25519, 64 bytes: seed and public key}."""
SETTINGS = (
    *("-relayService=1", "-forceReachabilityPublic", "-autonat", "-connManager", "-q"),
    *("-relayBufferSize", str(64 << 10), "-relayTimeLimit", "2h"),
)
"""Settings of the daemon: it relays at once, tells peers whether they can be dialled, and closes connections
that serve nobody when there are many."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("relay", short_help="Run a public relay for nodes behind routers.")(relay)


def relay(
    listen: Annotated[str, typer.Option(help="host:port to listen on, TCP and QUIC.")] = (
        "0.0.0.0:4001"
    ),
    announce: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="Address to tell others, such as a host name."),
    ] = None,
) -> None:
    """Carry bytes between nodes that nobody can dial, and let them find a direct way; train nothing.

    Run it on a machine that everybody can dial. Others name it in node.toml: relays = ["ADDRESS"]. It sees who
    talks to whom and how much; the bytes are encrypted from end to end.
    """
    from swarm.host.addresses import format_address
    from swarm.host.identity import load_identity, lock_home
    from swarm.host.listen import announced, bindings, expand
    from swarm.primitives.crypto import peer_text

    screen = terminal()
    program = daemon()
    ((host, port),) = bindings([listen])
    if not port:
        raise UsageError("a relay has a port of its own", hint="swarm relay --listen 0.0.0.0:4001")
    told = [*announced(announce or ()), *expand(format_address(host, port))]
    screen.home.mkdir(parents=True, exist_ok=True)
    with lock_home(screen.home), tempfile.TemporaryDirectory(prefix="swarm-relay-") as folder:
        secret = load_identity(screen.home)
        bound = format_address(host, port)
        udp = bound.replace("/tcp/", "/udp/") + "/quic-v1"
        addresses = [f"{address}/p2p/{peer_text(secret.peer)}" for address in told]
        command = [str(program), *SETTINGS, "-id", _key_file(Path(folder), secret)]
        command += ["-listen", f"/unix{folder}/control.sock", "-hostAddrs", f"{bound},{udp}"]
        if announce:
            command += ["-announceAddrs", ",".join(told)]
        _run(screen, command, addresses, (host, port))


def daemon() -> Path:
    """Return the daemon; raises ``UsageError`` where it is not installed."""
    found = find_spec("hivemind")
    for folder in (found.submodule_search_locations or ()) if found else ():
        if os.access(path := Path(folder) / DAEMON, os.X_OK):
            return path
    raise UsageError(
        "the relay is libp2p's daemon in Go, which is not installed (Linux on x86_64 has it)",
        hint="pip install 'swarm-train[relay]'; or a node that relays: relay = \"on\" in node.toml",
    )


def _key_file(folder: Path, secret: "SecretKey") -> str:
    from swarm.files import write_whole

    path = folder / "key"
    write_whole(path, KEY_HEAD + secret.seed + secret.peer, is_secret=True)
    return str(path)


def _run(
    screen: Terminal, command: list[str], addresses: list[str], endpoint: tuple[str, int]
) -> None:
    """Run the daemon until it ends or this process is told to; raises ``UsageError`` if it does not start."""
    from swarm.cli.run_node import heeded

    for number in heeded():  # a script's background job ignores Ctrl-C by itself
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(  # noqa: S603  our own words
            command, stdout=output, stderr=output, start_new_session=True
        )
        try:
            if not _listens(child, endpoint):
                _stopped(child)
                output.seek(0)
                lines = output.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
                raise UsageError(
                    f"the relay did not start: {lines[-1] if lines else 'it said nothing'}",
                    hint="choose another port: swarm relay --listen 0.0.0.0:PORT",
                )
            lines = [f"relay     {address}" for address in addresses]
            lines += [f'others    relays = ["{addresses[0]}"] in their node.toml']
            screen.data({"addresses": addresses}, lines)
            code = child.wait()
        finally:
            if child.poll() is None:
                _stopped(child)
    if code:
        raise UsageError(f"the relay ended with exit code {code}", hint="swarm relay")


def _listens(child: "subprocess.Popen[bytes]", endpoint: tuple[str, int]) -> bool:
    """Return True once the daemon accepts connections; False if it ends before, or takes too long."""
    ends, (host, port) = time.monotonic() + START_S, endpoint
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared with
    while child.poll() is None and time.monotonic() < ends:
        try:
            with socket.create_connection((near, port), POLL_S):
                return True
        except OSError:
            time.sleep(POLL_S)
    return False


def _stopped(child: "subprocess.Popen[bytes]") -> None:
    """End the daemon, which leaves at once when asked."""
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
