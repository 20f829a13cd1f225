"""Evidence for strangers: one file with all that it takes to judge a window, and how it is read and written.

Core: bounded formats, pure functions; a file is a function that returns its next bytes.

    file = magic | length of the head | head | parts, in the order of the head
    part = log of the window | list of what was sent | weights | hashes of the text's chunks | its chunks

The head has the genesis, the solver's signed manifest, and a light proof of the entries of ``evidence_keys``
under a final header. Every part is under a hash in one of these, so it needs no other check than that; a part
is packed by zstandard where that is shorter. ``evidence_check`` says what a file proves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from swarm.config.spec import Genesis
from swarm.errors import BadEncoding
from swarm.gossip.codecs.int8 import compress, decompress
from swarm.ledger.light import LIGHT_PROOF_BYTES_MAX, LightProof
from swarm.ledger.state.records import StageSeats
from swarm.ledger.state.runs import checkpoint_key, round_key, run_key, stage_key
from swarm.ledger.state.state import Reader, check_genesis, segment_key
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES
from swarm.training.record.window import WINDOW_BYTES_MAX, WindowKey
from swarm.types import Bytes, RoundIndex
from swarm.verify.answers import seat_of
from swarm.verify.edges import SENT_BYTES_MAX
from swarm.verify.manifest import WindowManifest

MAGIC = b"SWARMEV2"
"""First bytes of evidence; the last digit is the version of the format."""
FILE_BYTES_MAX = 512 << 20
"""Bytes of a file, and of all its parts together before they were packed: they are read into memory."""
HEAD_BYTES_MAX = LIGHT_PROOF_BYTES_MAX + (16 << 20)
"""Bytes of a head: a light proof, and a genesis of 65,536 accounts."""
TEXT_BYTES_MAX = 128 << 20
"""Bytes of the chunks of text in a file; a window that reads more is judged with the text beside the file."""
PARTS_MAX = 1 << 10
CHUNK_HASHES_BYTES_MAX = 1 << 20
_LENGTH_BYTES = 4
_NOT_EVIDENCE = "not evidence that swarm audit --evidence wrote"


class PartKind(IntEnum):
    """Kind of a part of a file."""

    LOG = 1
    SENT = 2
    WEIGHTS = 3
    """Canonical anchors of the window, and the weights below the adapter of the run, as float32."""
    CHUNK_HASHES = 4
    CHUNK = 5


_BYTES_MAX: Mapping[int, int] = {
    PartKind.LOG: WINDOW_BYTES_MAX,
    PartKind.SENT: SENT_BYTES_MAX,
    PartKind.WEIGHTS: FILE_BYTES_MAX,
    PartKind.CHUNK_HASHES: CHUNK_HASHES_BYTES_MAX,
    PartKind.CHUNK: TENSOR_CHUNK_BYTES,
}


class Part(Message, frozen=True):
    """A part as the head lists it."""

    kind: int
    index: int
    """Number of a chunk in the text; else the number among its kind."""
    num_bytes: int
    wire_bytes: int
    """Bytes in the file: fewer than ``num_bytes`` where it is packed."""


class EvidenceHead(Message, frozen=True):
    """Head of a file."""

    genesis: Genesis
    manifest: WindowManifest
    """Statement of the solver about the log."""
    checkpoint_rounds: tuple[RoundIndex, ...]
    """Rounds of all checkpoints of the stage that the ledger lists: no other weights are canonical."""
    proof: LightProof
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A file as it was read: its bounds hold, and nothing else was checked."""

    genesis: Genesis
    manifest: WindowManifest
    checkpoint_rounds: tuple[RoundIndex, ...]
    proof: LightProof
    log: Bytes
    sent: Bytes
    """The encoded list of everything that the seat sent in its segment."""
    weights: tuple[Bytes, ...]
    chunk_hashes: bytes
    """32 bytes of each chunk of the text; empty for a text of one chunk, or where there are no chunks."""
    chunks: Mapping[int, Bytes]
    """Chunks of the training text, by number."""

    @property
    def key(self) -> WindowKey:
        """Key of the window."""
        return self.manifest.key


def evidence_keys(key: WindowKey, checkpoint_rounds: Sequence[RoundIndex]) -> list[bytes]:
    """Return the keys of the proved entries: run, round, segment, seats of the stage, its checkpoints."""
    run, round_, stage, _ = seat_of(key)
    return [
        run_key(run),
        round_key(run, round_),
        segment_key(*seat_of(key)),
        stage_key(run, stage),
        *(checkpoint_key(run, stage, number) for number in checkpoint_rounds),
    ]


def rounds_of_checkpoints(reader: Reader, key: WindowKey) -> tuple[RoundIndex, ...]:
    """Return the rounds of the checkpoints that a stage lists; none for one that is not there."""
    seats = reader.get(stage_key(key.run, key.stage))
    return seats.checkpoint_rounds if isinstance(seats, StageSeats) else ()


def is_evidence(first: bytes) -> bool:
    """Return True if a file that begins so says that it is evidence of some version."""
    return len(first) >= len(MAGIC) and first[: len(MAGIC) - 1] == MAGIC[:-1]


def encode_evidence_file(evidence: Evidence) -> list[Bytes]:
    """Return the pieces of a file, in order; raise ``BadEncoding`` if it is larger than anybody reads."""
    texts = sorted(evidence.chunks.items())
    raw: list[tuple[int, int, Bytes]] = [
        (PartKind.LOG, 0, evidence.log),
        (PartKind.SENT, 0, evidence.sent),
        *((PartKind.WEIGHTS, number, one) for number, one in enumerate(evidence.weights)),
        *([(PartKind.CHUNK_HASHES, 0, evidence.chunk_hashes)] if evidence.chunk_hashes else []),
        *((PartKind.CHUNK, number, one) for number, one in texts),
    ]
    _check_total(sum(len(data) for _, _, data in raw))
    packed = [compress(data) for _, _, data in raw]
    parts = tuple(
        Part(int(kind), number, len(data), len(wire))
        for (kind, number, data), wire in zip(raw, packed, strict=True)
    )
    head = encode(
        EvidenceHead(
            evidence.genesis,
            evidence.manifest,
            evidence.checkpoint_rounds,
            evidence.proof,
            parts,
        )
    )
    length = len(head).to_bytes(_LENGTH_BYTES, "big")
    _check_total(len(MAGIC) + _LENGTH_BYTES + len(head) + sum(map(len, packed)))
    return [MAGIC, length, head, *packed]


def read_evidence(read: Callable[[int], bytes]) -> Evidence:
    """Read a file from a function that returns its next bytes, as many as asked for, and fewer at its end.

    No more is asked for than the bounds allow, and nothing is kept but the parts. Raises ``BadEncoding`` that
    names what is wrong.
    """
    magic = read(len(MAGIC))
    if not is_evidence(magic):
        raise BadEncoding(_NOT_EVIDENCE)
    if magic != MAGIC:
        raise BadEncoding("evidence of another version of this program")
    length = int.from_bytes(_take(read, _LENGTH_BYTES, "its length"), "big")
    if length > HEAD_BYTES_MAX:
        raise BadEncoding(f"a head of {length} bytes, above {HEAD_BYTES_MAX >> 20} MiB")
    head = decode(EvidenceHead, _take(read, length, "its head"), limit=HEAD_BYTES_MAX)
    check_genesis(head.genesis)
    _check_parts(head.parts)
    found: dict[int, dict[int, Bytes]] = {kind: {} for kind in PartKind}
    for part in head.parts:
        found[part.kind][part.index] = _read_part(read, part)
    if read(1):
        raise BadEncoding("a file that goes on after its last part")
    return Evidence(
        genesis=head.genesis,
        manifest=head.manifest,
        checkpoint_rounds=head.checkpoint_rounds,
        proof=head.proof,
        log=found[PartKind.LOG][0],
        sent=found[PartKind.SENT][0],
        weights=tuple(found[PartKind.WEIGHTS].values()),
        chunk_hashes=bytes(found[PartKind.CHUNK_HASHES].get(0, b"")),
        chunks=found[PartKind.CHUNK],
    )


def _read_part(read: Callable[[int], bytes], part: Part) -> Bytes:
    name = f"its {PartKind(part.kind).name.lower().replace('_', ' ')} {part.index}"
    wire = _take(read, part.wire_bytes, name)
    try:
        return decompress(wire, part.num_bytes)
    except BadEncoding as error:
        raise BadEncoding(f"{name}: {error}") from None


def _check_parts(parts: Sequence[Part]) -> None:
    """Raise ``BadEncoding`` unless a file can have these parts: each once, in order, and within its bound."""
    if len(parts) > PARTS_MAX:
        raise BadEncoding(f"{len(parts)} parts where {PARTS_MAX} is the most")
    if any((a.kind, a.index) >= (b.kind, b.index) for a, b in pairwise(parts)):
        raise BadEncoding("parts out of order, or there twice")
    for part in parts:
        most = _BYTES_MAX.get(part.kind, -1)
        if not 0 <= part.num_bytes <= most:
            raise BadEncoding(f"a part of kind {part.kind} and {part.num_bytes} bytes")
        if not 0 <= part.wire_bytes <= part.num_bytes:
            raise BadEncoding("a part that is longer packed than unpacked")
        if part.index < 0 or (part.index and part.kind not in {PartKind.WEIGHTS, PartKind.CHUNK}):
            raise BadEncoding("a second part of a kind that a file has once")
    if [part.kind for part in parts[:2]] != [PartKind.LOG, PartKind.SENT]:
        raise BadEncoding("no log, or no list of what was sent")
    text = sum(part.num_bytes for part in parts if part.kind == PartKind.CHUNK)
    if text > TEXT_BYTES_MAX:
        raise BadEncoding(f"{text >> 20} MiB of text where {TEXT_BYTES_MAX >> 20} is the most")
    _check_total(sum(part.num_bytes for part in parts))


def _check_total(num_bytes: int) -> None:
    if num_bytes > FILE_BYTES_MAX:
        raise BadEncoding(
            f"evidence of {num_bytes >> 20} MiB, above the {FILE_BYTES_MAX >> 20} MiB that a file may have"
        )


def _take(read: Callable[[int], bytes], num_bytes: int, what: str) -> bytes:
    found = read(num_bytes)
    if len(found) != num_bytes:
        raise BadEncoding(f"a file that ends within {what}")
    return found
