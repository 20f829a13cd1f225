"""An engine is asked over HTTP; one that is not there, or broken, is unreachable."""

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from swarm.errors import Unreachable, UsageError
from swarm.ledger.settle.rpc import HttpEngine


@pytest.mark.parametrize("url", ["", "localhost:8545", "file:///etc/passwd", "ftp://x", "http://"])
def test_what_is_no_url_of_an_engine_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no URL"):
        HttpEngine(url)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        code = 500 if question["method"] == "broken" else 200
        body = json.dumps({"id": question["id"], "result": question["params"]}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_engine_is_asked_over_http(url: str) -> None:
    engine = HttpEngine(url)
    assert engine.ask("echo", 1, "two") == [1, "two"]
    with pytest.raises(Unreachable, match="HTTP 500"):
        engine.ask("broken")


def test_an_engine_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(Unreachable, match="no engine answers"):
        HttpEngine(f"http://127.0.0.1:{port}").ask("eth_chainId")
