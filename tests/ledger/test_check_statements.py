"""Statements of checking have one form within bounds, and a full reveal fits into its own."""

import pytest

from swarm.errors import BadEncoding
from swarm.ledger.check_statements import (
    LEAVES_MAX,
    MOVE_BYTES_MAX,
    PANEL,
    REVEAL_BYTES_MAX,
    TOKENS_MAX,
    ContestService,
    DataRequest,
    Report,
    RevealSegment,
    TraceFraud,
    VerifyCommit,
    VerifyReveal,
    WitnessService,
    check_statement_shape,
)
from swarm.ledger.demands import DemandEntry, ShowEntry
from swarm.ledger.edges import EdgeFraud
from swarm.ledger.transactions import FREE_STATEMENT_BYTES_MAX, Body, check_shape, parse_transaction
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import SALT_BYTES
from swarm.primitives.crypto import digest
from swarm.primitives.edges import open_at
from swarm.testing.ledger import InMemoryLedger
from swarm.types import RoundIndex, RunIndex, StageIndex
from tests.ledger.edges import ACTIVATION, GRADIENT, OFFER, SENT

HASH = digest("x", b"")
SEGMENT_ID = (RunIndex(1), RoundIndex(2), StageIndex(0), 3)
REQUEST = DataRequest(*SEGMENT_ID, 0, bytes(80))
COMMIT = VerifyCommit(*SEGMENT_ID, 0, 2, HASH)
SALT = bytes(SALT_BYTES)
REVEAL = RevealSegment(*SEGMENT_ID, SALT, (HASH, HASH), (HASH,), (4_000, 1_000))
SHOWN = VerifyReveal(*SEGMENT_ID, 0, SALT, HASH)
REPORT = Report(*SEGMENT_ID, 0, HASH)
CONTEST = ContestService(*SEGMENT_ID, 0, 2)
WITNESS = WitnessService(*SEGMENT_ID, 0, True, bytes(80))
SIGNED = replace(ACTIVATION, signature=bytes(64))
EDGE = EdgeFraud(*SEGMENT_ID, SIGNED, open_at(SENT, 1, 2))
DEMAND = DemandEntry(*SEGMENT_ID, SIGNED)
SHOW = ShowEntry(*SEGMENT_ID, 2, open_at(SENT, 1, 2))
TRACE = TraceFraud(*SEGMENT_ID, bytes(MOVE_BYTES_MAX))
EDGES = (
    EDGE,
    replace(EDGE, message=replace(GRADIENT, signature=bytes(64))),
    replace(EDGE, message=replace(OFFER, signature=bytes(64)), opening=None),
    replace(EDGE, message=None, opening=open_at(SENT, 1)),
)


@pytest.mark.parametrize(
    "body",
    [REQUEST, COMMIT, REVEAL, SHOWN, REPORT, CONTEST, WITNESS, TRACE, DEMAND, SHOW, *EDGES],
    ids=lambda b: type(b).__name__,
)
def test_what_is_said_is_what_is_read(body: Body) -> None:
    ledger = InMemoryLedger()
    data = ledger.sign(ledger.keys[1], body)
    assert parse_transaction(data).body == body
    assert encode(parse_transaction(data)) == data


def windows_of(count: int) -> RevealSegment:
    """A reveal of as many windows, with the largest counts."""
    return replace(
        REVEAL,
        leaves_roots=(HASH,) * count,
        state_roots=(HASH,) * (count - 1),
        tokens=(TOKENS_MAX,) * count,
    )


@pytest.mark.parametrize(
    "body",
    [
        replace(REQUEST, run=0),
        replace(REQUEST, attempt=PANEL + 1),
        replace(REQUEST, attempt=-1),
        replace(REQUEST, proof=bytes(79)),
        replace(COMMIT, commitment=b"short"),
        replace(COMMIT, seat=1 << 16),
        replace(COMMIT, check=-1),
        replace(COMMIT, check=1 << 16),
        replace(COMMIT, window=LEAVES_MAX),
        replace(REVEAL, salt=bytes(SALT_BYTES - 1)),
        replace(REVEAL, leaves_roots=(), state_roots=(), tokens=()),
        replace(REVEAL, leaves_roots=(HASH,)),
        replace(REVEAL, leaves_roots=(HASH, b"short")),
        replace(REVEAL, state_roots=()),
        replace(REVEAL, state_roots=(b"short",)),
        replace(REVEAL, tokens=(5_000,)),
        replace(REVEAL, tokens=(5_001, -1)),
        replace(REVEAL, tokens=(TOKENS_MAX + 1, 0)),
        windows_of(LEAVES_MAX + 1),
        replace(SHOWN, salt=b""),
        replace(SHOWN, claim=b"short"),
        replace(SHOWN, check=-1),
        replace(CONTEST, check=-1),
        replace(CONTEST, window=LEAVES_MAX),
        replace(WITNESS, check=1 << 16),
        replace(WITNESS, proof=bytes(79)),
        replace(REPORT, window=-1),
        replace(REPORT, commitment=b"short"),
        replace(TRACE, run=0),
        replace(TRACE, seat=1 << 16),
        replace(TRACE, proof=b""),
        replace(TRACE, proof=bytes(MOVE_BYTES_MAX + 1)),
        replace(DEMAND, run=0),
        replace(DEMAND, seat=1 << 16),
        replace(DEMAND, message=ACTIVATION),
        replace(DEMAND, message=replace(SIGNED, wire=bytes(1_000))),
        replace(
            DEMAND, message=replace(OFFER, key=replace(OFFER.key, exchange=-1), signature=bytes(64))
        ),
        replace(SHOW, run=0),
        replace(SHOW, demand=-1),
        replace(SHOW, demand=1 << 16),
        replace(SHOW, opening=replace(open_at(SENT, 1), paths=())),
        replace(SHOW, opening=replace(open_at(SENT, 1), index=9)),
        replace(EDGE, run=0),
        replace(EDGE, seat=1 << 16),
        replace(EDGE, message=ACTIVATION),
        replace(EDGE, opening=replace(open_at(SENT, 1), paths=())),
    ],
)
def test_a_field_out_of_bounds_is_refused(body: RevealSegment) -> None:
    with pytest.raises(BadEncoding):
        check_statement_shape(body)


def test_only_a_solvers_reveal_may_be_long_and_the_longest_fits_into_its_bound() -> None:
    ledger = InMemoryLedger()
    data = ledger.sign(ledger.keys[1], windows_of(LEAVES_MAX))
    assert FREE_STATEMENT_BYTES_MAX < len(data) <= REVEAL_BYTES_MAX
    parse_transaction(data)
    with pytest.raises(BadEncoding, match="statement of"):
        check_shape(parse_transaction(data), REVEAL_BYTES_MAX + 1)


@pytest.mark.parametrize("body", [REVEAL, SHOWN], ids=lambda b: type(b).__name__)
def test_a_reveal_has_one_form_and_no_signature(body: Body) -> None:
    ledger = InMemoryLedger()
    transaction = parse_transaction(ledger.sign(ledger.keys[1], body))
    assert transaction == parse_transaction(ledger.sign(ledger.keys[2], body))
    assert transaction.signature == b""
    signed = encode(replace(transaction, signature=bytes(64)))
    with pytest.raises(BadEncoding, match="a signature of 64 bytes"):
        parse_transaction(signed)
