"""Close connections quickly and completely, and raise errors without the wrapping of nurseries.

Shell: farewells under a shield, and errors without the wrapping.
"""

import contextlib
import math
from collections.abc import Generator
from typing import Any

import trio

from swarm.types import PeerId

Untyped = Any
"""libp2p object whose declared type lacks the attributes that matter here."""


def socket_under(secured: Untyped) -> Untyped:
    """Return the ``trio.SocketStream`` under a secured connection."""
    return secured.swarm_raw.stream.stream


def own_host(stream: Untyped) -> str:
    """Return the address at which a ``trio.SocketStream`` reaches this machine; "" if it has none."""
    try:
        name = stream.socket.getsockname()
    except (AttributeError, OSError):
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""


def host_under(secured: Untyped) -> str:
    """Return the address of this machine that a secured connection is from; "" if it is not from one."""
    try:
        return own_host(socket_under(secured))
    except AttributeError:
        return ""


def relay_under(raw: Untyped) -> PeerId | None:
    """Return the relay that a raw connection goes through; None for a direct one."""
    return getattr(getattr(raw, "stream", None), "relay", None)


def open_scope() -> trio.CancelScope:
    """Return a scope without a deadline, to be cancelled by its holder."""
    return trio.move_on_at(math.inf)


def shielded(timeout_s: float) -> trio.CancelScope:
    """Return a scope for clean-up: it ends after ``timeout_s``, even if the task around it is cancelled."""
    scope = trio.move_on_after(timeout_s)
    scope.shield = True
    return scope


async def cut(conn: Untyped, timeout_s: float = 2) -> None:
    """End a connection at once, whatever its peer does.

    Unguarded: closing waits for a frozen peer to read a farewell, and a close that was cancelled half way
    leaves a dead connection in the table for ever.
    """
    with shielded(timeout_s):
        await trio.aclose_forcefully(socket_under(conn.muxed_conn.secured_conn))
        await conn.muxed_conn.event_closed.wait()
        await conn.close()
    conn.event_closed.set()
    conn.muxed_conn.event_closed.set()
    conn.swarm.remove_conn(conn)


async def say_goodbye(conn: Untyped, timeout_s: float = 0.5) -> None:
    """Close a connection politely, and cut it if that takes longer than ``timeout_s``.

    At the end of a node its reader may be cancelled already, and then nothing else marks it as closed.
    """
    with shielded(timeout_s):
        await conn.close()
    await cut(conn, timeout_s)


@contextlib.contextmanager
def plain_errors() -> Generator[list[BaseException]]:
    """Raise the error put into the list as it is, not wrapped by every nursery on its way."""
    noted: list[BaseException] = []
    try:
        yield noted
    except BaseExceptionGroup as group:
        if noted and not isinstance(noted[0], trio.Cancelled) and _is_only(group, noted[0]):
            raise noted[0] from None
        raise


def _is_only(group: BaseException, error: BaseException) -> bool:
    """Return True if ``group`` holds ``error`` and nothing else, however deep."""
    while (
        group is not error and isinstance(group, BaseExceptionGroup) and len(group.exceptions) == 1
    ):
        group = group.exceptions[0]
    return group is error
