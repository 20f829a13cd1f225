"""Manifests of logs that nobody reads."""

from swarm.primitives.crypto import SecretKey
from swarm.training.record.window import WindowKey
from swarm.types import NO_DIGEST, Digest
from swarm.verify.manifest import WindowManifest, sign_manifest


def signed(
    secret: SecretKey,
    chain: Digest,
    run_digest: Digest,
    key: WindowKey,
    root: Digest,
    num_bytes: int,
) -> WindowManifest:
    """A signed manifest of a log without events."""
    window_id = (key.run, key.round, key.stage, key.seat, key.window)
    said = {"start": NO_DIGEST, "num_events": 0, "inputs": NO_DIGEST, "signature": b""}
    unsigned = WindowManifest(*window_id, root, num_bytes, **said)  # type: ignore[arg-type]
    return sign_manifest(secret, chain, run_digest, unsigned)
