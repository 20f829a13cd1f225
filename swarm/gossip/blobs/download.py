"""Schedule the download of one blob from many peers: the next chunk, and the peer to ask for it.

Core: time comes in as ``now``; only verified chunks go out.

    manifest, then each chunk:   WANTED --next_task--> ASKED --judge, receive--> HELD
                                   ^                     |
                                   +-lost, missing, false+

One chunk is asked for first; a peer that answers quickly is asked for more of them at once.

A peer that sends wrong data is never asked again. A silent peer rests longer after each failure. A peer without
the blob rests briefly, because it may still be fetching it.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from swarm.errors import OutOfTurn, Unreachable
from swarm.gossip.blobs.chunks import (
    BLOB_BYTES_MAX,
    BlobManifest,
    check_blob_manifest,
    verify_blob_chunks,
)
from swarm.gossip.trade.messages import (
    BLOB_CHUNKS_MAX,
    BlobFound,
    BlobMissing,
    decode_blob_reply,
)
from swarm.types import Bytes, Digest, PeerId

PER_PEER_MAX = 3
"""Requests to one peer at once: while one answer is written, another travels and a third is read."""
IN_FLIGHT_MAX = 8
"""Requests at once: enough links to fill a downlink."""
CHUNKS_IN_FLIGHT_MAX = 16
"""Chunks requested at once: 16 MiB of memory."""
QUICK_S, SLOW_S = 0.5, 2.0
"""Seconds for an answer up to which twice as many chunks are asked for next, and from which half as many."""
REST_S = 0.5
"""Seconds that a peer rests after its first failure; doubles with each one up to ``REST_S_MAX``."""
REST_S_MAX = 15.0
MISSING_REST_S = 3.0
"""Seconds that a peer rests if it does not have the blob yet."""


@dataclass(slots=True)
class _Source:
    in_flight: int = 0
    at_once: int = 1
    """Chunks that the next request asks for."""
    failures: int = 0
    asked: int = 0
    resting_until: float = 0.0
    is_excluded: bool = False


@dataclass(slots=True)
class BlobSources:
    """Peers of one download, with their open requests, failures and rests."""

    _sources: dict[PeerId, _Source] = field(default_factory=dict[PeerId, _Source])

    def choose(self, peers: Sequence[PeerId], now: float) -> PeerId | None:
        """Return the least busy, then most reliable, then least asked peer; None if none can be asked now."""
        able = [(self._of(peer), peer) for peer in peers if self._is_able(peer, now)]
        if not able:
            return None
        return min(able, key=lambda s: (s[0].in_flight, s[0].failures, s[0].asked, s[1]))[1]

    def asked(self, peer: PeerId) -> None:
        """Count a request to ``peer``."""
        source = self._of(peer)
        source.in_flight += 1
        source.asked += 1

    def at_once(self, peer: PeerId) -> int:
        """Return how many chunks ``peer`` is asked for in one request."""
        return self._of(peer).at_once

    def answered(self, peer: PeerId, took_s: float) -> None:
        """Count a valid answer of ``peer``, and forget its failures."""
        source = self._of(peer)
        source.in_flight -= 1
        source.failures = 0
        if took_s <= QUICK_S:
            source.at_once = min(2 * source.at_once, BLOB_CHUNKS_MAX)
        elif took_s >= SLOW_S:
            source.at_once = max(source.at_once // 2, 1)

    def lost(self, peer: PeerId, now: float) -> None:
        """Count a request that broke, timed out or was refused, and let ``peer`` rest."""
        source = self._of(peer)
        source.in_flight -= 1
        source.failures += 1
        source.at_once = 1
        source.resting_until = now + min(REST_S * 2.0 ** (source.failures - 1), REST_S_MAX)

    def missing(self, peer: PeerId, now: float) -> None:
        """Count an answer that ``peer`` does not have the blob, and let it rest."""
        source = self._of(peer)
        source.in_flight -= 1
        source.resting_until = now + MISSING_REST_S

    def rejected(self, peer: PeerId) -> None:
        """Exclude ``peer`` for good: its answer was invalid."""
        source = self._of(peer)
        source.in_flight -= 1
        source.is_excluded = True

    def _of(self, peer: PeerId) -> _Source:
        return self._sources.setdefault(peer, _Source())

    def _is_able(self, peer: PeerId, now: float) -> bool:
        source = self._of(peer)
        return (
            not source.is_excluded
            and source.in_flight < PER_PEER_MAX
            and source.resting_until <= now
        )


@dataclass(frozen=True, slots=True)
class ChunkTask:
    """Effect: ask ``peer`` for ``count`` chunks from ``first`` on, or for the manifest if that is None."""

    peer: PeerId
    first: int | None
    count: int
    asked_at: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class Begin:
    """Effect: make room for this blob, then call ``begin`` with the chunks already held."""

    manifest: BlobManifest


@dataclass(frozen=True, slots=True)
class ChunkStore:
    """Effect: write verified chunks at the position of the first."""

    first: int
    data: Bytes


class Download:
    """State machine that fetches one blob: first its manifest, then its chunks."""

    def __init__(self, root: Digest, num_bytes_max: int, *, now: float) -> None:
        self.manifest: BlobManifest | None = None
        self.num_bytes_held = 0
        self._root = root
        self._num_bytes_max = num_bytes_max
        self._progress_at = now
        self._sources = BlobSources()
        self._wanted: deque[int | None] = deque([None])
        self._missing = 1
        self._in_flight = 0
        self._chunks_in_flight = 0

    @property
    def is_done(self) -> bool:
        """True if every chunk is held."""
        return self.manifest is not None and self._missing == 0

    def is_stalled(self, now: float, patience_s: float) -> bool:
        """Return True if nothing new came for ``patience_s``."""
        return now - self._progress_at > patience_s

    def next_task(self, peers: Sequence[PeerId], now: float) -> ChunkTask | None:
        """Return the next request to send; None if nothing is left to ask for or no peer can be asked now."""
        room = CHUNKS_IN_FLIGHT_MAX - self._chunks_in_flight
        if not self._wanted or self._in_flight >= IN_FLIGHT_MAX or not room:
            return None
        peer = self._sources.choose(peers, now)
        if peer is None:
            return None
        first, count = self._wanted.popleft(), 1
        if first is not None:
            most = min(self._sources.at_once(peer), room)
            while count < most and self._wanted and self._wanted[0] == first + count:
                self._wanted.popleft()
                count += 1
        self._sources.asked(peer)
        self._in_flight += 1
        self._chunks_in_flight += count
        return ChunkTask(peer, first, count, now)

    def judge(self, task: ChunkTask, raw: bytes) -> Begin | ChunkStore | None:
        """Return the effect of an answer, which it checks; None if the peer does not have the blob.

        Nothing changes: it may run in a thread, and ``receive`` or ``rejected`` follows. Raises ``PeerFault``
        if no honest peer sends it.
        """
        match decode_blob_reply(raw), task.first:
            case BlobFound(manifest), None:
                check_blob_manifest(manifest, self._root, BLOB_BYTES_MAX)
                return Begin(manifest)
            case memoryview() as data, int(first):
                assert self.manifest is not None, "chunks are asked for only under a manifest"
                verify_blob_chunks(self.manifest, first, task.count, data)
                return ChunkStore(first, data)
            case BlobMissing(), _:
                return None
            case _:
                raise OutOfTurn("an answer to another question")

    def receive(self, task: ChunkTask, effect: Begin | ChunkStore | None, now: float) -> None:
        """Note the effect of an answer.

        Raises ``Unreachable`` for a valid manifest of a larger blob than this download allows: the size was
        misstated where the blob was named, not by the peer that serves it.
        """
        if effect is None:
            self._again(task)
            self._sources.missing(task.peer, now)
            return
        self._left(task)
        self._sources.answered(task.peer, now - task.asked_at)
        self._progress_at = now
        if isinstance(effect, Begin):
            self._check_size(effect.manifest)
        else:
            self._missing -= task.count
            self.num_bytes_held += len(effect.data)

    def begin(self, manifest: BlobManifest, have: Collection[int], now: float) -> None:
        """Start fetching the chunks that are not in ``have``, after room was made.

        Raises ``Unreachable`` if the blob is larger than this download allows.
        """
        self._check_size(manifest)
        self.manifest = manifest
        self._wanted = deque(i for i in range(manifest.num_chunks) if i not in have)
        self._missing = len(self._wanted)
        self._progress_at = now
        self.num_bytes_held = sum(manifest.chunk_length(index) for index in sorted(have))

    def lost(self, task: ChunkTask, now: float) -> None:
        """Queue a request again that broke, timed out or was refused."""
        self._again(task)
        self._sources.lost(task.peer, now)

    def rejected(self, task: ChunkTask) -> None:
        """Queue a request again whose answer was invalid, and exclude the peer."""
        self._again(task)
        self._sources.rejected(task.peer)

    def _check_size(self, manifest: BlobManifest) -> None:
        if manifest.num_bytes > self._num_bytes_max:
            raise Unreachable(
                f"blob {self._root.hex()[:16]} has {manifest.num_bytes} bytes, and the peer that named it"
                f" promised at most {self._num_bytes_max}"
            )

    def _left(self, task: ChunkTask) -> None:
        self._in_flight -= 1
        self._chunks_in_flight -= task.count

    def _again(self, task: ChunkTask) -> None:
        self._left(task)
        if task.first is None:
            self._wanted.appendleft(None)
        else:
            self._wanted.extendleft(reversed(range(task.first, task.first + task.count)))
