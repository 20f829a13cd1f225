"""Blobs arrive whole from honest peers, survive cancellation, and stay within their quota."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from swarm.errors import BadConfig, Unreachable, UsageError
from swarm.gossip.blobs.disk import partials
from swarm.gossip.blobs.service import BLOB_PROTOCOL, Blobs
from swarm.gossip.trade.messages import (
    BLOB_CHUNKS,
    BLOB_CHUNKS_MAX,
    BlobChunksRequest,
    BlobFound,
    BlobMissing,
    ManifestRequest,
    blob_reply,
    decode_blob_reply,
    decode_blob_request,
)
from swarm.primitives.codec import encode
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES, tensor_hash
from swarm.types import NO_DIGEST, Bytes, Digest, PeerId
from tests.fakes import FakeHost, FakeNetwork

SMALL = b"a small blob"
BIG = bytes(range(251)) * 25_000
QUOTA = 1 << 30


class Node:
    """A host with blobs."""

    def __init__(
        self, network: FakeNetwork, number: int, tmp_path: Path, *, quota_bytes: int = QUOTA
    ) -> None:
        self.host = network.host(number)
        self.folder = tmp_path / str(number)
        self.blobs = Blobs(self.folder, self.host, quota_bytes=quota_bytes)


def a_network() -> FakeNetwork:
    return FakeNetwork(delay_s=0.001)


async def fetched(
    node: Node, root: Digest, peers: Sequence[PeerId], *, patience_s: float = 60.0
) -> bytes:
    with trio.fail_after(60):
        path = await node.blobs.fetch(root, len(BIG), lambda: peers, patience_s=patience_s)
    return path.read_bytes()


@pytest.mark.parametrize("data", [b"", SMALL, BIG], ids=["empty", "small", "big"])
async def test_a_blob_is_fetched_and_served_on(tmp_path: Path, data: bytes) -> None:
    network = a_network()
    first, second, third = (Node(network, number, tmp_path) for number in (1, 2, 3))
    root = await first.blobs.add(data)
    assert await fetched(second, root, [first.host.peer]) == data
    first.host.is_alive = False
    assert await fetched(third, root, [first.host.peer, second.host.peer]) == data
    assert third.blobs.roots() == [root]
    assert third.blobs.path(root).read_bytes() == data


async def test_a_file_is_added_and_a_tensor_keeps_its_own_name(tmp_path: Path) -> None:
    node = Node(a_network(), 1, tmp_path)
    (tmp_path / "corpus").write_bytes(BIG)
    assert await node.blobs.add(tmp_path / "corpus") == tensor_hash("uint8", (len(BIG),), BIG)
    root = await node.blobs.add(SMALL, dtype="float32", shape=(3,))
    assert root == tensor_hash("float32", (3,), SMALL)
    await node.blobs.remove(root)
    assert not node.blobs.has(root)
    with pytest.raises(UsageError):
        node.blobs.path(root)


Answer = Callable[[bytes, bytes], bytes]


def bend(host: FakeHost, answer: Answer) -> None:
    honest = host.answer

    async def bent(asker: PeerId, protocol: str, request: bytes) -> bytes:
        return answer(request, await honest(asker, protocol, request))

    host.answer = bent  # type: ignore[method-assign]


def chunks(data: Bytes) -> bytes:
    return bytes([BLOB_CHUNKS]) + data


def zeros(request: bytes, reply: bytes) -> bytes:
    decoded = decode_blob_reply(reply)
    return chunks(bytes(len(decoded))) if isinstance(decoded, memoryview) else reply


def short(request: bytes, reply: bytes) -> bytes:
    decoded = decode_blob_reply(reply)
    return chunks(decoded[:-1]) if isinstance(decoded, memoryview) else reply


def garbage(request: bytes, reply: bytes) -> bytes:
    return b"\xc1garbage"


def oversize(request: bytes, reply: bytes) -> bytes:
    return chunks(bytes((BLOB_CHUNKS_MAX + 1) << 20))


def other_blob(request: bytes, reply: bytes) -> bytes:
    decoded = decode_blob_reply(reply)
    if isinstance(decoded, BlobFound):
        return blob_reply(BlobFound(decoded.manifest.__class__("uint8", (1,), 1, b"", b"x")))
    return reply


@pytest.mark.rule("G17")
@pytest.mark.parametrize("lie", [zeros, short, garbage, oversize, other_blob])
async def test_one_cheat_among_three_is_blamed_and_the_blob_arrives(
    tmp_path: Path, lie: Answer
) -> None:
    network = a_network()
    senders = [Node(network, number, tmp_path) for number in (1, 2, 3)]
    receiver = Node(network, 4, tmp_path)
    for sender in senders:
        root = await sender.blobs.add(BIG)
    peers = sorted(sender.host.peer for sender in senders)
    cheat = next(sender for sender in senders if sender.host.peer == peers[0])
    bend(cheat.host, lie)
    assert await fetched(receiver, root, peers) == BIG
    assert set(receiver.host.faults()) == {cheat.host.peer}


async def test_a_peer_without_the_blob_and_a_dead_one_cost_only_time(tmp_path: Path) -> None:
    network = a_network()
    sender, empty, dead, receiver = (Node(network, number, tmp_path) for number in (1, 2, 3, 4))
    root = await sender.blobs.add(BIG)
    dead.host.is_alive = False
    peers = [dead.host.peer, empty.host.peer, sender.host.peer]
    assert await fetched(receiver, root, peers) == BIG
    assert receiver.host.blamed == []


@pytest.mark.rule("G18")
async def test_a_cancelled_fetch_goes_on_where_it_was(tmp_path: Path) -> None:
    network = a_network()
    sender, receiver = Node(network, 1, tmp_path), Node(network, 2, tmp_path)
    root = await sender.blobs.add(BIG)
    seen: list[int] = []
    with trio.fail_after(60), trio.CancelScope() as scope:

        def progress(held: int, total: int) -> None:
            assert total == len(BIG)
            seen.append(held)
            if held >= 2 * TENSOR_CHUNK_BYTES:
                scope.cancel()

        await receiver.blobs.fetch(root, len(BIG), lambda: [sender.host.peer], progress)
    assert not receiver.blobs.has(root)
    assert seen == sorted(seen)
    before = sender.host.calls.total() + receiver.host.calls.total()
    again = Blobs(receiver.folder, receiver.host, quota_bytes=QUOTA)
    with trio.fail_after(60):
        path = await again.fetch(root, len(BIG), lambda: [sender.host.peer])
    assert path.read_bytes() == BIG
    calls = sender.host.calls.total() + receiver.host.calls.total() - before
    assert calls <= -(-len(BIG) // TENSOR_CHUNK_BYTES) - 2


async def test_two_fetches_of_one_blob_are_one(tmp_path: Path) -> None:
    network = a_network()
    sender, receiver = Node(network, 1, tmp_path), Node(network, 2, tmp_path)
    root = await sender.blobs.add(BIG)
    asked = list[int]()

    def noted(request: bytes, reply: bytes) -> bytes:
        said = decode_blob_request(request)
        if isinstance(said, ManifestRequest):
            asked.append(-1)
        else:
            asked.extend(range(said.first, said.first + said.count))
        return reply

    bend(sender.host, noted)
    got: list[bytes] = []

    async def one() -> None:
        got.append(await fetched(receiver, root, [sender.host.peer]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)
    assert got == [BIG, BIG]
    assert sorted(asked) == list(range(-1, -(-len(BIG) // TENSOR_CHUNK_BYTES))), "each once"


async def test_a_blob_over_the_quota_is_refused_with_a_remedy(tmp_path: Path) -> None:
    network = a_network()
    sender = Node(network, 1, tmp_path)
    receiver = Node(network, 2, tmp_path, quota_bytes=1 << 20)
    root = await sender.blobs.add(BIG)
    with pytest.raises(BadConfig) as caught:
        await fetched(receiver, root, [sender.host.peer])
    assert caught.value.hint
    with pytest.raises(BadConfig):
        await receiver.blobs.add(BIG)


@pytest.mark.rule("G16")
async def test_a_blob_larger_than_expected_is_refused_and_no_peer_is_blamed(tmp_path: Path) -> None:
    """The peer that named it misstated its size; a part that is here already makes no difference."""
    network = a_network()
    sender, receiver = Node(network, 1, tmp_path), Node(network, 2, tmp_path)
    root = await sender.blobs.add(BIG)
    with trio.fail_after(60):
        with pytest.raises(Unreachable, match="promised at most"):
            await receiver.blobs.fetch(root, len(BIG) - 1, lambda: [sender.host.peer])
        with trio.CancelScope() as scope:
            await receiver.blobs.fetch(
                root, len(BIG), lambda: [sender.host.peer], lambda *_: scope.cancel()
            )
        assert scope.cancelled_caught
        with pytest.raises(Unreachable, match="promised at most"):
            await receiver.blobs.fetch(root, len(BIG) - 1, lambda: [sender.host.peer])
    assert receiver.host.faults() == {}
    assert not receiver.blobs.has(root)


async def test_a_blob_that_no_peer_has_is_an_error_after_the_patience(tmp_path: Path) -> None:
    receiver = Node(a_network(), 1, tmp_path)
    with pytest.raises(Unreachable):
        await fetched(receiver, NO_DIGEST, [], patience_s=0.1)


@pytest.mark.rule("G19")
async def test_a_damaged_disk_makes_no_peer_a_cheat(tmp_path: Path) -> None:
    network = a_network()
    rotten, good, receiver = (Node(network, number, tmp_path) for number in (1, 2, 3))
    for sender in (rotten, good):
        root = await sender.blobs.add(BIG)
    with rotten.blobs.path(root).open("r+b") as file:
        file.seek(2 * TENSOR_CHUNK_BYTES)
        file.write(b"rot")
    assert await fetched(receiver, root, [rotten.host.peer, good.host.peer]) == BIG
    assert receiver.host.blamed == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"\xc1",
        bytes(5000),
        encode(ManifestRequest(Digest(b"../../etc/passwd"))),
        encode((2, NO_DIGEST, "0")),
    ],
    ids=["empty", "garbage", "oversize", "path", "text"],
)
async def test_a_hostile_request_is_blamed(tmp_path: Path, request_bytes: bytes) -> None:
    network = a_network()
    sender, asker = Node(network, 1, tmp_path), Node(network, 2, tmp_path)
    with pytest.raises(Unreachable):
        await asker.host.call(sender.host.peer, BLOB_PROTOCOL, request_bytes, timeout_s=30)
    assert sender.host.faults() == {asker.host.peer: 1}


@pytest.mark.parametrize(
    ("first", "count"),
    [(-1, 1), (6, 1), (1 << 60, 1), (5, 2), (0, 0), (0, -1), (0, 5), (3, 1 << 60)],
)
async def test_chunks_past_the_end_or_too_many_are_the_peers_fault(
    tmp_path: Path, first: int, count: int
) -> None:
    network = a_network()
    sender, asker = Node(network, 1, tmp_path), Node(network, 2, tmp_path)
    root = await sender.blobs.add(BIG)
    request = encode(BlobChunksRequest(root, first, count))
    assert decode_blob_request(request) == BlobChunksRequest(root, first, count)
    with pytest.raises(Unreachable):
        await asker.host.call(sender.host.peer, BLOB_PROTOCOL, request, timeout_s=30)
    assert sender.host.faults() == {asker.host.peer: 1}


async def test_what_is_not_here_is_missing_not_an_error(tmp_path: Path) -> None:
    network = a_network()
    sender, asker = Node(network, 1, tmp_path), Node(network, 2, tmp_path)
    for request in (ManifestRequest(NO_DIGEST), BlobChunksRequest(NO_DIGEST, 0, 1)):
        raw = await asker.host.call(sender.host.peer, BLOB_PROTOCOL, encode(request), timeout_s=30)
        assert decode_blob_reply(raw) == BlobMissing()


@pytest.mark.rule("G20")
async def test_a_download_in_use_keeps_its_place_and_an_abandoned_one_makes_way(
    tmp_path: Path,
) -> None:
    network = a_network()
    one = Node(network, 1, tmp_path)
    two = Node(network, 2, tmp_path, quota_bytes=2 * len(BIG))
    roots = [await one.blobs.add(BIG + bytes([number])) for number in range(2)]
    with trio.CancelScope() as scope:

        def cut_off(held: int, _: int) -> None:
            if held:
                scope.cancel()

        await two.blobs.fetch(roots[0], 2 * len(BIG), lambda: [one.host.peer], cut_off)
    (left,) = partials(two.folder)
    assert left.root == roots[0]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(two.blobs.fetch, roots[0], 2 * len(BIG), list)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BadConfig, match="do not fit"):
            await two.blobs.add(BIG + b"another")
        nursery.cancel_scope.cancel()
    await two.blobs.add(BIG + b"another")
    assert partials(two.folder) == []


async def test_a_caller_that_waits_for_a_shared_download_waits_no_longer_than_its_own_patience(
    tmp_path: Path,
) -> None:
    network = a_network()
    receiver, sender = Node(network, 1, tmp_path), Node(network, 2, tmp_path)
    root = await sender.blobs.add(BIG)
    sender.host.is_alive = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver.blobs.fetch, root, len(BIG), lambda: [sender.host.peer])
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(10), pytest.raises(Unreachable, match="no peer serves"):
            await receiver.blobs.fetch(root, len(BIG), list, patience_s=0.2)
        sender.host.is_alive = True
        with trio.fail_after(60):
            await receiver.blobs.fetch(root, len(BIG), list)
    assert receiver.blobs.has(root)


async def test_what_a_node_keeps_back_is_served_to_nobody(tmp_path: Path) -> None:
    network = a_network()
    sender, receiver = Node(network, 1, tmp_path), Node(network, 2, tmp_path)
    mine, shared = await sender.blobs.add(b"mine"), await sender.blobs.add(b"shared")
    sender.blobs.keep_back(lambda root: root == mine)
    assert await fetched(receiver, shared, [sender.host.peer]) == b"shared"
    with pytest.raises(Unreachable):
        await fetched(receiver, mine, [sender.host.peer], patience_s=1.0)
    assert sender.blobs.path(mine).read_bytes() == b"mine"
