"""Golden vectors of what passes between neighbours: the table of records, and news."""

from collections.abc import Callable

from swarm.dht.directory import TOPIC as ANNOUNCE
from swarm.dht.lookup import place_of
from swarm.dht.records import record_key, sign_record
from swarm.dht.table import (
    Contact,
    FindPeers,
    FindProviders,
    FindRecord,
    Provide,
    Reply,
    StoreRecord,
)
from swarm.gossip.news.messages import Cut, Frame, Notice, Offer, notice_name
from swarm.primitives.codec import Message, encode
from swarm.primitives.crypto import SecretKey
from swarm.types import PeerId

Json = dict[str, object]
PLACE_BYTES = 32


def table(message: Callable[[Message], Json], alice: SecretKey, bob: PeerId) -> list[Json]:
    """Questions and answers on ``/swarm/table/1``, and where a key and a peer are."""
    record = sign_record(alice, ANNOUNCE, b"payload", seq=9, expires_at=1_800_000_000)
    key, signed = record_key(ANNOUNCE, alice.peer), encode(record)
    place = place_of(key.encode("ascii")).to_bytes(PLACE_BYTES, "big")
    contact = Contact(bob, ("/ip4/192.0.2.7/tcp/7420",))
    return [
        {"kind": "place", "of": key, "place": place.hex()},
        {"kind": "place", "of": bob.hex(), "place": f"{place_of(bob):064x}"},
        message(FindPeers(place)),
        message(FindRecord(key)),
        message(FindProviders(b"run of sixteen b")),
        message(StoreRecord(key, signed)),
        message(Provide(b"run of sixteen b")),
        message(Reply(signed, (contact,), (contact, Contact(alice.peer, ())))),
        message(Reply(b"", (), ())),
    ]


def news(message: Callable[[Message], Json]) -> list[Json]:
    """Frames on ``/swarm/news/1``, and the name of a notice."""
    topic, data = "transactions", b"statement"
    name = notice_name(topic, data)
    return [
        {"kind": "notice", "topic": topic, "data": data.hex(), "name": name.hex()},
        message(Frame((topic,), (), (), b"", (), ())),
        message(Frame(None, (Notice(topic, data),), (), b"", (), ())),
        message(Frame(None, (), (Offer(topic, name),), name, (topic,), (Cut(topic, 60),))),
    ]
