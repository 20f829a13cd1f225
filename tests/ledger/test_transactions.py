"""A transaction has one form, is bound to its chain and signer, and a commit fits in 300 bytes."""

import random

import pytest

from swarm.errors import BadEncoding, BadSignature
from swarm.ledger.check_statements import (
    AMOUNT_MAX,
    HEIGHT_MAX,
    PHI_BYTES_MAX,
    SHORT_MAX,
    STAGE_MAX,
    TOKENS_MAX,
)
from swarm.ledger.transactions import (
    FREE_STATEMENT_BYTES_MAX,
    RUN_SPEC_BYTES_MAX,
    SEGMENT_COMMIT_BYTES_MAX,
    START_PREFIX_BYTES,
    TRANSACTION_BYTES_MAX,
    Body,
    CloseRun,
    CommitSegment,
    Evidence,
    Join,
    Leave,
    OpenRun,
    PostCheckpoint,
    SeatStatement,
    SignedVote,
    Stake,
    Transaction,
    Transfer,
    Unstake,
    Validate,
    check_signature,
    parse_transaction,
    sign_transaction,
    transaction_digest,
)
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.state_parts import COMPONENTS
from swarm.testing.ledger import numbered_key, small_run_spec
from swarm.types import Amount, Digest, PeerId, RoundIndex, RunIndex, StageIndex, View

CHAIN = digest("genesis", b"a")
KEY = numbered_key(1)
ROOT = digest("x", b"root")
RUN = RunIndex(SHORT_MAX)
COMMIT = CommitSegment(
    run=RUN,
    round=RoundIndex(SHORT_MAX),
    stage=StageIndex(STAGE_MAX),
    seat=SHORT_MAX,
    incarnation=SHORT_MAX,
    start=ROOT,
    end_root=ROOT,
    trace_commit=ROOT,
    sent_root=ROOT,
    num_steps=SHORT_MAX,
    tokens=TOKENS_MAX,
)
CHECKPOINT = PostCheckpoint(
    run=RUN,
    round=RoundIndex(SHORT_MAX),
    stage=StageIndex(STAGE_MAX),
    seat=SHORT_MAX,
    phi_root=ROOT,
    phi_bytes=PHI_BYTES_MAX,
    proof=(ROOT,) * 4,
)
VOTE = SignedVote(0, ROOT, bytes(64))
EVIDENCE = Evidence(
    numbered_key(2).peer, HEIGHT_MAX, View(HEIGHT_MAX), VOTE, replace(VOTE, block=bytes(32))
)
BODIES: list[Body] = [
    COMMIT,
    CHECKPOINT,
    OpenRun(encode(small_run_spec()), Amount(5)),
    CloseRun(RUN),
    Join(RUN),
    Leave(RUN),
    Transfer(numbered_key(2).peer, Amount(AMOUNT_MAX)),
    Stake(Amount(1)),
    Unstake(Amount(1)),
    Validate(is_on=True),
    EVIDENCE,
]


def signed(body: Body, key: SecretKey = KEY) -> bytes:
    if isinstance(body, SeatStatement):
        return sign_transaction(key, CHAIN, body)
    return sign_transaction(key, CHAIN, body, nonce=1, fee=AMOUNT_MAX, expiry=HEIGHT_MAX)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_every_kind_survives_its_encoding_and_verifies(body: Body) -> None:
    data = signed(body)
    transaction = parse_transaction(data)
    assert transaction.body == body
    assert encode(transaction) == data
    check_signature(transaction, CHAIN, KEY.peer)


def test_a_start_that_the_ledger_knows_is_named_by_its_first_bytes() -> None:
    short = replace(COMMIT, start=ROOT[:START_PREFIX_BYTES])
    assert parse_transaction(signed(short)).body == short
    assert len(signed(COMMIT)) - len(signed(short)) == 32 - START_PREFIX_BYTES


def test_the_largest_commit_fits_in_300_signed_bytes() -> None:
    assert len(signed(COMMIT)) <= SEGMENT_COMMIT_BYTES_MAX == 300


def test_a_commit_with_the_parts_of_an_end_fits_the_limit_of_statements() -> None:
    made = replace(COMMIT, start=b"", source=ROOT, inherited=(ROOT,) * COMPONENTS, anchor=ROOT)
    data = signed(made)
    assert parse_transaction(data).body == made
    assert len(data) < 750


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": b"s" * 9},
        {"source": b"short"},
        {"anchor": b"short"},
        {"inherited": (ROOT,) * (COMPONENTS - 1)},
        {"inherited": (*(ROOT,) * (COMPONENTS - 1), b"short")},
    ],
)
def test_a_start_that_is_named_by_other_lengths_is_malformed(wrong: dict[str, object]) -> None:
    with pytest.raises(BadEncoding):
        parse_transaction(signed(replace(COMMIT, **wrong)))


def test_the_largest_checkpoint_fits_the_limit_of_statements() -> None:
    assert len(signed(CHECKPOINT)) <= FREE_STATEMENT_BYTES_MAX


@pytest.mark.rule("S7")
@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_a_signature_is_bound_to_chain_signer_and_every_field(body: Body) -> None:
    transaction = parse_transaction(signed(body))
    for chain, signer in ((ROOT, KEY.peer), (CHAIN, numbered_key(2).peer)):
        with pytest.raises(BadSignature):
            check_signature(transaction, chain, signer)
    for other in (
        replace(transaction, nonce=2),
        replace(transaction, fee=1),
        replace(transaction, expiry=3),
        replace(transaction, sender=numbered_key(2).peer),
        replace(transaction, body=Stake(Amount(77))),
    ):
        with pytest.raises(BadSignature):
            check_signature(other, CHAIN, KEY.peer)


def test_join_and_leave_of_one_run_are_different_statements() -> None:
    joined = parse_transaction(signed(Join(RUN)))
    with pytest.raises(BadSignature):
        check_signature(replace(joined, body=Leave(RUN)), CHAIN, KEY.peer)


@pytest.mark.parametrize(
    "body",
    [
        *(replace(COMMIT, **{field: -1}) for field in ("run", "round", "stage", "seat", "tokens")),
        *(replace(COMMIT, **{field: SHORT_MAX + 1}) for field in ("run", "round", "seat")),
        replace(COMMIT, run=0),
        replace(COMMIT, stage=STAGE_MAX + 1),
        replace(COMMIT, incarnation=SHORT_MAX + 1),
        replace(COMMIT, num_steps=-1),
        replace(COMMIT, tokens=TOKENS_MAX + 1),
        *(replace(COMMIT, **{f: b"short"}) for f in ("start", "end_root", "sent_root")),
        replace(CHECKPOINT, proof=(ROOT,) * 3),
        replace(CHECKPOINT, proof=(ROOT,) * 3 + (b"",)),
        replace(CHECKPOINT, phi_bytes=0),
        replace(CHECKPOINT, round=0),
        OpenRun(b"", Amount(1)),
        OpenRun(b"x" * (RUN_SPEC_BYTES_MAX + 1), Amount(1)),
        OpenRun(b"x", Amount(-1)),
        Join(RunIndex(0)),
        Transfer(PeerId(b"short"), Amount(1)),
        Transfer(KEY.peer, Amount(0)),
        Transfer(KEY.peer, Amount(-5)),
        Stake(Amount(AMOUNT_MAX + 1)),
        Unstake(Amount(0)),
        replace(EVIDENCE, peer=b"short"),
        *(replace(EVIDENCE, epoch=epoch) for epoch in (-1, HEIGHT_MAX + 1)),
        *(replace(EVIDENCE, view=view) for view in (0, HEIGHT_MAX + 1)),
        *(replace(EVIDENCE, first=replace(VOTE, kind=kind)) for kind in (-1, 3)),
        replace(EVIDENCE, second=replace(VOTE, block=b"short")),
        replace(EVIDENCE, second=replace(VOTE, signature=bytes(63))),
    ],
    ids=repr,
)
def test_a_field_out_of_bounds_is_refused(body: Body) -> None:
    with pytest.raises(BadEncoding):
        parse_transaction(signed(body))


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": b""},
        {"sender": b"x" * 33},
        {"nonce": 0},
        {"fee": -1},
        {"expiry": 0},
        {"signature": b""},
    ],
    ids=str,
)
def test_an_envelope_out_of_bounds_is_refused(changes: dict[str, object]) -> None:
    transaction = parse_transaction(signed(Stake(Amount(1))))
    with pytest.raises(BadEncoding):
        parse_transaction(encode(replace(transaction, **changes)))


@pytest.mark.parametrize(
    "changes", [{"sender": KEY.peer}, {"nonce": 1}, {"fee": 1}, {"expiry": 1}], ids=str
)
def test_a_seat_statement_with_an_envelope_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadEncoding):
        parse_transaction(encode(replace(parse_transaction(signed(COMMIT)), **changes)))


@pytest.mark.rule("L7")
def test_bytes_that_are_too_long_or_have_a_second_form_are_refused() -> None:
    data = signed(Stake(Amount(1)))
    for wrong in (data + b"\x00", b"\x00" * (TRANSACTION_BYTES_MAX + 1), b"", data[:-1]):
        with pytest.raises(BadEncoding):
            parse_transaction(wrong)


@pytest.mark.rule("L7")
def test_mutated_bytes_only_raise_bad_encoding_or_keep_their_one_form() -> None:
    rng = random.Random(11)
    for body in BODIES:
        data = signed(body)
        for _ in range(300):
            mutated = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                mutated[rng.randrange(len(mutated))] = rng.randrange(256)
            try:
                transaction = parse_transaction(bytes(mutated))
            except BadEncoding:
                continue
            assert isinstance(transaction, Transaction)
            assert encode(transaction) == mutated


def test_the_name_of_a_transaction_covers_its_signature() -> None:
    data = signed(Stake(Amount(1)))
    assert transaction_digest(data) != transaction_digest(data[:-1] + bytes([data[-1] ^ 1]))
    assert isinstance(Digest(transaction_digest(data)), bytes)
