"""Serve the local page in the node's nursery: the entry point of the web package.

Shell: owns the port and the server; decides nothing.
"""

import socket
from collections.abc import Mapping
from typing import Any, Protocol, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework
from starlette.types import ASGIApp

from swarm.errors import UsageError
from swarm.web.app import Action, Lines, PageSources, Snapshot, build_app

PORT = 7420
"""Port that people bookmark; a second node on the machine falls back to any free one."""
_BACKLOG = 64
_GRACE_S = 0.5
"""Seconds that open requests may take to end when the node stops: it must be gone in two seconds."""


class Started(Protocol):
    """Task status that ``nursery.start`` passes in; it gets the URL once the page answers."""

    def started(self, value: str, /) -> None:
        """Report that the page answers at ``value``."""


async def serve_web(
    snapshot: Snapshot,
    lines: Lines,
    *,
    port: int,
    token: str,
    actions: Mapping[str, Action] | None = None,
    task_status: Started = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the page until cancelled; ``task_status.started`` is given the URL actually bound.

    Args:
        snapshot: Function that returns the object of /api/v1/state.
        lines: Function that opens one stream of event lines, closed here when the reader leaves.
        port: Port on 127.0.0.1; 0 takes any free one, ``PORT`` falls back to any when busy.
        token: Token that actions need.
        actions: Actions by the name under which POST /api/v1/actions/NAME calls them.
        task_status: Set by ``nursery.start``.

    Raises:
        UsageError: The port cannot be used.
    """
    listener = bind_loopback(port)
    try:
        app = build_app(PageSources(snapshot, lines, token, actions or {}))
        config = Config()
        config.bind = [f"fd://{listener.fileno()}"]
        config.accesslog = config.errorlog = None
        config.include_server_header = False
        config.graceful_timeout = _GRACE_S
        config.backlog = _BACKLOG
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        listener.detach()  # the server owns the descriptor from here on, and closes it
    except BaseException:
        listener.close()
        raise
    async with trio.open_nursery() as nursery:
        await nursery.start(_serve, app, config)
        task_status.started(url)


async def _serve(app: ASGIApp, config: Config, task_status: Any) -> None:  # noqa: ANN401
    await serve(cast("ASGIFramework", app), config, mode="asgi", task_status=task_status)


def bind_loopback(port: int) -> socket.socket:
    """Return a listening TCP socket on 127.0.0.1; raise ``UsageError`` when a chosen port is taken."""
    for wanted in (port, 0) if port == PORT else (port,):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listener.bind(("127.0.0.1", wanted))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            if wanted == PORT:
                continue
            raise UsageError(
                f"port {wanted} of 127.0.0.1 cannot be used for the page: {error.strerror}",
                hint="swarm join --api-port 0",
            ) from None
        return listener
    raise AssertionError("the last candidate either returned or raised")
