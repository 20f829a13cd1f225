"""A record is believed only under its author's key, in time, in form and in order (rules D1 to D5)."""

from dataclasses import dataclass

import msgspec
import pytest

from swarm.dht.records import (
    TTL_MAX_S,
    VALUE_BYTES_MAX,
    SignedRecord,
    check_record,
    parse_key,
    record_key,
    select,
    sign_record,
    validate,
)
from swarm.errors import BadEncoding, BadSignature, BrokenPromise, PeerFault
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey

ALICE, BOB = SecretKey.from_seed(b"a" * 32), SecretKey.from_seed(b"b" * 32)
NOW_S = 1_800_000_000


@dataclass(frozen=True)
class _Statement:
    seq: int = 1
    expires_at: int = NOW_S + 60
    payload: bytes = b"hello"
    topic: str = "announce"


def a_record(announcement: _Statement = _Statement(), secret: SecretKey = ALICE) -> SignedRecord:
    return sign_record(
        secret,
        announcement.topic,
        announcement.payload,
        seq=announcement.seq,
        expires_at=announcement.expires_at,
    )


def check(record: SignedRecord) -> SignedRecord:
    return check_record(encode(record), topic="announce", peer=ALICE.peer, now_s=NOW_S)


def test_an_honest_record_is_believed() -> None:
    assert check(a_record()).payload == b"hello"
    validate(record_key("announce", ALICE.peer), encode(a_record()), NOW_S)


@pytest.mark.rule("D8")
def test_what_its_peer_has_just_sent_holds_whatever_the_clocks_say() -> None:
    for late_s in (-(1 << 31), 1 << 31):
        record = encode(a_record())
        with pytest.raises(BrokenPromise):
            check_record(record, topic="announce", peer=ALICE.peer, now_s=NOW_S + late_s)
    assert check_record(encode(a_record()), topic="announce", peer=ALICE.peer, now_s=None)
    with pytest.raises(BrokenPromise):
        check_record(encode(a_record(secret=BOB)), topic="announce", peer=ALICE.peer, now_s=None)


@pytest.mark.rule("D2", "D3", "S8")
def test_no_peer_writes_under_anothers_key() -> None:
    with pytest.raises(BrokenPromise):
        check(a_record(secret=BOB))
    forged = msgspec.structs.replace(a_record(secret=BOB), peer=ALICE.peer)
    with pytest.raises(BadSignature):
        check(forged)


@pytest.mark.rule("D3", "S8")
@pytest.mark.parametrize("change", [{"seq": 2}, {"expires_at": NOW_S + 61}, {"payload": b"hellp"}])
def test_every_field_is_signed(change: dict[str, int | bytes]) -> None:
    with pytest.raises(BadSignature):
        check(msgspec.structs.replace(a_record(), **change))


@pytest.mark.rule("D2")
def test_a_record_of_one_topic_does_not_serve_for_another() -> None:
    with pytest.raises(BrokenPromise):
        check(a_record(_Statement(topic="other")))
    with pytest.raises(BadSignature):
        check(msgspec.structs.replace(a_record(_Statement(topic="other")), topic="announce"))


@pytest.mark.rule("D4", "S8")
@pytest.mark.parametrize("expires_at", [NOW_S, NOW_S - 5, NOW_S + TTL_MAX_S + 1])
def test_a_record_holds_from_now_to_a_day_ahead_at_most(expires_at: int) -> None:
    with pytest.raises(BrokenPromise):
        check(a_record(_Statement(expires_at=expires_at)))


@pytest.mark.rule("D1")
def test_junk_and_oversize_are_refused() -> None:
    huge = encode(a_record(_Statement(payload=b"x" * VALUE_BYTES_MAX)))
    for data in (b"", b"junk", encode(a_record()) + b"\0", huge):
        with pytest.raises(PeerFault):
            check_record(data, topic="announce", peer=ALICE.peer, now_s=NOW_S)


@pytest.mark.rule("D1")
@pytest.mark.parametrize(
    "key",
    [
        "",
        "announce",
        "/swarm/announce",
        "/swarm/announce/junk",
        "/pk/x/y",
        "/swarm/A/b",
        "/swarm/a/b/c",
    ],
)
def test_only_our_keys_are_keys(key: str) -> None:
    with pytest.raises(BadEncoding):
        parse_key(key)


@pytest.mark.rule("D2")
def test_a_key_names_topic_and_peer() -> None:
    assert parse_key(record_key("announce", ALICE.peer)) == ("announce", ALICE.peer)


@pytest.mark.rule("D5")
def test_the_highest_sequence_wins_and_the_last_on_ties() -> None:
    one, two = encode(a_record(_Statement(seq=1))), encode(a_record(_Statement(seq=2)))
    assert select([one, two]) == 1
    assert select([two, one]) == 0
    assert select([two, one, two]) == 2
    assert select([b"junk", one, b"junk"]) == 1
    assert select([b"junk"]) == 0
