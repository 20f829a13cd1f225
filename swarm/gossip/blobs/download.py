"""Schedule the download of one blob from many peers: the next chunk, and the peer to ask for it.

Core: time comes in as ``now``; only verified chunks go out.

    manifest, then each chunk:   WANTED --next_task--> ASKED --receive--> HELD
                                   ^                     |
                                   +-lost, missing, false+

A peer that sends wrong data is never asked again. A silent peer rests longer after each failure. A peer without
the blob rests briefly, because it may still be fetching it.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from swarm.errors import OutOfTurn, PeerFault, Unreachable
from swarm.gossip.blobs.chunks import (
    BLOB_BYTES_MAX,
    BlobManifest,
    check_blob_manifest,
    verify_blob_chunk,
)
from swarm.gossip.trade.messages import (
    BlobChunk,
    BlobFound,
    BlobMissing,
    BlobReply,
    decode_blob_reply,
)
from swarm.types import Digest, PeerId

PER_PEER_MAX = 2
"""Chunks requested from one peer at once: one travels while the next is read."""
IN_FLIGHT_MAX = 8
"""Chunks requested at once: 8 MiB of memory, and enough links to fill a downlink."""
REST_S = 0.5
"""Seconds that a peer rests after its first failure; doubles with each one up to ``REST_S_MAX``."""
REST_S_MAX = 15.0
MISSING_REST_S = 3.0
"""Seconds that a peer rests if it does not have the blob yet."""


@dataclass(slots=True)
class _Source:
    in_flight: int = 0
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

    def answered(self, peer: PeerId) -> None:
        """Count a valid answer of ``peer``, and forget its failures."""
        source = self._of(peer)
        source.in_flight -= 1
        source.failures = 0

    def lost(self, peer: PeerId, now: float) -> None:
        """Count a request that broke, timed out or was refused, and let ``peer`` rest."""
        source = self._of(peer)
        source.in_flight -= 1
        source.failures += 1
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
    """Effect: ask ``peer`` for chunk ``index``, or for the manifest if ``index`` is None."""

    peer: PeerId
    index: int | None


@dataclass(frozen=True, slots=True)
class Begin:
    """Effect: make room for this blob, then call ``begin`` with the chunks already held."""

    manifest: BlobManifest


@dataclass(frozen=True, slots=True)
class ChunkStore:
    """Effect: write a verified chunk at its position."""

    index: int
    data: bytes


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

    @property
    def is_done(self) -> bool:
        """True if every chunk is held."""
        return self.manifest is not None and self._missing == 0

    def is_stalled(self, now: float, patience_s: float) -> bool:
        """Return True if nothing new came for ``patience_s``."""
        return now - self._progress_at > patience_s

    def next_task(self, peers: Sequence[PeerId], now: float) -> ChunkTask | None:
        """Return the next request to send; None if nothing is left to ask for or no peer can be asked now."""
        if not self._wanted or self._in_flight >= IN_FLIGHT_MAX:
            return None
        peer = self._sources.choose(peers, now)
        if peer is None:
            return None
        self._sources.asked(peer)
        self._in_flight += 1
        return ChunkTask(peer, self._wanted.popleft())

    def receive(self, task: ChunkTask, raw: bytes, now: float) -> Begin | ChunkStore | None:
        """Process an answer and return its effect; None if the peer does not have the blob.

        Raises ``PeerFault`` if no honest peer sends it; the request is then queued again. Raises
        ``Unreachable`` for a valid manifest of a larger blob than this download allows: the size was misstated
        where the blob was named, not by the peer that serves it.
        """
        try:
            effect = self._check(task, decode_blob_reply(raw))
        except PeerFault:
            self.rejected(task)
            raise
        if effect is None:
            self._again(task)
            self._sources.missing(task.peer, now)
            return None
        self._in_flight -= 1
        self._sources.answered(task.peer)
        self._progress_at = now
        if isinstance(effect, Begin):
            self._check_size(effect.manifest)
        else:
            self._missing -= 1
            self.num_bytes_held += len(effect.data)
        return effect

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

    def _check(self, task: ChunkTask, reply: BlobReply) -> Begin | ChunkStore | None:
        match reply, task.index:
            case BlobFound(manifest), None:
                check_blob_manifest(manifest, self._root, BLOB_BYTES_MAX)
                return Begin(manifest)
            case BlobChunk(data), int(index):
                assert self.manifest is not None, "chunks are asked for only under a manifest"
                verify_blob_chunk(self.manifest, index, data)
                return ChunkStore(index, data)
            case BlobMissing(), _:
                return None
            case _:
                raise OutOfTurn(f"{type(reply).__name__} where it was not asked for")

    def _check_size(self, manifest: BlobManifest) -> None:
        if manifest.num_bytes > self._num_bytes_max:
            raise Unreachable(
                f"blob {self._root.hex()[:16]} has {manifest.num_bytes} bytes, and the peer that named it"
                f" promised at most {self._num_bytes_max}"
            )

    def _again(self, task: ChunkTask) -> None:
        self._in_flight -= 1
        self._wanted.appendleft(task.index)
