"""Statements of checking have one form within bounds, and a full reveal fits into its own."""

import pytest

from swarm.errors import BadEncoding
from swarm.ledger.transactions import (
    ATTEMPTS,
    LEAVES_MAX,
    REVEAL_BYTES_MAX,
    Body,
    DataRequest,
    Opening,
    Report,
    RevealSegment,
    TokensOpening,
    VerifyCommit,
    VerifyReveal,
    check_statement_shape,
    parse_transaction,
)
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import InMemoryLedger
from swarm.types import RoundIndex, RunIndex, StageIndex

HASH = digest("x", b"")
SEGMENT_ID = (RunIndex(1), RoundIndex(2), StageIndex(0), 3)
OPENING = Opening(0, 0, ((0, 0, 1), (1, 0, 0)), HASH, HASH)
REQUEST = DataRequest(*SEGMENT_ID, 0, 1, bytes(80))
COMMIT = VerifyCommit(*SEGMENT_ID, HASH)
TOKENS = TokensOpening((5_000, 0), (HASH,) * 4)
REVEAL = RevealSegment(*SEGMENT_ID, bytes(32), (HASH,), (OPENING,), (TOKENS, TOKENS))
SHOWN = VerifyReveal(*SEGMENT_ID, bytes(32), (HASH,), HASH)
REPORT = Report(*SEGMENT_ID, 0, HASH)


@pytest.mark.parametrize(
    "body", [REQUEST, COMMIT, REVEAL, SHOWN, REPORT], ids=lambda b: type(b).__name__
)
def test_what_is_said_is_what_is_read(body: Body) -> None:
    ledger = InMemoryLedger()
    data = ledger.sign(ledger.keys[1], body)
    assert parse_transaction(data).body == body
    assert encode(parse_transaction(data)) == data


@pytest.mark.parametrize(
    "body",
    [
        replace(REQUEST, run=0),
        replace(REQUEST, attempt=ATTEMPTS),
        replace(REQUEST, attempt=-1),
        replace(REQUEST, window=LEAVES_MAX),
        replace(REQUEST, proof=bytes(79)),
        replace(COMMIT, commitment=b"short"),
        replace(COMMIT, seat=1 << 16),
        replace(REVEAL, salt=bytes(31)),
        replace(REVEAL, leaves=()),
        replace(REVEAL, leaves=(HASH,) * (LEAVES_MAX + 1)),
        replace(REVEAL, leaves=(b"short",)),
        replace(REVEAL, openings=(OPENING,) * (LEAVES_MAX + 1)),
        replace(REVEAL, openings=(replace(OPENING, leaf=LEAVES_MAX),)),
        replace(REVEAL, openings=(replace(OPENING, step=-1),)),
        replace(REVEAL, openings=(replace(OPENING, dropped=((1, 0, 0), (0, 0, 1))),)),
        replace(REVEAL, openings=(replace(OPENING, dropped=((0, 0, -1),)),)),
        replace(REVEAL, openings=(replace(OPENING, dropped=((0, 0, 1),) * 1025),)),
        replace(REVEAL, openings=(replace(OPENING, state_root=b""),)),
        replace(REVEAL, tokens=(TOKENS, replace(TOKENS, counts=(1,)))),
        replace(REVEAL, tokens=(replace(TOKENS, counts=(1,) * 66), TOKENS)),
        replace(REVEAL, tokens=(replace(TOKENS, counts=(-1, 0)), TOKENS)),
        replace(REVEAL, tokens=(TOKENS, replace(TOKENS, counts=(0, 1 << 53)))),
        replace(REVEAL, tokens=(replace(TOKENS, proof=(HASH,) * 3), TOKENS)),
        replace(REVEAL, tokens=(TOKENS, replace(TOKENS, proof=(HASH, HASH, HASH, b"")))),
        replace(SHOWN, salt=b""),
        replace(SHOWN, leaves=()),
        replace(SHOWN, end_root=b""),
        replace(REPORT, window=-1),
        replace(REPORT, commitment=b"short"),
    ],
)
def test_a_field_out_of_bounds_is_refused(body: RevealSegment) -> None:
    with pytest.raises(BadEncoding):
        check_statement_shape(body)


def test_only_a_reveal_may_be_long_and_that_has_a_limit_too() -> None:
    ledger = InMemoryLedger()
    full = replace(REVEAL, leaves=(HASH,) * LEAVES_MAX, openings=(OPENING,) * 40)
    data = ledger.sign(ledger.keys[1], full)
    assert 1024 < len(data) <= REVEAL_BYTES_MAX
    parse_transaction(data)
    longer = ledger.sign(ledger.keys[1], replace(full, openings=(OPENING,) * 120))
    with pytest.raises(BadEncoding, match="statement of"):
        parse_transaction(longer)
