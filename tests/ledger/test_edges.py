"""A proof of a lie holds for who signed it, about the list of its commit, and about nothing else."""

from functools import cache

import pytest

from swarm.errors import BadEncoding, InvalidStatement, Reason
from swarm.gossip.trade.messages import Codec, Offer, fragment_digest
from swarm.ledger.edges import (
    COUNT_MAX,
    EDGE_FRAUD_BYTES_MAX,
    EdgeFraud,
    EdgeMessage,
    check_fraud,
    check_fraud_shape,
    is_said,
    place_of,
    sender_of,
)
from swarm.ledger.transactions import parse_transaction
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest
from swarm.primitives.edges import (
    ENTRY_BYTES_MAX,
    SENT_MAX,
    SentEntry,
    SentKind,
    SentOpening,
    open_at,
    open_place,
    sent_root,
)
from swarm.testing.ledger import InMemoryLedger, numbered_key
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from tests.ledger.edges import (
    ACTIVATION,
    GRADIENT,
    INCARNATION,
    OFFER,
    SENT,
    accuse,
    disorder,
    other,
    sign_message,
    without,
)

SOLVER, OTHER = numbered_key(1), numbered_key(2)
CHAIN, RUN_DIGEST = digest("chain", b""), digest("run", b"")
MESSAGES: tuple[EdgeMessage, ...] = (ACTIVATION, GRADIENT, OFFER)
BY_KIND = pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)


def signed(message: EdgeMessage) -> EdgeMessage:
    return sign_message(SOLVER, CHAIN, RUN_DIGEST, message)


def proof(message: EdgeMessage, sent: tuple[SentEntry, ...] = SENT) -> EdgeFraud:
    return accuse(signed(message), open_place(sent, place_of(message)))


def holds(body: EdgeFraud, sent: tuple[SentEntry, ...] = SENT, **changes: object) -> Reason | None:
    """Return None if a proof convicts who committed to a list, or why it does not."""
    commit: dict[str, object] = {
        "peer": SOLVER.peer,
        "incarnation": INCARNATION,
        "sent_root": sent_root(sent),
        "chain": CHAIN,
        "run_digest": RUN_DIGEST,
    }
    check_fraud_shape(body)
    try:
        check_fraud(body, **{**commit, **changes})  # type: ignore[arg-type]
    except InvalidStatement as error:
        return error.reason
    return None


@pytest.mark.rule("L92")
@BY_KIND
def test_what_is_in_the_list_is_no_lie_and_everything_else_is_one(message: EdgeMessage) -> None:
    assert holds(proof(message)) is Reason.BAD_FIELD
    assert holds(proof(other(message))) is None
    absent = without(SENT, place_of(message))
    assert holds(proof(message, absent), absent) is None
    assert holds(proof(message, ()), ()) is None, "nor has an empty list anything"
    swapped = tuple(
        replace(entry, up=entry.down, down=entry.up) if entry.place == place_of(message) else entry
        for entry in SENT
    )
    assert holds(proof(message, swapped), swapped) is None, "what goes up is not what goes down"


@pytest.mark.rule("L92")
@BY_KIND
def test_a_proof_is_about_who_signed_it_in_its_run_and_its_network(message: EdgeMessage) -> None:
    lie = proof(other(message))
    assert holds(lie, peer=OTHER.peer) is Reason.BAD_SIGNATURE
    assert holds(lie, chain=digest("chain", b"other")) is Reason.BAD_SIGNATURE
    forged = replace(lie, message=replace(other(message), signature=bytes(64)))
    assert holds(forged) is Reason.BAD_SIGNATURE
    if not isinstance(message, Offer):  # an offer names its run by number alone
        assert holds(lie, run_digest=digest("run", b"other")) is Reason.BAD_SIGNATURE


@BY_KIND
def test_every_field_of_a_message_is_signed(message: EdgeMessage) -> None:
    """What another field makes of the message is no proof, whatever the list has at its place."""
    lie = signed(other(message))
    for name in lie.__struct_fields__:
        value = getattr(lie, name)
        if name in {"key", "signature", "codec"}:
            continue
        wrong = digest("wrong", value) if isinstance(value, bytes) else value + 1
        changed = replace(lie, **{name: wrong})
        body = accuse(changed, open_place(SENT, place_of(changed)))
        assert holds(body) is not None, f"another {name}"


def test_a_message_of_another_kind_does_not_borrow_a_signature() -> None:
    up, down = signed(other(ACTIVATION)), signed(other(GRADIENT))
    for one, two in ((up, down), (down, up)):
        body = accuse(
            replace(one, signature=two.signature),
            open_place(SENT, place_of(one)),
        )
        assert holds(body) is Reason.BAD_SIGNATURE


@pytest.mark.rule("L92")
@BY_KIND
def test_a_message_of_another_segment_proves_nothing_about_this_one(message: EdgeMessage) -> None:
    lie = proof(other(message))
    run, round_, stage, seat = sender_of(message)
    assert (run, round_, stage, seat) == (lie.run, lie.round, lie.stage, lie.seat)
    for elsewhere in (
        replace(lie, run=RunIndex(run + 1)),
        replace(lie, round=RoundIndex(round_ + 1)),
        replace(lie, stage=StageIndex(stage + 1)),
        replace(lie, seat=seat + 1),
    ):
        assert holds(elsewhere) is Reason.BAD_FIELD


@pytest.mark.rule("L92")
@BY_KIND
def test_a_seat_that_began_again_answers_for_what_it_sent_since(message: EdgeMessage) -> None:
    before, after = (
        proof(other(replace(message, incarnation=INCARNATION + step))) for step in (-1, 1)
    )
    assert holds(before) is Reason.BAD_FIELD
    assert holds(after) is Reason.BAD_FIELD, "an opening that is no matter may not ride along"
    assert holds(replace(after, opening=None)) is None
    same = accuse(signed(replace(message, incarnation=INCARNATION + 1)))
    assert holds(same) is None, "its commit is older than what it says, so the list is no matter"
    assert holds(replace(same, message=replace(same.message, signature=bytes(64)))) is (
        Reason.BAD_SIGNATURE
    )


@pytest.mark.rule("L92")
@BY_KIND
def test_only_an_opening_of_the_list_that_stands_where_the_message_would_proves_a_lie(
    message: EdgeMessage,
) -> None:
    lie, absent = signed(other(message)), without(SENT, place_of(message))
    assert holds(accuse(lie)) is Reason.BAD_PROOF, "nothing is shown"
    assert holds(accuse(lie, open_at(SENT, 0))) is Reason.BAD_PROOF, "another place"
    shorter = open_place(absent, place_of(message))
    assert holds(accuse(lie, shorter)) is Reason.BAD_PROOF, "another list"
    assert holds(accuse(lie, shorter), ()) is Reason.BAD_PROOF, "an empty list has no part"
    assert holds(accuse(lie), absent) is Reason.BAD_PROOF


def test_a_fragment_is_the_same_in_every_form_on_the_wire_and_no_other() -> None:
    entry = SentEntry(SentKind.FRAGMENT, 2, Codec.INT8, 0, 0, fragment_digest(OFFER), b"")
    packed = replace(OFFER, wire_bytes=1, chunk_root=digest("chunks", b"again"))
    assert is_said(OFFER, entry)
    assert is_said(packed, entry)
    assert holds(proof(packed)) is Reason.BAD_FIELD
    changes: tuple[dict[str, object], ...] = (
        {"step": 11},
        {"tokens": 1},
        {"codec": Codec.BF16},
        {"anchor_root": NO_DIGEST},
        {"payload_hash": NO_DIGEST},
    )
    for change in changes:
        assert not is_said(replace(OFFER, **change), entry)
    other_codec = replace(OFFER, codec=Codec.BF16)
    assert place_of(other_codec) == (SentKind.FRAGMENT, 2, Codec.BF16, 0)
    assert holds(proof(other_codec)) is None, "each encoding has an entry of its own"


@pytest.mark.rule("L92")
@pytest.mark.parametrize(
    "sent",
    [
        (SENT[1], SENT[0]),
        (SENT[0], SENT[0]),
        (SENT[0], replace(SENT[0], window=1, up=b"")),  # a micro-batch counted in two windows
        (*SENT[:2], *SENT[3:], SENT[2]),
    ],
)
def test_a_list_out_of_order_is_a_lie_without_any_message(sent: tuple[SentEntry, ...]) -> None:
    last = len(sent) - 2
    assert holds(disorder(sent, last), sent) is None
    if last:
        assert holds(disorder(sent, 0), sent) is Reason.BAD_FIELD, "these two are in order"
    assert holds(disorder(sent, last)) is Reason.BAD_PROOF, "of another list"


@pytest.mark.rule("L92")
def test_no_message_needs_two_neighbours_out_of_order() -> None:
    for index in range(len(SENT) - 1):
        assert holds(disorder(SENT, index)) is Reason.BAD_FIELD
    assert holds(accuse(None, open_at(SENT, 1))) is Reason.BAD_FIELD, "one entry"
    assert holds(accuse(None)) is Reason.BAD_FIELD, "nothing at all"
    apart = replace(
        open_at(SENT, 0, 2),
        entries=(SENT[1], SENT[0]),
        paths=(open_at(SENT, 1).paths[0], open_at(SENT, 0).paths[0]),
    )
    assert holds(accuse(None, apart)) is Reason.BAD_PROOF, "they are not there in this order"


LONGEST = SentEntry(
    kind=COUNT_MAX,
    first=COUNT_MAX - 1,
    second=COUNT_MAX,
    third=COUNT_MAX,
    window=COUNT_MAX,
    up=bytes(32),
    down=bytes(32),
)


def longest_numbers(message: EdgeMessage) -> EdgeMessage:
    values = {name: getattr(message, name) for name in message.__struct_fields__}
    long = {name: COUNT_MAX for name, value in values.items() if type(value) is int}
    message = replace(message, **long)
    if isinstance(message, Offer):
        key = message.key
        numbers = dict.fromkeys(key.__struct_fields__, COUNT_MAX)
        message = replace(message, key=replace(key, **numbers))
    return replace(message, signature=bytes(64))


@cache
def opening_of_the_longest_list() -> SentOpening:
    between = [replace(LONGEST, first=LONGEST.first - 1), LONGEST]
    assert all(len(encode(entry)) <= ENTRY_BYTES_MAX for entry in between)
    return open_at([*(SENT[0],) * (SENT_MAX - 2), *between], SENT_MAX - 2, 2)


@pytest.mark.rule("L92")
@BY_KIND
def test_a_proof_about_the_longest_list_fits_into_its_bound(message: EdgeMessage) -> None:
    """With the largest numbers everywhere."""
    opening = opening_of_the_longest_list()
    assert [len(path) for path in opening.paths] == [14, 14]
    body = EdgeFraud(
        RunIndex((1 << 16) - 1),
        RoundIndex((1 << 16) - 1),
        StageIndex(255),
        (1 << 16) - 1,
        longest_numbers(message),
        opening,
    )
    assert len(encode(body)) < EDGE_FRAUD_BYTES_MAX
    check_fraud_shape(body)
    ledger = InMemoryLedger()
    data = ledger.sign(ledger.keys[1], body)
    assert parse_transaction(data).body == body


GOOD = proof(other(ACTIVATION))
OPENING = open_at(SENT, 1, 2)
PATH = OPENING.paths[0]


@pytest.mark.parametrize(
    "change",
    [
        {"count": SENT_MAX + 1},
        {"index": -1},
        {"index": len(SENT)},
        {"entries": (), "paths": ()},
        {"entries": SENT[:3], "paths": (PATH,) * 3},
        {"paths": (PATH,)},
        {"paths": (PATH, PATH * 6)},
        {"paths": (PATH, (*PATH[1:], b"short"))},
        *({"entries": (SENT[1], replace(SENT[2], **{name: -1}))} for name in ("kind", "window")),
        {"entries": (SENT[1], replace(SENT[2], third=COUNT_MAX + 1))},
        {"entries": (SENT[1], replace(SENT[2], up=b"short"))},
        {"entries": (SENT[1], replace(SENT[2], down=bytes(33)))},
    ],
)
def test_an_opening_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    check_fraud_shape(replace(GOOD, opening=OPENING))
    with pytest.raises(BadEncoding):
        check_fraud_shape(replace(GOOD, opening=replace(OPENING, **change)))


def test_a_message_out_of_bounds_is_refused() -> None:
    for message in MESSAGES:
        with pytest.raises(BadEncoding, match="a signature of 0 bytes"):
            check_fraud_shape(replace(GOOD, message=message))
    far = signed(replace(OFFER, key=replace(OFFER.key, exchange=COUNT_MAX + 1)))
    with pytest.raises(BadEncoding, match="exchange"):
        check_fraud_shape(replace(GOOD, message=far))
    negative = replace(OFFER, tokens=-1)
    assert holds(accuse(signed(negative), open_place(SENT, place_of(negative)))) is (
        Reason.BAD_SIGNATURE
    )
    long = replace(ACTIVATION, wire=Digest(bytes(EDGE_FRAUD_BYTES_MAX)), signature=bytes(64))
    with pytest.raises(BadEncoding, match="more bytes"):
        check_fraud_shape(replace(GOOD, message=long))


def test_who_sends_activations_is_in_the_stage_below_and_who_sends_a_gradient_in_its_own() -> None:
    up = replace(ACTIVATION, stage=StageIndex(2), source=5, destination=6)
    down = replace(GRADIENT, stage=StageIndex(2), source=5, destination=6)
    assert sender_of(up) == (1, 1, 1, 5)
    assert sender_of(down) == (1, 1, 2, 6)
