"""Put evidence together from what an audit has fetched, and read and write its file.

Shell: reads and writes the disk; runs in a worker thread, never in the event loop. A file is written aside and
renamed, so that it is whole or not there.
"""

import os
from pathlib import Path

from swarm.config.bounds import TOKEN_BYTES
from swarm.config.spec import Genesis
from swarm.errors import BadConfig, BadEncoding, UsageError
from swarm.ledger.light import LightProof
from swarm.ledger.state.records import Run
from swarm.placement import let_go
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES, chunk_digest
from swarm.training.data.dataset import TokenSource
from swarm.training.data.pieces import chunk_bytes, chunks_read, num_chunks
from swarm.training.record.checkpoint import phi_bytes
from swarm.types import Bytes, RoundIndex
from swarm.verify.edges import encode_list
from swarm.verify.evidence import (
    FILE_BYTES_MAX,
    TEXT_BYTES_MAX,
    Evidence,
    encode_evidence_file,
    is_evidence,
    read_evidence,
)
from swarm.verify.replay import log_in
from swarm.verify.replay_process import Material

_WRITES = "swarm audit --evidence FILE writes one"


def assemble(
    material: Material,
    run: Run,
    genesis: Genesis,
    checkpoint_rounds: tuple[RoundIndex, ...],
    proof: LightProof,
) -> Evidence:
    """Return the evidence about a window; raise ``BrokenPromise`` if its log was damaged on the disk.

    Weights that everybody draws from the run's seed are left out, and so is the text where the window reads
    more of it than a file may have.
    """
    log, spec = material.log, material.log.plan.spec
    raw = log.path.read_bytes()
    data = log_in(raw, log.manifest, spec)
    posted = {checkpoint.phi_root for checkpoint in run.checkpoints[log.manifest.stage]}
    named = posted | {start.weights for start in spec.starts if spec.is_pretrained}
    weights = [phi_bytes(anchor) for root, anchor in material.anchors.items() if root in named]
    if material.base_W is not None:
        weights.append(phi_bytes(material.base_W))
    chunks = dict[int, Bytes]()
    if data is not None:
        read = sorted(chunks_read(log.plan, data))
        if sum(chunk_bytes(spec.data, index) for index in read) <= TEXT_BYTES_MAX:
            size = TOKEN_BYTES[spec.data.dtype]
            chunks = {index: _chunk(material.tokens, size, index) for index in read}
    return Evidence(
        genesis=genesis,
        manifest=log.manifest,
        checkpoint_rounds=checkpoint_rounds,
        proof=proof,
        log=raw,
        sent=encode_list(log.committed.sent),
        weights=tuple(weights),
        chunk_hashes=_chunk_hashes(material) if chunks else b"",
        chunks=chunks,
    )


def write_evidence(path: Path, evidence: Evidence) -> None:
    """Write evidence to a file; raise ``BadConfig`` if it is too large, or does not fit on the disk."""
    draft = path.with_name(path.name + ".part")
    try:
        pieces = encode_evidence_file(evidence)
    except BadEncoding as error:
        raise BadConfig(f"{error}: the window is too large to be shown in one") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise BadConfig(
            f"the evidence cannot be written to {path}: {error.strerror}",
            hint=f"df -h {path.parent}",
        ) from None


def read_evidence_file(path: Path) -> Evidence:
    """Read a file of evidence.

    Raises ``UsageError`` if it is not there, and ``BadEncoding`` if it is too large, cut, or none at all.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > FILE_BYTES_MAX:
                raise BadEncoding(
                    f"a file of {size >> 20} MiB, above the {FILE_BYTES_MAX >> 20} MiB of evidence"
                )
            return read_evidence(file.read)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=_WRITES) from None


def looks_like_evidence(path: Path) -> bool:
    """Return True if a file begins as evidence does; raise ``UsageError`` if it is not there."""
    try:
        with path.open("rb") as file:
            return is_evidence(file.read(8))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=_WRITES) from None


def _chunk(tokens: TokenSource, size: int, index: int) -> bytes:
    """Return a chunk of a token file, little-endian as it is there."""
    length = TENSOR_CHUNK_BYTES // size
    return tokens[index * length : (index + 1) * length].tobytes()


def _chunk_hashes(material: Material) -> bytes:
    """Return the hashes of all chunks of the text; none for a text of one."""
    data = material.log.plan.spec.data
    if num_chunks(data) == 1:
        return b""
    hashes, size = bytearray(), TOKEN_BYTES[data.dtype]
    for index in range(num_chunks(data)):
        hashes += chunk_digest(_chunk(material.tokens, size, index))
        let_go()
    return bytes(hashes)
