"""A newcomer goes on from a snapshot that it has proved, whoever sent it; liars and dead servers cost a try."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from swarm.errors import Unreachable
from swarm.host.service import Host
from swarm.ledger import snapshot
from swarm.ledger.blocks import Block
from swarm.ledger.light import verify_entries
from swarm.ledger.net import snapshots
from swarm.ledger.net.archive import Archive
from swarm.ledger.net.snapshots import Snapshots
from swarm.ledger.reader import open_ledger
from swarm.ledger.snapshot import (
    EARLIER,
    HANDOFFS,
    OFFER,
    PART,
    SNAPSHOT_PROTOCOL,
    EarlierReply,
    HandoffsReply,
    Offer,
    PartName,
    PartReply,
    SnapshotRequest,
    parse_request,
)
from swarm.ledger.state.records import Account
from swarm.ledger.state.state import account_key
from swarm.ledger.transactions import Transfer, Validate
from swarm.primitives.codec import decode, encode, replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.store import STORE_FILE, Store
from swarm.testing.ledger import InMemoryLedger, numbered_key
from swarm.types import NO_DIGEST, Amount, Height, PeerId, View
from tests.ledger.services import MemoryHost, MemoryNet, a_genesis, a_ledger

EPOCH = 10
Tamper = Callable[[SnapshotRequest, bytes], Awaitable[bytes]]


def gift(ledger: InMemoryLedger, number: int, first: int) -> bytes:
    """A transfer of the first key to a peer that has no account yet."""
    giver, other = ledger.keys[0], PeerId(digest("somebody", bytes([number])))
    nonce = ledger.state.account(giver.peer).nonce + 1 + number - first
    return ledger.sign(giver, Transfer(other, Amount(1)), nonce=nonce)


@cache
def a_chain(num_blocks: int = 47, name: str = "one") -> InMemoryLedger:
    """Accounts enough for several parts, and a fifth validator from epoch 2 on."""
    ledger = InMemoryLedger(6, 4, epoch_blocks=EPOCH, name=name)
    for first in (0, 16, 32):
        ledger.block(*(gift(ledger, number, first) for number in range(first, first + 16)))
    ledger.block(ledger.sign(ledger.keys[4], Validate(is_on=True)))
    ledger.empty_blocks(num_blocks - ledger.state.height)
    return ledger


class Network:
    """A newcomer, number 9, and peers that serve a chain."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.net = folder, MemoryNet()
        self.stores = list[Store]()
        self.asked = list[tuple[PeerId, SnapshotRequest]]()

    async def peer(self, number: int) -> tuple[Archive, Snapshots, MemoryHost]:
        """Open a node without blocks."""
        store = Store.open(self.folder / f"{number}.sqlite")
        self.stores.append(store)
        return self.serve(number, Archive.open(store, a_chain().genesis))

    async def server(
        self, number: int, ledger: InMemoryLedger, tamper: Tamper | None = None
    ) -> Archive:
        """Open a node with the blocks of a ledger."""
        store = Store.open(self.folder / f"{number}.sqlite")
        self.stores.append(store)
        archive = Archive.open(store, ledger.genesis)
        for block, certificate in ledger.links:
            await archive.append([block], certificate, known={})
        self.serve(number, archive, tamper)
        return archive

    def serve(
        self, number: int, archive: Archive, tamper: Tamper | None = None
    ) -> tuple[Archive, Snapshots, MemoryHost]:
        """Offer an archive to others, with answers that ``tamper`` changes."""
        host = MemoryHost(self.net, numbered_key(number))
        link_host = cast("Host", host)
        served = Snapshots(archive, link_host)
        honest = host.handlers[SNAPSHOT_PROTOCOL]

        async def answer(peer: PeerId, data: bytes) -> bytes:
            request = parse_request(data)
            self.asked.append((host.peer, request))
            reply = await honest(peer, data)
            return reply if tamper is None else await tamper(request, reply)

        host.handlers[SNAPSHOT_PROTOCOL] = answer
        return archive, served, host


@asynccontextmanager
async def a_network(folder: Path) -> AsyncGenerator[Network]:
    network = Network(folder)
    try:
        yield network
    finally:
        for store in network.stores:
            store.close()


def key(number: int) -> PeerId:
    return numbered_key(number).peer


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PART_BYTES", 512)


@pytest.mark.rule("L60", "L61")
async def test_a_newcomer_goes_on_from_a_proved_snapshot(
    tmp_path: Path, autojump_clock: MockClock, small_parts: None
) -> None:
    ledger = a_chain()
    async with a_network(tmp_path) as network:
        await network.server(1, ledger)
        archive, newcomer, host = await network.peer(9)
        assert await newcomer.join([key(1)])
        assert (archive.head.state.height, archive.first) == (39, 40)
        assert archive.head.digest == ledger.links[39][0].header.parent
        parts = [request.number for _, request in network.asked if request.subject == PART]
        assert len(parts) == len(set(parts)) > 4
        for block, certificate in ledger.links[39:]:
            await archive.append([block], certificate, known={})
        assert archive.head == ledger.head
        assert not host.blamed
        again = Archive.open(archive.store, ledger.genesis)
        assert (again.head, again.first) == (ledger.head, 40)


@pytest.mark.rule("L60")
async def test_who_is_near_follows_the_blocks_and_nobody_goes_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    ledger = a_chain()
    async with a_network(tmp_path) as network:
        await network.server(1, ledger)
        archive, newcomer, _ = await network.peer(9)
        for block, certificate in ledger.links[:20]:
            await archive.append([block], certificate, known={})
        assert not await newcomer.join([key(1)])
        assert await newcomer.join([key(1)], is_far=True)
        assert archive.head.state.height == 39
        assert archive.block_at(Height(20)) is None
        assert not await newcomer.join([key(1)], is_far=True)


@pytest.mark.rule("L60")
async def test_after_a_crash_between_a_snapshot_and_the_blocks_before_it_the_chain_goes_on(
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The snapshot is on the disk at once, and the old blocks are still there: they are deleted later."""
    ledger = a_chain()
    async with a_network(tmp_path) as network:
        await network.server(1, ledger)
        archive, newcomer, _ = await network.peer(9)
        for block, certificate in ledger.links[:12]:
            await archive.append([block], certificate, known={})

        real = Archive.forget_before

        async def crash(*_: object) -> None:
            await trio.lowlevel.checkpoint()
            raise KeyboardInterrupt

        monkeypatch.setattr(Archive, "forget_before", crash)
        with pytest.raises(KeyboardInterrupt):
            await newcomer.join([key(1)])
        monkeypatch.setattr(Archive, "forget_before", real)
        again = Archive.open(archive.store, ledger.genesis)
        assert (again.head.state.height, again.first) == (39, 40)
        assert again.block_at(Height(12)) is not None
        await again.append([ledger.links[39][0]], ledger.links[39][1], known={})
        assert await again.forget_before(Height(40)) == 12
        assert again.block_at(Height(12)) is None
        assert again.block_at(Height(40)) is not None


def in_offer(change: Callable[[Offer], Offer]) -> Tamper:
    async def tamper(request: SnapshotRequest, reply: bytes) -> bytes:
        return encode(change(decode(Offer, reply))) if request.subject == OFFER else reply

    return tamper


def in_handoffs(change: Callable[[HandoffsReply], HandoffsReply]) -> Tamper:
    async def tamper(request: SnapshotRequest, reply: bytes) -> bytes:
        is_meant = request.subject == HANDOFFS
        return encode(change(decode(HandoffsReply, reply))) if is_meant else reply

    return tamper


def in_parts(change: Callable[[PartReply], PartReply]) -> Tamper:
    async def tamper(request: SnapshotRequest, reply: bytes) -> bytes:
        return encode(change(decode(PartReply, reply))) if request.subject == PART else reply

    return tamper


def moved(offer: Offer, **changes: object) -> Offer:
    assert offer.boundary is not None
    return replace(offer, boundary=replace(offer.boundary, **changes))


def voted(offer: Offer, **changes: object) -> Offer:
    assert offer.boundary is not None
    votes = replace(offer.boundary.votes, **changes)
    return replace(offer, boundary=replace(offer.boundary, votes=votes))


def richer(reply: PartReply) -> PartReply:
    """Somebody gets another byte into the last entry."""
    *others, (name, value) = reply.entries
    return PartReply((*others, (name, value[:-1] + bytes([value[-1] ^ 1]))))


def swapped(parts: tuple[PartName, ...]) -> tuple[PartName, ...]:
    """Names with a lone entry in the place of its empty neighbour: the root stays the same."""
    found = list(parts)
    one = next(i for i, p in enumerate(parts) if p.is_single and parts[i ^ 1].digest == NO_DIGEST)
    found[one], found[one ^ 1] = found[one ^ 1], found[one]
    return tuple(found)


LIES: dict[str, Tamper] = {
    "root": in_offer(lambda o: moved(o, state_root=digest("other"))),
    "rest": in_offer(lambda o: moved(o, rest=digest("other"))),
    "view": in_offer(lambda o: moved(o, view=View(9))),
    "height": in_offer(lambda o: moved(o, height=Height(49))),
    "far future": in_offer(lambda o: moved(o, height=Height(10**10 + 9))),
    "not an end": in_offer(lambda o: moved(o, height=Height(38))),
    "too few votes": in_offer(lambda o: voted(o, bitmap=1, signatures=bytes(64))),
    "vote": in_offer(lambda o: voted(o, signatures=bytes(5 * 64))),
    "validators": in_offer(
        lambda o: replace(o, boundary=o.boundary and replace(o.boundary, validators=()))
    ),
    "part names": in_offer(lambda o: replace(o, parts=o.parts[::-1])),
    "a part less": in_offer(lambda o: replace(o, parts=o.parts[:-1])),
    "no parts": in_offer(lambda o: replace(o, parts=())),
    "a lone entry in the other half": in_offer(lambda o: replace(o, parts=swapped(o.parts))),
    "too many parts": in_offer(lambda o: replace(o, parts=o.parts[:1] * 8192)),
    "no handoffs": in_handoffs(lambda _: HandoffsReply(())),
    "handoffs backwards": in_handoffs(lambda r: HandoffsReply(r.handoffs[::-1])),
    "a handoff twice": in_handoffs(lambda r: HandoffsReply(r.handoffs[:1] * 2)),
    "a handoff missing": in_handoffs(lambda r: HandoffsReply(r.handoffs[1:])),
    "entry": in_parts(richer),
    "order": in_parts(lambda r: PartReply(r.entries[::-1])),
    "entry less": in_parts(lambda r: PartReply(r.entries[1:])),
    "entry twice": in_parts(lambda r: PartReply((*r.entries, r.entries[-1]))),
    "nothing": in_parts(lambda _: PartReply(())),
    "unknown kind": in_parts(lambda r: PartReply(((b"?", b"\x90"), *r.entries))),
}


@pytest.mark.rule("L60", "L61", "S20")
async def test_a_forged_snapshot_is_refused_and_another_peer_is_asked(
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_network(tmp_path) as network:
        archive = await network.server(1, a_chain())
        network.serve(2, archive)
        for number, (name, lie) in enumerate(LIES.items(), start=10):
            network.serve(1, archive, lie)
            monkeypatch.setattr(snapshot, "PART_BYTES", 64 if "lone" in name else 512)
            reader, newcomer, host = await network.peer(number)
            assert not await newcomer.join([key(1)]), name
            assert len(host.blamed) == 1, name
            assert str(host.blamed[0])
            assert (reader.head.state.height, reader.first) == (0, 1)
            if number % 5 == 0:
                assert await newcomer.join([key(1), key(2)]), name
                assert reader.head.state.height == 39


async def test_a_snapshot_of_another_network_is_refused(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with a_network(tmp_path) as network:
        await network.server(1, a_chain(name="other"))
        archive, newcomer, host = await network.peer(9)
        assert not await newcomer.join([key(1)])
        assert len(host.blamed) == 1
        assert archive.head.state.height == 0


async def served_offer(network: Network, number: int) -> Offer:
    handler = network.net.hosts[key(number)].handlers[SNAPSHOT_PROTOCOL]
    return decode(Offer, await handler(key(9), encode(SnapshotRequest(OFFER, Height(0), 0))))


@pytest.mark.rule("L61")
async def test_a_server_that_stops_midway_costs_no_part_twice(
    tmp_path: Path,
    autojump_clock: MockClock,
    small_parts: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The handoffs and parts that came from the first count when the second is asked."""
    monkeypatch.setattr(snapshots, "WORKERS", 1)
    left = [3]

    async def stop(request: SnapshotRequest, reply: bytes) -> bytes:
        if request.subject == PART:
            left[0] -= 1
            if left[0] < 0:
                raise Unreachable("gone")
        return reply

    async with a_network(tmp_path) as network:
        await network.server(1, a_chain(), stop)
        archive, newcomer, host = await network.peer(9)
        assert not await newcomer.join([key(1)])
        assert archive.head.state.height == 0
        await network.server(2, a_chain())
        network.asked.clear()
        assert await newcomer.join([key(2)])
        subjects = [request.subject for _, request in network.asked]
        assert HANDOFFS not in subjects
        offer = await served_offer(network, 2)
        filled = sum(part.digest != bytes(32) for part in offer.parts)
        assert subjects.count(PART) == filled - 3
        assert not host.blamed


@pytest.mark.rule("L60")
async def test_a_stale_snapshot_does_not_hold_a_newcomer_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Whoever is asked first, the newest that is proved counts; one that claims more is passed over."""
    async with a_network(tmp_path) as network:
        await network.server(1, a_chain(num_blocks=27))
        await network.server(2, a_chain(num_blocks=28), LIES["far future"])
        await network.server(3, a_chain())
        archive, newcomer, host = await network.peer(9)
        assert await newcomer.join([key(1), key(2), key(3)])
        assert archive.head.state.height == 39
        assert len(host.blamed) == 1


@pytest.mark.rule("L61")
async def test_a_server_that_never_ends_is_left_for_another(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async def dawdle(request: SnapshotRequest, reply: bytes) -> bytes:
        if request.subject == OFFER:
            return reply
        await trio.sleep(19.0)
        return encode(HandoffsReply(()))[:-1]

    async with a_network(tmp_path) as network:
        await network.server(1, a_chain(), dawdle)
        archive, newcomer, _ = await network.peer(9)
        await network.server(2, a_chain())
        began = trio.current_time()
        assert await newcomer.join([key(1), key(2)])
        assert trio.current_time() - began <= snapshots.TRY_S + 5
        assert archive.head.state.height == 39


@pytest.mark.rule("L62")
async def test_blocks_before_a_snapshot_are_fetched_and_believed_by_their_hashes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The leaves that a dispute needs are in blocks from before a newcomer began."""
    ledger = a_chain()

    async def forge(request: SnapshotRequest, reply: bytes) -> bytes:
        if request.subject != EARLIER:
            return reply
        blocks = decode(EarlierReply, reply).blocks
        first = replace(blocks[0].header, state_root=digest("other"))
        return encode(EarlierReply((Block(first, ()), *blocks[1:])))

    async with a_network(tmp_path) as network:
        await network.server(1, ledger, forge)
        await network.server(2, ledger)
        archive, newcomer, host = await network.peer(9)
        await newcomer.join([key(2)])
        await newcomer.fill([key(1)], Height(30))
        assert (archive.first, len(host.blamed)) == (40, 1)
        await newcomer.fill([key(1), key(2)], Height(30))
        assert archive.first <= 30
        for height in range(archive.first, 40):
            link = archive.block_at(Height(height))
            assert link is not None
            assert link[0] == ledger.links[height - 1][0]


def renamed(home: Path, number: int) -> Path:
    """A home with the store of a node."""
    folder = home / f"home-{number}"
    folder.mkdir()
    (home / f"{number}.sqlite").rename(folder / STORE_FILE)
    return folder


@pytest.mark.rule("L60", "L62")
async def test_a_node_that_began_with_a_snapshot_votes_verifies_and_says_so(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It offers to validate, is chosen, and agrees with the rest; its home says what was checked."""
    net, genesis = MemoryNet(), a_genesis(1, epoch_blocks=EPOCH)
    hosts = [MemoryHost(net, numbered_key(number)) for number in range(5)]
    async with a_ledger(tmp_path, genesis, 0, hosts[0]) as founder:
        await founder.wait_height(45)
        async with trio.open_nursery() as nursery:
            told = list[int]()

            async def join(number: int, secret: SecretKey) -> None:
                async with a_ledger(tmp_path, genesis, number, hosts[number]) as ledger:
                    await ledger.wait_height(46)
                    told.append(ledger.first)
                    await ledger.submit(Validate(is_on=True))
                    await ledger.wait_height(80)
                    assert secret.peer in {voter.peer for voter in ledger.state.validators}
                    assert ledger.is_validator
                    net.cut.add(hosts[0].peer)  # the founder is needed no more
                    await ledger.wait_height(85)

            for number in range(1, 5):
                nursery.start_soon(join, number, numbered_key(number))
        assert told == [40] * 4
        assert not any(host.blamed for host in hosts)
    with open_ledger(renamed(tmp_path, 2)) as read:
        report = read.verify()
        assert report.start == 69
        assert report.began_with.startswith("the handoffs of 7 epochs (")
        assert report.began_with.endswith("snapshot at height 69, not from block 1")
        assert read.verify(trusted=report.trusted_epoch).start == 69
        key_ = account_key(numbered_key(3).peer)
        proof = read.prove([key_])
        assert verify_entries(genesis, proof, [(key_, Account)]) == [read.state.get(key_)]
        assert len(proof.handoffs) < read.state.next_epoch
    with open_ledger(renamed(tmp_path, 0)) as whole:
        assert whole.verify().began_with == "block 1"
