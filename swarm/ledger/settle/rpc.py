"""Ask an engine by JSON-RPC over HTTP.

Shell: one request at a time, bounded in time and bytes. What an engine says is believed no further than
``contract.py`` says: it is the user's own choice of URL.
"""

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from swarm.errors import Unreachable, UsageError
from swarm.ledger.settle.engine import REPLY_BYTES_MAX, Engine, parse_reply

TIMEOUT_S = 30.0


class HttpEngine(Engine):
    """Engine behind a URL."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(f"{url!r} is no URL of an engine", hint="--rpc http://127.0.0.1:8545")
        self._url, self._where = url, parts.hostname
        self._number = 0

    def ask(self, method: str, *params: object) -> Any:  # noqa: ANN401  JSON of any shape
        """Return the result of a method; raise ``EngineRefused`` or ``Unreachable``."""
        self._number += 1
        question = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        headers = {"Content-Type": "application/json", "User-Agent": "swarm"}
        request = Request(self._url, json.dumps(question).encode(), headers)  # noqa: S310  http(s) only
        try:
            with urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310
                data = reply.read(REPLY_BYTES_MAX + 1)
        except HTTPError as error:
            raise Unreachable(f"{self._where} answers with HTTP {error.code}") from None
        except (URLError, OSError) as error:
            why = getattr(error, "reason", error)
            raise Unreachable(
                f"no engine answers at {self._where}: {why}", hint="--rpc URL"
            ) from None
        return parse_reply(data, self._where)
