"""The local page answers requests of this machine, and none that another site sends through its browser."""

import http.client
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from swarm.errors import UsageError
from swarm.node.api.schema import StateDocument
from swarm.primitives.codec import fields_of, read_document
from swarm.web.app import BODY_BYTES_MAX, STATIC, STREAMS_MAX, is_local, to_json
from swarm.web.service import PORT, bind_loopback, serve_web
from tests.web.snapshots import a_snapshot

TOKEN = "sesame"
HOSTILE = "<img src=x onerror=alert(1)>\u202e"


@dataclass
class Site:
    """A served node that answers with a fixed document."""

    port: int = 0
    url: str = ""
    document: dict[str, object] = field(default_factory=a_snapshot)
    senders: list[trio.MemorySendChannel[str]] = field(default_factory=list)
    num_documents: int = 0

    def snapshot(self) -> StateDocument:
        self.num_documents += 1
        return read_document(StateDocument, self.document)

    def lines(self) -> trio.MemoryReceiveChannel[str]:
        send, receive = trio.open_memory_channel[str](8)
        self.senders.append(send)
        return receive

    def ask_now(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.putrequest(method, path, skip_host=headers is not None and "Host" in headers)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        reply = connection.getresponse()
        answer = reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
        connection.close()
        return answer

    async def ask(
        self,
        path: str,
        **more: Any,  # noqa: ANN401
    ) -> tuple[int, dict[str, str], bytes]:
        return await trio.to_thread.run_sync(partial(self.ask_now, path, **more))


async def echo(body: Mapping[str, object]) -> Mapping[str, object]:
    return {"heard": body}


async def refuse(body: Mapping[str, object]) -> Mapping[str, object]:
    raise UsageError("no run yet", hint="swarm launch")


@asynccontextmanager
async def a_site() -> AsyncIterator[Site]:
    site = Site()
    async with trio.open_nursery() as nursery:
        site.url = await nursery.start(
            partial(
                serve_web,
                site.snapshot,
                site.lines,
                port=0,
                token=TOKEN,
                actions={"echo": echo, "refuse": refuse},
            )
        )
        site.port = urlsplit(site.url).port or 0
        with trio.fail_after(20):
            yield site
        nursery.cancel_scope.cancel()


async def test_the_document_the_page_and_the_metrics_are_served() -> None:
    """State is the snapshot, the page is HTML, the metrics are text."""
    async with a_site() as site:
        status, _, body = await site.ask("/api/v1/state")
        assert (status, json.loads(body)) == (200, fields_of(site.snapshot()))
        status, headers, page = await site.ask("/")
        assert status == 200
        assert headers["content-type"].startswith("text/html")
        assert b'src="/static/app.js"' in page
        status, headers, text = await site.ask("/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        assert b"swarm_ledger_height 212" in text


async def test_every_file_of_the_page_is_served_with_its_type() -> None:
    """Modules load only with a script type, and nothing outside the folder is reachable."""
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    async with a_site() as site:
        for path in sorted(STATIC.iterdir()):
            status, headers, body = await site.ask(f"/static/{path.name}")
            assert (status, body) == (200, path.read_bytes())
            assert headers["content-type"].startswith(kinds.get(path.suffix, "text/html"))
        for bad in ("/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/none.js"):
            assert (await site.ask(bad))[0] == 404


@pytest.mark.rule("S22", "W1")
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7420", "127.0.0.1.evil.example", "127.0.0.1:x", ""]
)
async def test_a_foreign_host_is_refused(host: str) -> None:
    """A name that a hostile name server points at this machine gets nothing."""
    async with a_site() as site:
        status, headers, body = await site.ask("/api/v1/state", headers={"Host": host})
        assert status in {400, 421}
        assert b"12D3KooW" not in body
        assert status == 400 or "content-security-policy" in headers


@pytest.mark.rule("S22", "W1")
async def test_a_request_from_another_site_is_refused() -> None:
    """A page of another origin cannot act here, even with this machine's name."""
    async with a_site() as site:
        headers = {"Origin": "https://evil.example", "X-Swarm-Token": TOKEN}
        status, _, _ = await site.ask("/api/v1/actions/echo", method="POST", headers=headers)
        assert status == 403


@pytest.mark.rule("S22", "W2")
async def test_every_answer_carries_the_security_headers() -> None:
    """Also refusals and missing pages."""
    async with a_site() as site:
        for path in ("/", "/api/v1/state", "/nothing", "/static/app.js"):
            _, headers, _ = await site.ask(path)
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert "access-control-allow-origin" not in headers


@pytest.mark.rule("S22", "W3")
async def test_what_changes_state_needs_the_token() -> None:
    """No token, a wrong token, an unknown action, a good one, and one the node refuses."""
    async with a_site() as site:
        act = partial(site.ask, method="POST", body=b'{"a": 1}')
        assert (await act("/api/v1/actions/echo"))[0] == 401
        assert (await act("/api/v1/actions/echo", headers={"X-Swarm-Token": "x"}))[0] == 401
        good = {"X-Swarm-Token": TOKEN}
        assert (await act("/api/v1/actions/none", headers=good))[0] == 404
        status, _, body = await act("/api/v1/actions/echo", headers=good)
        assert (status, json.loads(body)) == (200, {"heard": {"a": 1}})
        status, _, body = await act("/api/v1/actions/refuse", headers=good)
        assert status == 409
        assert json.loads(body) == {"error": "no run yet", "hint": "swarm launch", "exit_code": 2}
        assert (await site.ask("/api/v1/actions/echo", headers=good))[0] == 405


@pytest.mark.rule("W5")
@pytest.mark.parametrize("body", [b"{", b"[1]", b"[" * 30_000, b" " * (BODY_BYTES_MAX + 1)])
async def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """Broken, nested or oversized bodies are the sender's problem."""
    async with a_site() as site:
        headers = {"X-Swarm-Token": TOKEN}
        answer = await site.ask("/api/v1/actions/echo", method="POST", headers=headers, body=body)
        assert answer[0] in {400, 413}


async def test_events_are_streamed_as_they_happen() -> None:
    """A line sent by the node reaches an open stream, and a closed stream frees its channel."""
    async with a_site() as site:
        stream = await trio.open_tcp_stream("127.0.0.1", site.port)
        await stream.send_all(b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        seen = b""
        while b": hello" not in seen:
            seen += await stream.receive_some()
        await site.senders[0].send('{"kind":"step"}')
        while b'data: {"kind":"step"}\n\n' not in seen:
            seen += await stream.receive_some()
        assert b"text/event-stream" in seen
        await stream.aclose()
        with trio.move_on_after(2):
            while site.senders[0].statistics().open_receive_channels:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert site.senders[0].statistics().open_receive_channels == 0


@pytest.mark.rule("W5")
async def test_event_streams_are_counted() -> None:
    """More streams than people have tabs are refused, politely."""
    async with a_site() as site:
        streams = []
        for _ in range(STREAMS_MAX):
            stream = await trio.open_tcp_stream("127.0.0.1", site.port)
            await stream.send_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            seen = b""
            while b": hello" not in seen:
                seen += await stream.receive_some()
            streams.append(stream)
        assert (await site.ask("/api/v1/events"))[0] == 503
        for stream in streams:
            await stream.aclose()


@pytest.mark.rule("W5")
async def test_many_readers_cost_one_document() -> None:
    """Within half a second every reader gets the same snapshot."""
    async with a_site() as site:
        for _ in range(5):
            await site.ask("/api/v1/state")
        assert site.num_documents <= 2


@pytest.mark.rule("S22", "W4")
async def test_a_hostile_name_arrives_as_text_in_json() -> None:
    """The server never builds markup from it: it travels as a JSON string only."""
    async with a_site() as site:
        site.document["peers"][0]["name"] = HOSTILE  # type: ignore[index]
        _, headers, body = await site.ask("/api/v1/state")
        assert headers["content-type"] == "application/json"
        assert json.loads(body)["peers"][0]["name"] == HOSTILE
        assert HOSTILE.encode() not in (await site.ask("/"))[2]


@pytest.mark.rule("W6")
async def test_leaving_the_nursery_closes_the_port() -> None:
    """Nothing listens once the node has stopped, even with a stream open."""
    async with a_site() as site:
        stream = await trio.open_tcp_stream("127.0.0.1", site.port)
        await stream.send_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await stream.receive_some()
        port = site.port
    with pytest.raises(OSError, match="refused"):
        await trio.to_thread.run_sync(socket.create_connection, ("127.0.0.1", port), 2)
    await stream.aclose()


def test_a_chosen_port_that_is_taken_is_named() -> None:
    """An explicit port fails with its number; the default falls back to a free one."""
    with bind_loopback(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}"):
            bind_loopback(port)
    with bind_loopback(PORT) as first, bind_loopback(PORT) as second:
        assert first.getsockname()[1] != second.getsockname()[1]


@pytest.mark.rule("S22", "W4")
def test_the_page_builds_no_markup_and_asks_no_other_host() -> None:
    """No innerHTML, no inline script or style, no address of another machine in any file."""
    for path in sorted(STATIC.iterdir()):
        text = path.read_text(encoding="utf-8")
        for banned in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert banned not in text, f"{banned} in {path.name}"
        elsewhere = text.replace("http://www.w3.org/", "")  # the names of SVG, never fetched
        assert "http://" not in elsewhere
        assert "https://" not in elsewhere
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert "<style" not in page
    assert " style=" not in page
    assert page.count("<script") == page.count('<script type="module" src=')


@pytest.mark.rule("W1")
def test_only_names_of_this_machine_are_local() -> None:
    """With or without a port, in any case."""
    assert all(map(is_local, ["127.0.0.1", "localhost:7420", "LOCALHOST", "[::1]:80", "[::1]"]))
    assert not any(map(is_local, ["", "127.0.0.2", "a:1", "localhost:", "localhost:1:2", "[::2]"]))


def test_json_has_no_words_that_browsers_do_not_know() -> None:
    """NaN and infinity become null, at any depth."""
    assert (
        to_json({"a": [float("nan"), {"b": float("inf")}], "c": 1.5})
        == '{"a":[null,{"b":null}],"c":1.5}'
    )
