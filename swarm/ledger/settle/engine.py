"""Define what an engine is asked and how it answers: the methods of Ethereum's JSON-RPC.

Core: an interface, and pure checks of replies. Every reply is bounded before it is read.
"""

import json
from abc import ABC, abstractmethod
from typing import Any

from swarm.errors import BadEncoding, SwarmError, Unreachable

REPLY_BYTES_MAX = 4 << 20
BRACKETS_MAX = 2_000
"""Most brackets of a reply, so that none is nested deeper than a parser can bear."""


class EngineRefused(SwarmError):
    """Request that an engine refused; ``data`` is what the contract returned with the refusal."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(f"the engine refuses it: {message}")
        self.data = data


class Engine(ABC):
    """Anything that answers the JSON-RPC methods of Ethereum."""

    @abstractmethod
    def ask(self, method: str, *params: object) -> Any:  # noqa: ANN401  JSON of any shape
        """Return the result of a method; raise ``EngineRefused`` or ``Unreachable``."""


def parse_reply(data: bytes, where: str) -> Any:  # noqa: ANN401  JSON of any shape
    """Return the result in a reply; raise ``EngineRefused``, or ``Unreachable`` if it is no reply."""
    if len(data) > REPLY_BYTES_MAX:
        raise Unreachable(f"{where} answers with more than {REPLY_BYTES_MAX >> 20} MiB")
    if data.count(b"[") + data.count(b"{") > BRACKETS_MAX:
        raise Unreachable(f"{where} answers with more than was asked for")
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        raise Unreachable(f"{where} does not answer as an engine does") from None
    if not isinstance(reply, dict):
        raise Unreachable(f"{where} does not answer as an engine does")
    error = reply.get("error")
    if isinstance(error, dict):
        raise EngineRefused(str(error.get("message", "no reason"))[:200], _data_of(error))
    if "result" not in reply:
        raise Unreachable(f"{where} does not answer as an engine does")
    return reply["result"]


def _data_of(error: dict[str, object]) -> bytes:
    """Return the data of a refusal, which engines put in several places; empty if there is none."""
    found = error.get("data")
    if isinstance(found, dict):
        found = found.get("data") or found.get("result")
    try:
        return hex_bytes(found)
    except BadEncoding:
        return b""


def hex_bytes(value: object) -> bytes:
    """Return the bytes of a hexadecimal text ``0x...``; raise ``BadEncoding`` if it is none."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise BadEncoding("an engine's answer that is not hexadecimal")


def hex_number(value: object) -> int:
    """Return the number of a hexadecimal text ``0x...``; raise ``BadEncoding`` if it is none."""
    if isinstance(value, str) and value.startswith("0x") and 2 < len(value) <= 66:
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise BadEncoding("an engine's answer that is not a number")
