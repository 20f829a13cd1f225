"""Requests and replies of spot checks are bounded before anything is done with them."""

import pytest

from swarm.errors import BadEncoding
from swarm.primitives.codec import encode, replace
from swarm.training.record.window import WindowKey
from swarm.types import NO_DIGEST, Digest, PeerId, RoundIndex, RunIndex, StageIndex
from swarm.verify.spots.exchange import (
    SHOWN_BYTES_MAX,
    SpotFound,
    SpotMissing,
    SpotWorking,
    decode_reply,
    decode_request,
    request_of,
)
from swarm.verify.spots.statement import OPENED_BYTES_MAX, SpotStatement

KEY = WindowKey(RunIndex(1), RoundIndex(2), StageIndex(0), 3, 4)
SEED = bytes(32)
STATEMENT = SpotStatement(
    run=KEY.run,
    round=KEY.round,
    stage=KEY.stage,
    seat=KEY.seat,
    to=PeerId(bytes([9]) * 32),
    window=KEY.window,
    claim=NO_DIGEST,
    opened=NO_DIGEST,
    traces=NO_DIGEST,
    num_traces=1,
    signature=bytes(64),
)


@pytest.mark.parametrize("seed", [b"", SEED])
def test_a_request_comes_back_as_it_was(seed: bytes) -> None:
    asked = request_of(KEY, seed)
    assert decode_request(encode(asked)) == asked
    assert asked.key == KEY


@pytest.mark.parametrize(
    "change", [{"seed": b"short"}, {"window": 256}, {"window": -1}, {"run": 0}, {"stage": 999}]
)
def test_a_request_out_of_its_bounds_is_refused(change: dict[str, object]) -> None:
    raw = encode(replace(request_of(KEY, b""), **change))
    with pytest.raises(BadEncoding):
        decode_request(raw)


def test_a_reply_says_what_is_there_and_how_long_it_is() -> None:
    for seed, most in ((b"", OPENED_BYTES_MAX), (SEED, SHOWN_BYTES_MAX)):
        asked = request_of(KEY, seed)
        found = SpotFound(STATEMENT, NO_DIGEST, most)
        assert decode_reply(encode(found), asked) == found
        with pytest.raises(BadEncoding):
            decode_reply(encode(replace(found, num_bytes=most + 1)), asked)
    for reply in (SpotWorking(), SpotMissing()):
        assert decode_reply(encode(reply), request_of(KEY, b"")) == reply


def test_a_reply_about_something_else_is_refused() -> None:
    asked = request_of(KEY, b"")
    other = SpotFound(replace(STATEMENT, window=5), NO_DIGEST, 1)
    for reply in (other, SpotFound(STATEMENT, Digest(b"short"), 1)):
        with pytest.raises(BadEncoding):
            decode_reply(encode(reply), asked)
    with pytest.raises(BadEncoding):
        decode_reply(bytes(10), asked)
