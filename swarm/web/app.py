"""Answer HTTP requests from this machine: state, events, metrics, actions, the page.

Shell: carries snapshots out and actions in; decides nothing about the node.

Any page that a browser on this machine has open can send requests to 127.0.0.1, and a hostile name server can
point its own name there. So: only the names of this machine are accepted as Host, a foreign Origin is refused,
nothing is readable across origins, and a request that changes state needs the token that lies in the home
folder.
"""

import hmac
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarm.errors import SwarmError
from swarm.node.api.schema import StateDocument
from swarm.primitives.codec import encode_document
from swarm.web.metrics import CONTENT_TYPE, prometheus_text

Snapshot = Callable[[], StateDocument]
Lines = Callable[[], trio.MemoryReceiveChannel[str]]
Action = Callable[[Mapping[str, object]], Awaitable[Mapping[str, object]]]

TOKEN_HEADER = "x-swarm-token"  # noqa: S105  the name of a header
STREAMS_MAX = 16
"""Event streams at once: a person has a few tabs, and each stream holds a buffer of the node."""
BODY_BYTES_MAX = 64 << 10
"""Bytes of the body of an action, which holds a prompt or a path."""
KEEPALIVE_S = 10.0
"""Seconds after which a comment goes out on a quiet event stream, so that both ends notice a dead one."""
SNAPSHOT_AGE_MAX_S = 0.5
"""Seconds for which one snapshot serves all readers: many tabs cost the node no more than one."""
STATIC = Path(__file__).parent / "static"
_MEDIA = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
_SECURITY = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True, slots=True)
class PageSources:
    """Inputs of the page from the node: its snapshot, event lines, actions and token."""

    snapshot: Snapshot
    lines: Lines
    token: str
    actions: Mapping[str, Action] = field(default_factory=dict[str, Action])


def build_app(sources: PageSources) -> ASGIApp:
    """Return the whole local site, guarded."""
    controller = _Controller(sources)
    routes = [
        Route("/", controller.page),
        Route("/static/{name}", controller.static),
        Route("/api/v1/state", controller.state),
        Route("/api/v1/events", controller.events),
        Route("/api/v1/actions/{name}", controller.act, methods=["POST"]),
        Route("/metrics", controller.metrics),
    ]
    return Guard(Starlette(routes=routes))


def is_local(host: str) -> bool:
    """Return True if a Host header (or the authority of an Origin) names this machine."""
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        return host.lower() in _LOCAL_NAMES
    return name.lower() in _LOCAL_NAMES and port.isascii() and port.isdigit()


class Guard:
    """ASGI wrapper that refuses strangers and puts the security headers on every response."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_SECURITY]}
            await send(message)

        refusal = _refusal(scope)
        await (refusal or self._inner)(scope, receive, send_guarded)


def _refusal(scope: Scope) -> Response | None:
    if scope["type"] != "http":
        return _problem("this address speaks HTTP only", 400)
    pairs = cast("list[tuple[bytes, bytes]]", scope["headers"])
    hosts = [value.decode("latin-1") for name, value in pairs if name == b"host"]
    if len(hosts) != 1 or not is_local(hosts[0]):
        return _problem("this page answers only as 127.0.0.1 or localhost", 421)
    for name, value in pairs:
        origin = value.decode("latin-1")
        if name == b"origin" and not is_local(origin.partition("://")[2]):
            return _problem("requests from other sites are refused", 403)
    return None


def _problem(text: str, status: int, hint: str = "") -> Response:
    body = {"error": text, "hint": hint} if hint else {"error": text}
    return JSONResponse(body, status_code=status)


@dataclass(slots=True)
class _Streams:
    num_open: int = 0


class _EventStream(Response):
    """Response that goes on until the reader leaves or the node stops."""

    media_type = "text/event-stream"

    def __init__(self, lines: Lines, streams: _Streams) -> None:
        super().__init__()
        self._lines = lines
        self._streams = streams
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one stream."""
        del scope
        channel = self._lines()
        self._streams.num_open += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                await _pass_on(channel, send)
                nursery.cancel_scope.cancel()
        finally:
            self._streams.num_open -= 1
            channel.close()


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _pass_on(channel: trio.MemoryReceiveChannel[str], send: Send) -> None:
    """Send every line, and a comment when there was none for a while."""
    text = ": hello\n\n"
    while True:
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        text = ": quiet\n\n"
        try:
            with trio.move_on_after(KEEPALIVE_S):
                text = _sse(await channel.receive())
        except trio.EndOfChannel:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return


class _Controller:
    """Handlers of the routes."""

    def __init__(self, sources: PageSources) -> None:
        self._sources = sources
        self._files = {path.name: path.read_bytes() for path in sorted(STATIC.iterdir())}
        self._streams = _Streams()
        self._latest = StateDocument()
        self._latest_at = -math.inf

    def _snapshot(self) -> StateDocument:
        now = trio.current_time()
        if now - self._latest_at > SNAPSHOT_AGE_MAX_S:
            self._latest, self._latest_at = self._sources.snapshot(), now
        return self._latest

    async def page(self, _: Request) -> Response:
        """Return the page itself."""
        return Response(self._files["index.html"], media_type="text/html")

    async def static(self, request: Request) -> Response:
        """Return one file of the page; only names that lay in the folder at the start."""
        name = str(request.path_params["name"])
        if name not in self._files:
            return _problem("no such file", 404)
        media = _MEDIA.get(Path(name).suffix, "application/octet-stream")
        return Response(self._files[name], media_type=media)

    async def state(self, _: Request) -> Response:
        """Return the state document of the node as JSON."""
        return Response(encode_document(self._snapshot()), media_type="application/json")

    async def metrics(self, _: Request) -> Response:
        """Return the snapshot of the node as Prometheus text."""
        return Response(prometheus_text(self._snapshot()), headers={"content-type": CONTENT_TYPE})

    async def events(self, _: Request) -> Response:
        """Stream event lines as they happen (server-sent events)."""
        if self._streams.num_open >= STREAMS_MAX:
            return _problem(f"{STREAMS_MAX} event streams are open already", 503)
        return _EventStream(self._sources.lines, self._streams)

    async def act(self, request: Request) -> Response:
        """Carry out one named action of the node; needs the token of the home folder."""
        token = request.headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(token.encode(), self._sources.token.encode()):
            return _problem("this needs the token of the node's home folder", 401)
        action = self._sources.actions.get(str(request.path_params["name"]))
        if action is None:
            return _problem("no such action", 404)
        wanted = await _wanted(request)
        if isinstance(wanted, Response):
            return wanted
        try:
            done = await action(wanted)
        except SwarmError as error:
            return JSONResponse(
                {"error": str(error), "hint": error.hint, "exit_code": error.exit_code},
                status_code=409,
            )
        return Response(to_json(dict(done)), media_type="application/json")


async def _wanted(request: Request) -> dict[str, object] | Response:
    """Return the JSON object in the body of a request, or the response that refuses it."""
    body = bytearray()
    async with aclosing(request.stream()) as parts:
        async for part in parts:
            body += part
            if len(body) > BODY_BYTES_MAX:
                return _problem(f"a request has at most {BODY_BYTES_MAX} bytes", 413)
    try:
        wanted: object = json.loads(bytes(body) or b"{}")
    except (ValueError, RecursionError):
        return _problem("the body is not JSON", 400)
    if not isinstance(wanted, dict):
        return _problem("the body is not a JSON object", 400)
    return cast("dict[str, object]", wanted)


def _sse(line: str) -> str:
    return "".join(f"data: {part}\n" for part in line.splitlines() or [""]) + "\n"


def to_json(value: object) -> str:
    """Return JSON without NaN or infinity, which no browser parses: they become null."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, object]", value)
        return {key: _finite(item) for key, item in pairs.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in cast("list[object]", value)]
    return value
