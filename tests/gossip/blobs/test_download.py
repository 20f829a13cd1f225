"""A download asks the able, spares those at rest, excludes cheats, and holds only what verified."""

import pytest

from swarm.errors import BrokenPromise, OutOfTurn, PeerFault, Unreachable
from swarm.gossip.blobs.chunks import BlobManifest, blob_manifest, blob_root
from swarm.gossip.blobs.download import (
    CHUNKS_IN_FLIGHT_MAX,
    IN_FLIGHT_MAX,
    PER_PEER_MAX,
    Begin,
    BlobSources,
    ChunkStore,
    ChunkTask,
    Download,
)
from swarm.gossip.trade.messages import (
    BLOB_CHUNKS,
    BLOB_CHUNKS_MAX,
    BlobFound,
    BlobMissing,
    blob_reply,
)
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
    return blob_reply(BlobFound(MANIFEST))


def chunks(first: int, count: int = 1) -> bytes:
    """An answer with these chunks."""
    return bytes([BLOB_CHUNKS]) + b"".join(chunk(first + at) for at in range(count))


def answer(
    download: Download, task: ChunkTask, raw: bytes, now: float = 0.0
) -> Begin | ChunkStore | None:
    """Let a download judge an answer and note its effect, as the service does."""
    try:
        effect = download.judge(task, raw)
    except PeerFault:
        download.rejected(task)
        raise
    download.receive(task, effect, now)
    return effect


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
    assert task.first is None
    assert answer(download, task, found()) == Begin(MANIFEST)
    assert not download.is_done
    download.begin(MANIFEST, frozenset(), 0.0)
    requests = tasks(download)
    assert [one.first for one in requests] == list(range(MANIFEST.num_chunks))
    for one in requests:
        assert one.first is not None
        effect = answer(download, one, chunks(one.first))
        assert effect == ChunkStore(one.first, chunk(one.first))
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
    assert [task.first for task in tasks(download)] == [1, 3, 4, 5]
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
        answer(download, task, found())


@pytest.mark.rule("G17")
@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (chunks(1), BrokenPromise),
        (chunks(0)[:-1], BrokenPromise),
        (chunks(0, 0), BrokenPromise),
        (chunks(0, 2), BrokenPromise),
        (found(), OutOfTurn),
        (b"garbage", PeerFault),
        (b"", PeerFault),
    ],
    ids=["another chunk", "short", "empty", "two", "manifest", "garbage", "nothing"],
)
def test_a_cheat_is_never_asked_again_and_its_chunk_comes_from_another(
    raw: bytes, fault: type[PeerFault]
) -> None:
    download = a_download()
    task = download.next_task(PEERS[:2], 0.0)
    assert task is not None
    with pytest.raises(fault):
        answer(download, task, raw)
    rest = tasks(download, PEERS[:2], now=1e9)
    assert rest[0].first == task.first
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
        answer(download, task, blob_reply(BlobFound(manifest)))
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
    sources.answered(peer, 1.0)
    sources.asked(peer)
    sources.lost(peer, now)
    assert sources.choose([peer], now + 0.5) == peer


def a_large_download() -> Download:
    """One of 40 chunks that holds its manifest."""
    data = bytes(40 << 20)
    manifest = blob_manifest(data, dtype="uint8", shape=(len(data),))
    download = Download(blob_root(manifest), len(data), now=0.0)
    download.begin(manifest, frozenset({9}), 0.0)
    return download


def zeros(task: ChunkTask) -> bytes:
    return bytes([BLOB_CHUNKS]) + bytes(task.count << 20)


def test_a_quick_peer_is_asked_for_more_at_once_and_a_slow_one_for_less() -> None:
    download, counts, now = a_large_download(), list[int](), 0.0
    for took_s in (0.1, 0.1, 0.1, 0.1, 3.0, 1.0, 3.0, 0.1):
        task = download.next_task(PEERS[:1], now)
        assert task is not None
        counts.append(task.count)
        now += took_s
        answer(download, task, zeros(task), now)
    assert counts == [1, 2, 4, 2, 4, 2, 2, 1], "the fourth ends at the chunk that is here already"
    task = download.next_task(PEERS[:1], now)
    assert task is not None
    assert (task.first, task.count) == (19, 2)
    download.lost(task, now)
    again = download.next_task(PEERS[:1], now + 1.0)
    assert again is not None
    assert (again.first, again.count) == (19, 1), "after a failure one by one"


def test_no_more_chunks_are_on_their_way_than_there_is_memory_for() -> None:
    download = a_large_download()
    while download.num_bytes_held < 20 << 20:
        for task in tasks(download):
            answer(download, task, zeros(task), 0.1)
    asked = tasks(download)
    assert max(task.count for task in asked) == BLOB_CHUNKS_MAX
    assert sum(task.count for task in asked) <= CHUNKS_IN_FLIGHT_MAX
    while not download.is_done:
        for task in asked:
            answer(download, task, zeros(task), 0.2)
        asked = tasks(download)
    assert download.num_bytes_held == 40 << 20


@pytest.mark.rule("G17")
def test_a_peer_without_the_blob_is_asked_again_a_little_later() -> None:
    download = a_download()
    task = download.next_task(PEERS[:1], 0.0)
    assert task is not None
    assert answer(download, task, blob_reply(BlobMissing())) is None
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
    assert task.first is not None
    answer(download, task, chunks(task.first), 61.0)
    assert not download.is_stalled(62.0, 60.0)


def test_without_peers_there_is_no_task() -> None:
    assert a_download().next_task([], 0.0) is None
