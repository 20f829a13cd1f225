"""Talk to the node that runs on this machine, by the address and token in its home folder.

Shell: one HTTP request over loopback at a time.
"""

import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from swarm.cli.state_reader import read_state
from swarm.errors import (
    BadConfig,
    BadIdentity,
    SwarmError,
    Unreachable,
    UsageError,
    VerificationFailed,
)
from swarm.machine import free_bytes, is_read_only
from swarm.node.api.schema import StateDocument

READ_TIMEOUT_S = 5.0
"""Seconds for a read: a busy node answers within one; five mean it hangs."""
ACTION_TIMEOUT_S = 120.0
"""Seconds for an action, which may fetch a checkpoint from other peers first."""
REPLY_BYTES_MAX = 32 << 20
NODE_ROOM_BYTES = 64 << 20
"""Free bytes with which a node goes on that had none: some rounds of what it must write."""
_KINDS: dict[int, type[SwarmError]] = {
    2: UsageError,
    3: Unreachable,
    4: BadConfig,
    5: BadIdentity,
    6: VerificationFailed,
}


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Address of a running node's local API."""

    host: str
    port: int
    token: str
    pid: int

    @property
    def url(self) -> str:
        """URL of the page with the map."""
        return f"http://{self.host}:{self.port}/"


def find_node(home: Path) -> NodeAddress | None:
    """Return the address of the node in ``home``; None if it left no address or its process is gone."""
    try:
        raw: object = json.loads((home / "api.json").read_text(encoding="utf-8"))
        fields = cast("dict[str, object]", raw) if isinstance(raw, dict) else {}
        url = urlsplit(str(fields["url"]))
        pid = int(str(fields["pid"]))
        address = NodeAddress(str(url.hostname), int(url.port or 0), str(fields["token"]), pid)
    except (OSError, ValueError, KeyError):
        return None
    return address if address.port and _is_alive(pid) else None


def node_of(home: Path) -> NodeAddress:
    """Return the address of the node in ``home``; raises ``Unreachable`` with the command that starts one."""
    address = find_node(home)
    if address is None:
        is_known = (home / "genesis.bin").exists()
        new = "swarm join TICKET, or swarm launch, or --home DIR"
        if home.is_dir() and not is_read_only(home) and free_bytes(home) < NODE_ROOM_BYTES:
            raise Unreachable(
                f"no node is running in {home}, whose disk is full: one that was started there waits for room",
                hint=f"df -h {home}",
            )
        raise Unreachable(
            f"no node is running in {home}",
            hint="swarm join, without a ticket, goes on where it stopped" if is_known else new,
        )
    return address


def fetch_state(address: NodeAddress, timeout_s: float = READ_TIMEOUT_S) -> StateDocument:
    """Return the document of the node; raises ``Unreachable`` if it does not answer, or in another form."""
    return read_state(_request(address, "GET", "/api/v1/state", None, timeout_s))


def act(
    address: NodeAddress,
    action: str,
    body: Mapping[str, object],
    timeout_s: float = ACTION_TIMEOUT_S,
) -> dict[str, object]:
    """Have the node perform an action; its refusal is raised here as the same error."""
    return _request(address, "POST", f"/api/v1/actions/{action}", dict(body), timeout_s)


def _request(
    address: NodeAddress, method: str, path: str, body: object, timeout_s: float
) -> dict[str, object]:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
    headers = {"X-Swarm-Token": address.token, "Content-Type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        raw = reply.read(REPLY_BYTES_MAX)
    except ConnectionRefusedError:
        raise Unreachable(
            f"the node of pid {address.pid} has just ended, or its page has",
            hint="swarm join, without a ticket, goes on where it stopped",
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(
            f"the node at {address.url} does not answer: {error or type(error).__name__}",
            hint=f"wait, or stop it with: kill {address.pid}",
        ) from None
    finally:
        connection.close()
    try:
        found: object = json.loads(raw)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unreachable(f"{address.url} is not a swarm node", hint="swarm status")
    fields = cast("dict[str, object]", found)
    if reply.status != http.client.OK:
        kind = _KINDS.get(int(str(fields.get("exit_code", 1))), SwarmError)
        raise kind(str(fields.get("error", reply.reason)), hint=str(fields.get("hint", "")))
    return fields


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
