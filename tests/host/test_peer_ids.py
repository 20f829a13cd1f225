"""A peer has two ids that stand for one key."""

import pytest
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.peer.id import ID

from swarm.errors import BadEncoding
from swarm.host.peer_ids import id_of, peer_of
from swarm.primitives.crypto import SecretKey


def test_an_id_comes_back_and_is_that_of_its_key() -> None:
    peer = SecretKey.from_seed(b"\x03" * 32).peer
    assert peer_of(id_of(peer)) == peer
    assert id_of(peer).to_bytes() == bytes.fromhex("002408011220") + peer


def test_a_key_of_another_kind_is_no_peer() -> None:
    with pytest.raises(BadEncoding):
        peer_of(ID.from_pubkey(create_new_key_pair().public_key))
    with pytest.raises(BadEncoding):
        peer_of(ID(b""))
