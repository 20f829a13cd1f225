"""Announcements pass between connected peers, each about its sender; the table serves for the others."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import pytest
import trio
from trio.testing import MockClock

from swarm.dht.announcer import (
    PROTOCOL,
    PUBLISH_INTERVAL_S,
    Directory,
    Lookups,
    Spread,
    spread_nothing,
)
from swarm.dht.directory import Announcement
from swarm.dht.records import TTL_MAX_S, SignedRecord, parse_record, sign_record
from swarm.errors import PeerFault, Unreachable
from swarm.primitives.codec import FRAME_BYTES_MAX, encode
from swarm.primitives.crypto import SecretKey
from swarm.types import PeerId
from tests.fakes import FakeHost, FakeNetwork

RUN = b"r" * 16
ANNOUNCEMENT = Announcement(
    run16=RUN,
    roles=1,
    seats=((0, 0),),
    tokens_per_s=5,
    loss_milli=-1,
    round=1,
    steps=2,
    height=3,
    reachability="direct",
    version="1.0",
    addresses=(),
    state="training",
    num_traded=0,
    last_partner=b"",
)


class Peer(FakeHost):
    """A fake host as far as a directory uses it."""

    def __init__(self, network: FakeNetwork, number: int) -> None:
        super().__init__(network, SecretKey.from_seed(bytes([number]) * 32))
        self.unreachable: set[PeerId] = set()
        self.asked: list[PeerId] = []
        network.hosts[self.peer] = self

    def owes(self, peer: PeerId) -> bool:
        return False

    def connected(self) -> list[PeerId]:
        return [peer for peer in super().connected() if peer not in self.unreachable]

    def traffic(self, peer: PeerId) -> tuple[int, int]:
        return 0, 0

    def rtt_ms(self, peer: PeerId) -> int | None:
        return 1 if self.is_connected(peer) else None

    async def reach(self, peer: PeerId, timeout_s: float) -> FakeHost:
        self.asked.append(peer)
        if peer in self.unreachable:
            raise Unreachable("no way to it")
        return await super().reach(peer, timeout_s)


@dataclass
class Table:
    """The table as a directory sees it, and what was done with it."""

    providers: list[PeerId] = field(default_factory=list)
    published: list[float] = field(default_factory=list)
    provided: list[bytes] = field(default_factory=list)
    reads: list[PeerId] = field(default_factory=list)

    async def publish(self, topic: str, payload: bytes, ttl_s: int) -> None:
        assert 0 < ttl_s <= TTL_MAX_S
        self.published.append(trio.current_time())

    async def read(self, topic: str, peer: PeerId) -> SignedRecord | None:
        self.reads.append(peer)
        return None

    async def provide(self, key: bytes) -> None:
        self.provided.append(key)

    async def find_providers(self, key: bytes, limit: int) -> list[PeerId]:
        return self.providers


def a_directory(
    peer: Peer, table: Table, roster: Sequence[PeerId] = (), spread: Spread = spread_nothing
) -> Directory:
    lookups = Lookups(table.publish, table.read, table.provide, table.find_providers)
    return Directory(
        peer,  # type: ignore[arg-type]
        peer.secret,
        lookups,
        current=lambda: ANNOUNCEMENT,
        roster=lambda: roster,
        interval_s=5.0,
        spread=spread,
    )


def a_record(of: Peer, signer: SecretKey) -> bytes:
    record = sign_record(signer, "announce", encode(ANNOUNCEMENT), seq=1, expires_at=1 << 31)
    return encode(msgspec.structs.replace(record, peer=of.peer))


async def run_for(seconds: float, *directories: Directory) -> None:
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for each in directories:
                nursery.start_soon(each.run)


@pytest.mark.rule("D8", "S8")
async def test_an_announcement_is_about_its_sender_on_both_ways(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: float((1 << 31) - 60))
    network = FakeNetwork()
    mine, honest, forger = (Peer(network, number) for number in (1, 2, 3))
    directory = a_directory(mine, Table())
    a_directory(honest, Table())

    async def lie(asker: PeerId, request: bytes) -> bytes:
        return a_record(honest, honest.secret)  # true, signed, and not its own

    forger.serve(PROTOCOL, lie, request_limit=FRAME_BYTES_MAX)
    await run_for(1.0, directory)
    known = directory.peer_map.entries
    assert known[honest.peer].announcement == ANNOUNCEMENT
    assert known[forger.peer].announcement is None
    assert mine.faults() == {forger.peer: 1}
    for question in (a_record(honest, honest.secret), a_record(forger, honest.secret), b"junk"):
        with pytest.raises(Unreachable):
            await forger.call(mine.peer, PROTOCOL, question, timeout_s=5)
    assert mine.faults() == {forger.peer: 4}
    assert await forger.call(mine.peer, PROTOCOL, a_record(forger, forger.secret), timeout_s=5), (
        "its own is answered with ours"
    )
    assert directory.peer_map.entries[forger.peer].announcement == ANNOUNCEMENT


@pytest.mark.rule("D8")
async def test_of_two_peers_one_asks_in_a_round_and_both_know_the_other(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork()
    one, other = (Peer(network, number) for number in (1, 2))
    directories = a_directory(one, Table()), a_directory(other, Table())
    await run_for(100.0, *directories)
    assert 18 <= len(one.asked) + len(other.asked) <= 22, "20 rounds"
    for directory, peer in zip(directories, (other, one), strict=True):
        assert directory.peer_map.entries[peer.peer].announcement == ANNOUNCEMENT


@pytest.mark.rule("D8", "H21")
async def test_a_peer_whose_clock_is_a_year_off_is_on_the_map_and_not_blamed(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork()
    mine, late = (Peer(network, number) for number in (1, 2))
    directory = a_directory(mine, Table())

    async def answer(asker: PeerId, request: bytes) -> bytes:
        record = sign_record(late.secret, "announce", encode(ANNOUNCEMENT), seq=1, expires_at=600)
        return encode(record)

    late.serve(PROTOCOL, answer, request_limit=FRAME_BYTES_MAX)
    await run_for(60.0, directory)
    assert directory.peer_map.entries[late.peer].announcement == ANNOUNCEMENT
    assert not mine.faults()


@pytest.mark.rule("D9")
async def test_a_node_publishes_once_a_minute_and_is_listed_under_its_run(
    autojump_clock: MockClock,
) -> None:
    table = Table()
    await run_for(10 * PUBLISH_INTERVAL_S, a_directory(Peer(FakeNetwork(), 1), table))
    gaps = [after - before for before, after in pairwise(table.published)]
    assert 8 <= len(gaps) <= 11
    assert all(0.9 * PUBLISH_INTERVAL_S <= gap <= 1.1 * PUBLISH_INTERVAL_S for gap in gaps)
    assert table.provided == [RUN] * len(table.published)


@pytest.mark.rule("D9", "H38")
async def test_new_addresses_are_published_at_once_and_learned_by_those_that_are_connected(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, table, learned = FakeNetwork(), Table(), list[tuple[PeerId, Sequence[str]]]()
    mine, other = Peer(network, 1), Peer(network, 2)
    monkeypatch.setattr(other, "learn", lambda peer, addresses: learned.append((peer, addresses)))
    moving = a_directory(mine, table)
    new = msgspec.structs.replace(ANNOUNCEMENT, addresses=("/ip4/44.0.0.1/tcp/9",))
    moving._current = lambda: ANNOUNCEMENT if trio.current_time() < began + 30 else new
    began = trio.current_time()
    await run_for(50, moving, a_directory(other, Table()))
    first, second = (at - began for at in table.published)
    assert first < 1.0
    assert 30.0 <= second < 36.0
    assert learned == [(mine.peer, ("/ip4/44.0.0.1/tcp/9",))]


@pytest.mark.rule("D10")
async def test_only_peers_that_are_not_connected_are_read_from_the_table(
    autojump_clock: MockClock,
) -> None:
    network, table = FakeNetwork(), Table()
    mine, near, far = (Peer(network, number) for number in (1, 2, 3))
    mine.unreachable.add(far.peer)
    for peer in (near, far):
        a_directory(peer, Table())
    await run_for(60.0, a_directory(mine, table, [near.peer, far.peer]))
    assert set(table.reads) == {far.peer}


@pytest.mark.rule("D7")
async def test_a_listed_provider_is_asked_and_not_believed(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork()
    mine, listed = Peer(network, 1), Peer(network, 2)
    mine.unreachable.add(listed.peer)
    directory = a_directory(mine, Table(providers=[listed.peer]))
    await run_for(20.0, directory)
    assert listed.peer in mine.asked
    assert directory.peer_map.entries[listed.peer].announcement is None


def an_announcement(of: SecretKey, *, seq: int, ttl_s: int = 600) -> bytes:
    record = sign_record(
        of, "announce", encode(ANNOUNCEMENT), seq=seq, expires_at=int(time.time()) + ttl_s
    )
    return encode(record)


@pytest.mark.rule("D19")
async def test_an_announcement_that_comes_as_news_is_on_the_map_and_saves_a_lookup(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork()
    peer, far, table = Peer(network, 1), SecretKey.from_seed(b"\x09" * 32), Table()
    directory = a_directory(peer, table, [far.peer])
    assert directory.hear(an_announcement(far, seq=time.time_ns()), lambda _: True)
    assert far.peer in directory.peer_map.entries
    await run_for(60, directory)
    assert not table.reads
    await run_for(150, directory)
    assert far.peer in table.reads, "nothing has come of it for a while"


@pytest.mark.rule("D19")
async def test_attack_announcements_without_end_are_passed_on_three_times_a_minute() -> None:
    network = FakeNetwork()
    directory = a_directory(Peer(network, 1), Table())
    far, began = SecretKey.from_seed(b"\x09" * 32), time.time_ns()
    passed = [
        directory.hear(an_announcement(far, seq=began + n * 1_000_000_000), lambda _: True)
        for n in range(60)
    ]
    assert sum(passed) == 3


@pytest.mark.rule("D19")
async def test_what_may_be_a_difference_of_clocks_or_of_heights_blames_nobody_and_ends_here() -> (
    None
):
    peer = Peer(FakeNetwork(), 1)
    directory, far, now = a_directory(peer, Table()), SecretKey.from_seed(b"\x09" * 32), 1 << 60
    for data, is_welcome in (
        (an_announcement(far, seq=now, ttl_s=-5), True),
        (an_announcement(far, seq=now, ttl_s=90_000), True),
        (an_announcement(far, seq=now), False),
        (an_announcement(peer.secret, seq=now), True),
    ):
        assert not directory.hear(data, lambda _, answer=is_welcome: answer)  # type: ignore[misc]
    assert far.peer not in directory.peer_map.entries


@pytest.mark.rule("D19")
async def test_attack_a_forged_announcement_is_the_fault_of_who_passes_it_on() -> None:
    directory = a_directory(Peer(FakeNetwork(), 1), Table())
    far = SecretKey.from_seed(b"\x09" * 32)
    forged = msgspec.structs.replace(parse_record(an_announcement(far, seq=1 << 60)), seq=1 << 61)
    with pytest.raises(PeerFault):
        directory.hear(encode(forged), lambda _: True)
    with pytest.raises(PeerFault):
        directory.hear(b"junk", lambda _: True)


@pytest.mark.rule("D19")
async def test_a_node_spreads_news_of_itself_only_where_a_peer_of_its_run_is_not_connected(
    autojump_clock: MockClock,
) -> None:
    network, spread = FakeNetwork(), list[bytes]()
    peer, other = Peer(network, 1), Peer(network, 2)
    directory = a_directory(peer, Table(), [other.peer], spread.append)
    a_directory(other, Table())
    await run_for(61, directory)
    assert not any(spread)
    peer.unreachable = {other.peer}
    await run_for(61, directory)
    assert any(spread)
