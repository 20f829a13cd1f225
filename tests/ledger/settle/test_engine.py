"""An engine's answers are bounded, and what is no answer is named."""

import json

import pytest

from swarm.errors import BadEncoding, Unreachable
from swarm.ledger.settle.engine import (
    REPLY_BYTES_MAX,
    EngineRefused,
    hex_bytes,
    hex_number,
    parse_reply,
)


def test_a_result_is_the_result() -> None:
    assert parse_reply(b'{"jsonrpc":"2.0","id":1,"result":"0x1"}', "here") == "0x1"
    assert parse_reply(b'{"result":null}', "here") is None


@pytest.mark.parametrize("data", ["0xdfc19f8e", {"data": "0xdfc19f8e"}, {"result": "0xdfc19f8e"}])
def test_a_refusal_carries_what_the_contract_returned(data: object) -> None:
    reply = {"error": {"code": 3, "message": "execution reverted", "data": data}}
    with pytest.raises(EngineRefused, match="execution reverted") as caught:
        parse_reply(json.dumps(reply).encode(), "here")
    assert caught.value.data == bytes.fromhex("dfc19f8e")


def test_a_refusal_without_data_or_with_junk_has_none() -> None:
    junk: list[object] = [None, 7, "junk", {"data": []}, "0xzz"]
    for data in junk:
        with pytest.raises(EngineRefused) as caught:
            parse_reply(json.dumps({"error": {"data": data}}).encode(), "here")
        assert caught.value.data == b""


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"[]", b"{}", b"[" * 100_000, b'"' + b"x" * REPLY_BYTES_MAX + b'"']
)
def test_what_is_no_answer_is_not_believed(data: bytes) -> None:
    with pytest.raises(Unreachable):
        parse_reply(data, "here")


@pytest.mark.parametrize("value", [None, 7, "", "0x", "12", "0xzz", "0x" + "1" * 65])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(BadEncoding):
        hex_number(value)
    if value != "0x" and value != "0x" + "1" * 65:
        with pytest.raises(BadEncoding):
            hex_bytes(value)
