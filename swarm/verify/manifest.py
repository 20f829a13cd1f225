"""Define the solver's signed manifest of a window's log, and the messages that request it.

Core: frozen structs and pure checks.

A manifest names the blob that holds the encoded window, and says with what state that begins and what each of
its events takes from others (``inputs.py``): who has the log compares, and who has not can be shown one event.
Its signature covers (chain, run digest, the encoding
without the signature) under the purpose "window", so every holder can prove to others what the solver has
served. Two manifests of one window with different roots prove that its solver keeps two logs.
"""

from typing import cast

from swarm.errors import BadEncoding, BrokenPromise
from swarm.ledger.check_statements import LEAVES_MAX, check_seat, within
from swarm.primitives.codec import Message, decode, encode, replace
from swarm.primitives.crypto import SecretKey, verify
from swarm.training.record.window import WindowData, WindowKey
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex
from swarm.verify.inputs import InputTree

WINDOW_PROTOCOL = "/swarm/window/1"
REQUEST_BYTES_MAX = 128
"""Bytes of an encoded request: five numbers."""
MANIFEST_BYTES_MAX = 1 << 10
"""Bytes of an encoded manifest; one takes about 210."""
LOG_BYTES_MAX = 1 << 40
"""Bytes that a manifest may name; a log is fetched only up to ``WINDOW_BYTES_MAX``."""
EVENTS_MAX = 1 << 16
"""Events of a log: more than any run has."""
MANIFESTS_MAX = 2
"""Manifests of a window in one reply, and kept from one peer: two prove that the solver keeps two logs."""
REPLY_BYTES_MAX = MANIFESTS_MAX * MANIFEST_BYTES_MAX


class WindowRequest(Message, frozen=True, tag=1):
    """Request for the manifests of a window."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int


class WindowManifest(Message, frozen=True):
    """Signed statement of a solver: this blob is my log of this window."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int
    root: Digest
    """Root of the blob that holds the encoded window."""
    num_bytes: int
    start: Digest
    """Root of the state before the first event."""
    num_events: int
    """Events that change the state."""
    inputs: Digest
    """Root over what each of them takes from others (``inputs.InputTree``)."""
    signature: bytes

    @property
    def key(self) -> WindowKey:
        """Key of the window."""
        return WindowKey(self.run, self.round, self.stage, self.seat, self.window)


class WindowFound(Message, frozen=True, tag=1):
    """Reply with the manifests that the peer holds; that of the log it has replayed comes first."""

    manifests: tuple[WindowManifest, ...]


class WindowMissing(Message, frozen=True, tag=2):
    """Reply of a peer that holds no manifest of the window, or none any more."""


WindowReply = WindowFound | WindowMissing


def request_of(key: WindowKey) -> WindowRequest:
    """Return the request for a window."""
    return WindowRequest(key.run, key.round, key.stage, key.seat, key.window)


def decode_request(raw: bytes) -> WindowKey:
    """Decode a request and return the key of its window; raise ``BadEncoding``."""
    asked = decode(WindowRequest, raw, limit=REQUEST_BYTES_MAX)
    check_seat(asked.run, asked.round, asked.stage, asked.seat)
    within("window", asked.window, 0, LEAVES_MAX - 1)
    return WindowKey(asked.run, asked.round, asked.stage, asked.seat, asked.window)


def decode_reply(
    raw: bytes, key: WindowKey, peer: PeerId, chain: Digest, run_digest: Digest
) -> tuple[WindowManifest, ...]:
    """Decode a reply about ``key`` and return its manifests, all signed by the solver ``peer``.

    Returns an empty tuple for ``WindowMissing``. Raises ``PeerFault``.
    """
    reply = decode(cast("type[WindowReply]", WindowReply), raw, limit=REPLY_BYTES_MAX)
    if isinstance(reply, WindowMissing):
        return ()
    if not 1 <= len(reply.manifests) <= MANIFESTS_MAX:
        raise BadEncoding(f"{len(reply.manifests)} manifests of one window")
    for manifest in reply.manifests:
        check_manifest(manifest, key, peer, chain, run_digest)
    return reply.manifests


def sign_manifest(
    secret: SecretKey, chain: Digest, run_digest: Digest, unsigned: WindowManifest
) -> WindowManifest:
    """Return this node's manifest of its own log, signed."""
    signature = secret.sign("window", chain, run_digest, encode(replace(unsigned, signature=b"")))
    return replace(unsigned, signature=signature)


def manifest_of(data: WindowData, root: Digest, num_bytes: int) -> WindowManifest:
    """Return the unsigned manifest of a log that is a blob with this root and length."""
    key, tree = data.key, InputTree(data)
    return WindowManifest(
        run=key.run,
        round=key.round,
        stage=key.stage,
        seat=key.seat,
        window=key.window,
        root=root,
        num_bytes=num_bytes,
        start=data.start_root,
        num_events=len(tree.events),
        inputs=tree.root,
        signature=b"",
    )


def is_of_log(manifest: WindowManifest, data: WindowData) -> bool:
    """Return True if a log has the key, the events and the inputs of its manifest; its start a replay finds."""
    tree = InputTree(data)
    said = (manifest.key, manifest.num_events, manifest.inputs)
    return said == (data.key, len(tree.events), tree.root)


def check_manifest(
    manifest: WindowManifest, key: WindowKey, peer: PeerId, chain: Digest, run_digest: Digest
) -> None:
    """Raise ``PeerFault`` unless ``peer`` signed this manifest of ``key`` and its bounds hold."""
    if manifest.key != key:
        raise BrokenPromise("a manifest of another window")
    if any(len(part) != 32 for part in (manifest.root, manifest.start, manifest.inputs)):
        raise BadEncoding("a hash that has not 32 bytes")
    within("events", manifest.num_events, 0, EVENTS_MAX)
    within("window bytes", manifest.num_bytes, 1, LOG_BYTES_MAX)
    unsigned = encode(replace(manifest, signature=b""))
    verify(peer, manifest.signature, "window", chain, run_digest, unsigned)
