"""A download asks the able, spares those at rest, excludes cheats, and holds only what verified."""

import pytest

from swarm.errors import BrokenPromise, OutOfTurn, PeerFault, Unreachable
from swarm.gossip.blobs.chunks import BlobManifest, blob_manifest, blob_root
from swarm.gossip.blobs.download import (
    IN_FLIGHT_MAX,
    PER_PEER_MAX,
    Begin,
    BlobSources,
    ChunkStore,
    ChunkTask,
    Download,
)
from swarm.gossip.trade.messages import BlobChunk, BlobFound, BlobMissing
from swarm.primitives.codec import encode
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES
from swarm.primitives.crypto import SecretKey
from swarm.types import PeerId

DATA = bytes(range(251)) * 25_000
MANIFEST = blob_manifest(DATA, dtype="uint8", shape=(len(DATA),))
ROOT = blob_root(MANIFEST)
PEERS = [SecretKey.from_seed(bytes([i]) * 32).peer for i in range(1, 9)]


def chunk(index: int) -> bytes:
    return DATA[TENSOR_CHUNK_BYTES * index : TENSOR_CHUNK_BYTES * (index + 1)]


def found() -> bytes:
    return encode(BlobFound(MANIFEST))


def a_download(*, have: frozenset[int] = frozenset()) -> Download:
    """One that holds its manifest."""
    download = Download(ROOT, len(DATA), now=0.0)
    download.begin(MANIFEST, have, 0.0)
    return download


def tasks(
    download: Download, peers: list[PeerId] | None = None, now: float = 0.0
) -> list[ChunkTask]:
    out = []
    while (task := download.next_task(PEERS if peers is None else peers, now)) is not None:
        out.append(task)
    return out


def test_the_manifest_comes_first_and_then_every_chunk_once() -> None:
    download = Download(ROOT, len(DATA), now=0.0)
    (task,) = tasks(download)
    assert task.index is None
    assert download.receive(task, found(), 0.0) == Begin(MANIFEST)
    assert not download.is_done
    download.begin(MANIFEST, frozenset(), 0.0)
    requests = tasks(download)
    assert [one.index for one in requests] == list(range(MANIFEST.num_chunks))
    for one in requests:
        assert one.index is not None
        effect = download.receive(one, encode(BlobChunk(chunk(one.index))), 0.0)
        assert effect == ChunkStore(one.index, chunk(one.index))
    assert download.is_done
    assert download.num_bytes_held == len(DATA)


def test_work_is_spread_over_peers_and_limited() -> None:
    download = a_download()
    requests = tasks(download)
    assert len(requests) == min(IN_FLIGHT_MAX, MANIFEST.num_chunks)
    assert max(sum(one.peer == peer for one in requests) for peer in PEERS) == 1
    assert len(tasks(a_download(), [PEERS[0]])) == PER_PEER_MAX


def test_what_is_on_the_disk_already_is_not_asked_for() -> None:
    download = a_download(have=frozenset({0, 2}))
    assert [task.index for task in tasks(download)] == [1, 3, 4, 5]
    assert download.num_bytes_held == len(chunk(0)) + len(chunk(2))
    assert a_download(have=frozenset(range(MANIFEST.num_chunks))).is_done


@pytest.mark.rule("G16")
def test_a_larger_blob_than_allowed_is_the_fault_of_the_peer_that_named_it() -> None:
    """Not of the peer that has it, and not of our disk."""
    download = Download(ROOT, len(DATA) - 1, now=0.0)
    with pytest.raises(Unreachable, match="promised at most"):
        download.begin(MANIFEST, frozenset(), 0.0)
    task = download.next_task(PEERS, 0.0)
    assert task is not None
    with pytest.raises(Unreachable, match=f"has {len(DATA)} bytes"):
        download.receive(task, found(), 0.0)


@pytest.mark.rule("G17")
@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (encode(BlobChunk(chunk(1))), BrokenPromise),
        (encode(BlobChunk(chunk(0)[:-1])), BrokenPromise),
        (encode(BlobChunk(b"")), BrokenPromise),
        (found(), OutOfTurn),
        (b"garbage", PeerFault),
    ],
    ids=["another chunk", "short", "empty", "manifest", "garbage"],
)
def test_a_cheat_is_never_asked_again_and_its_chunk_comes_from_another(
    raw: bytes, fault: type[PeerFault]
) -> None:
    download = a_download()
    task = download.next_task(PEERS[:2], 0.0)
    assert task is not None
    with pytest.raises(fault):
        download.receive(task, raw, 0.0)
    rest = tasks(download, PEERS[:2], now=1e9)
    assert rest[0].index == task.index
    assert all(one.peer != task.peer for one in rest)


@pytest.mark.rule("G16")
@pytest.mark.parametrize(
    "manifest",
    [blob_manifest(b"x", dtype="uint8", shape=(1,)), BlobManifest("uint8", (), 5, b"", b"12345")],
)
def test_a_false_manifest_excludes_its_sender(manifest: BlobManifest) -> None:
    download = Download(ROOT, len(DATA), now=0.0)
    task = download.next_task(PEERS, 0.0)
    assert task is not None
    with pytest.raises(BrokenPromise):
        download.receive(task, encode(BlobFound(manifest)), 0.0)
    again = download.next_task(PEERS, 0.0)
    assert again is not None
    assert again.peer != task.peer


@pytest.mark.rule("G17")
def test_a_silent_peer_rests_longer_each_time_and_is_forgiven_when_it_answers() -> None:
    sources, peer = BlobSources(), PEERS[0]
    rests = []
    now = 0.0
    for _ in range(7):
        assert sources.choose([peer], now) == peer
        sources.asked(peer)
        sources.lost(peer, now)
        woke = next(t / 4 for t in range(1, 80) if sources.choose([peer], now + t / 4))
        rests.append(woke)
        now += woke
    assert rests == [0.5, 1, 2, 4, 8, 15, 15]
    sources.asked(peer)
    sources.answered(peer)
    sources.asked(peer)
    sources.lost(peer, now)
    assert sources.choose([peer], now + 0.5) == peer


@pytest.mark.rule("G17")
def test_a_peer_without_the_blob_is_asked_again_a_little_later() -> None:
    download = a_download()
    task = download.next_task(PEERS[:1], 0.0)
    assert task is not None
    assert download.receive(task, encode(BlobMissing()), 0.0) is None
    assert download.next_task(PEERS[:1], 1.0) is None
    assert download.next_task(PEERS[:1], 3.0) == task


def test_a_download_without_progress_is_stalled() -> None:
    download = a_download()
    assert not download.is_stalled(60.0, 60.0)
    assert download.is_stalled(60.1, 60.0)
    task = download.next_task(PEERS, 61.0)
    assert task is not None
    download.lost(task, 61.0)
    assert download.is_stalled(61.0, 60.0)
    task = download.next_task(PEERS, 61.0)
    assert task is not None
    assert task.index is not None
    download.receive(task, encode(BlobChunk(chunk(task.index))), 61.0)
    assert not download.is_stalled(62.0, 60.0)


def test_without_peers_there_is_no_task() -> None:
    assert a_download().next_task([], 0.0) is None
