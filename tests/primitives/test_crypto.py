"""A signature or hash of one purpose is worthless for any other."""

import pytest

from swarm.errors import BadEncoding, BadSignature
from swarm.primitives.crypto import (
    SecretKey,
    digest,
    digests,
    expand,
    fast_digest,
    framed,
    parse_peer,
    peer_name,
    peer_text,
    verify,
)
from swarm.types import PeerId

KEY = SecretKey.from_seed(bytes(range(32)))
OTHER = SecretKey.from_seed(bytes(32))


@pytest.mark.rule("S7")
def test_a_signature_holds_for_its_peer_purpose_and_parts_only() -> None:
    signature = KEY.sign("vote", b"chain", b"block")
    verify(KEY.peer, signature, "vote", b"chain", b"block")
    for peer, purpose, parts in (
        (OTHER.peer, "vote", (b"chain", b"block")),
        (KEY.peer, "veto", (b"chain", b"block")),
        (KEY.peer, "vote", (b"chainb", b"lock")),
        (KEY.peer, "vote", (b"chain", b"block", b"")),
        (KEY.peer, "vote", (b"chain",)),
    ):
        with pytest.raises(BadSignature):
            verify(peer, signature, purpose, *parts)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_the_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(BadSignature):
        verify(KEY.peer, bytes(length), "vote")
    with pytest.raises(BadSignature):
        verify(PeerId(bytes(length)), bytes(64), "vote")


def test_a_key_of_small_order_signs_nothing() -> None:
    """Source: ed25519 small-order points; OpenSSL accepts these, libsodium does not."""
    for weak in (bytes(32), b"\x01" + bytes(31)):
        for signature in (bytes(64), weak + bytes(32)):
            with pytest.raises(BadSignature):
                verify(PeerId(weak), signature, "vote", b"anything")


def test_no_two_inputs_frame_alike() -> None:
    inputs: list[tuple[str, tuple[bytes, ...]]] = [
        ("a", (b"b",)),
        ("ab", ()),
        ("a", (b"", b"b")),
        ("a", (b"b", b"")),
        ("a", ()),
        ("a", (b"",)),
    ]
    assert len({framed(purpose, parts) for purpose, parts in inputs}) == len(inputs)


@pytest.mark.rule("S7")
def test_hashes_differ_by_purpose_and_kind() -> None:
    made = {digest("a", b"x"), digest("b", b"x"), fast_digest("a", b"x"), fast_digest("b", b"x")}
    assert len(made) == 4
    assert all(len(one) == 32 for one in made)


def test_many_digests_are_the_digests_of_each() -> None:
    shared, lasts = (b"a", b"", b"bc" * 100), [b"", b"x", b"y" * 300]
    assert digests("p", shared, iter(lasts)) == [digest("p", *shared, last) for last in lasts]
    assert digests("p", (), [b"x"]) == [digest("p", b"x")]
    assert digests("p", shared, []) == []


def test_expanding_a_seed_is_a_stream() -> None:
    assert expand(b"seed", "p", 100)[:10] == expand(b"seed", "p", 10)
    assert expand(b"seed", "p", 10) != expand(b"seed", "q", 10)


def test_a_peer_has_the_text_form_of_libp2p() -> None:
    text = peer_text(KEY.peer)
    assert text.startswith("12D3Koo")
    assert parse_peer(text) == KEY.peer


@pytest.mark.parametrize("text", ["", "0OIl", "Qm" + "a" * 44, "12D3Koo", "2" * 300, "12D3KooW é"])
def test_a_text_that_is_no_peer_is_refused(text: str) -> None:
    with pytest.raises(BadEncoding):
        parse_peer(text)


def test_a_peers_name_is_stable_and_pronounceable() -> None:
    assert peer_name(KEY.peer) == peer_name(PeerId(bytes(KEY.peer)))
    adjective, animal, number = peer_name(KEY.peer).split("-")
    assert adjective.isalpha()
    assert animal.isalpha()
    assert len(number) == 3
    names = {peer_name(PeerId(bytes([i]) * 32)) for i in range(200)}
    assert len(names) == 200


@pytest.mark.rule("S21")
def test_a_secret_key_never_shows_its_seed() -> None:
    assert KEY.seed.hex() not in repr(KEY)
    assert repr(KEY) == f"SecretKey({peer_text(KEY.peer)})"
    with pytest.raises(BadEncoding):
        SecretKey.from_seed(b"short")


def test_the_key_of_a_seed_is_that_of_rfc_8032() -> None:
    """Test 1 of RFC 8032 section 7.1."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert SecretKey.from_seed(seed).peer.hex() == public
