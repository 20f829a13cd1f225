"""Run a public relay: libp2p's daemon in Go, which hivemind brings along.

Shell: writes a key, starts the daemon, says at which addresses it is, and ends with it.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import terminal
from swarm.errors import SwarmError, UsageError

if TYPE_CHECKING:
    from swarm.host.relay.messages import Bounds
    from swarm.primitives.crypto import SecretKey

DAEMON = Path("hivemind_cli", "p2pd")
START_S = 20.0
"""Seconds for the daemon to listen."""
POLL_S = 0.1
CIRCUIT_BYTES = 1 << 30
"""Bytes that a circuit carries each way, as one through a node of ours."""
KEY_HEAD = bytes.fromhex("08011240")
"""Head of libp2p's protobuf {type: Ed25519, 64 bytes: seed and public key}."""
SETTINGS = (
    *("-relayService=1", "-forceReachabilityPublic", "-autonat", "-connManager", "-q"),
    *("-relayBufferSize", str(64 << 10), "-relayTimeLimit", "2h"),
    *("-relayDataLimit", str(CIRCUIT_BYTES)),
)
"""Settings of the daemon: it relays at once, tells peers whether they can be dialled, and closes connections
that serve nobody when there are many."""
ONE_CORE = {"GOMAXPROCS": "1"}
"""The daemon makes two relays of itself at its start, and the one that is made last serves: ours, or one whose
circuits end after 128 KiB and two minutes. On one core ours is last (seen: 30 times of 30; on two cores one in
two), and one core carries more than most lines."""
STARTS_MAX = 8
PROBE_S = 10.0
TETHER = """import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Program that becomes another one, which Linux kills when the process that started it dies, however that dies
(PR_SET_PDEATHSIG, which outlives exec); the question comes after the wish, for who died in between."""


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
    from swarm.cli.run_node import heeded
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
        key = Path(folder) / "key"
        bound = format_address(host, port)
        udp = bound.replace("/tcp/", "/udp/") + "/quic-v1"
        addresses = [f"{address}/p2p/{peer_text(secret.peer)}" for address in told]
        command = [str(program), *SETTINGS, "-id", str(key)]
        command += ["-listen", f"/unix{folder}/control.sock", "-hostAddrs", f"{bound},{udp}"]
        if announce:
            command += ["-announceAddrs", ",".join(told)]
        for number in heeded():  # a script's background job ignores Ctrl-C by itself
            signal.signal(number, signal.default_int_handler)
        with _relaying(command, key, secret, (host, port)) as child:
            lines = [f"relay     {address}" for address in addresses]
            lines += [f'others    relays = ["{addresses[0]}"] in their node.toml']
            screen.data({"addresses": addresses}, lines)
            code = child.wait()
    if code:
        raise UsageError(f"the relay ended with exit code {code}", hint="swarm relay")


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


@contextmanager
def _relaying(
    command: Sequence[str], key: Path, secret: "SecretKey", endpoint: tuple[str, int]
) -> Generator["subprocess.Popen[bytes]"]:
    """Hold a daemon that relays within our limits, started as often as that takes.

    It reads our key at ``key``. Raises ``UsageError`` if it does not start.
    """
    import trio

    from swarm.files import write_whole

    why = ""
    for _ in range(STARTS_MAX):
        write_whole(key, KEY_HEAD + secret.seed + secret.peer, is_secret=True)
        with _listening(command, endpoint) as child:
            key.unlink()  # it is read: a copy that is not there is not left behind
            try:
                told = trio.run(_bounds, secret, endpoint)
            except SwarmError as error:
                why = str(error)
                continue
            if told.num_bytes >= CIRCUIT_BYTES:
                yield child
                return
            why = f"its circuits end after {told.num_bytes:,} bytes"
    raise UsageError(
        f"the relay did not start as it should, {STARTS_MAX} times: {why}", hint="swarm relay"
    )


@contextmanager
def _listening(
    command: Sequence[str], endpoint: tuple[str, int]
) -> Generator["subprocess.Popen[bytes]"]:
    """Hold a daemon that listens; it ends with this process. Raises ``UsageError`` if it does not start."""
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(  # noqa: S603  our own words
            tethered(command),
            stdout=output,
            stderr=output,
            env={**os.environ, **ONE_CORE},
            start_new_session=True,
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
            yield child
        finally:
            if child.poll() is None:
                _stopped(child)


def tethered(command: Sequence[str]) -> list[str]:
    """Return a command whose process the system kills when this one dies, SIGKILL included, where it can."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", TETHER, str(os.getpid()), *command]


async def _bounds(secret: "SecretKey", endpoint: tuple[str, int]) -> "Bounds":
    """Return the limits that the daemon tells to a stranger; raises ``SwarmError``."""
    import trio

    from swarm.errors import Unreachable
    from swarm.host.addresses import format_address
    from swarm.host.handshake import CHAIN_BYTES
    from swarm.host.service import open_host
    from swarm.primitives.crypto import SecretKey

    stranger = SecretKey.from_seed(secrets.token_bytes(len(secret.seed)))
    nowhere, address = secrets.token_bytes(CHAIN_BYTES), format_address(*_near(endpoint))
    with trio.move_on_after(PROBE_S):
        async with open_host(stranger, listen=["127.0.0.1:0"], chain16=nowhere) as host:
            return await host.relays.bounds(secret.peer, address)
    raise Unreachable("the relay gives no place")


def _near(endpoint: tuple[str, int]) -> tuple[str, int]:
    """Return where this machine reaches what listens at an endpoint."""
    host, port = endpoint
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104  compared with


def _listens(child: "subprocess.Popen[bytes]", endpoint: tuple[str, int]) -> bool:
    """Return True once the daemon accepts connections; False if it ends before, or takes too long."""
    ends = time.monotonic() + START_S
    while child.poll() is None and time.monotonic() < ends:
        try:
            with socket.create_connection(_near(endpoint), POLL_S):
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
