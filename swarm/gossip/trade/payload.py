"""A fragment as it travels: the copy that is published, its payload under a codec, and its reading.

Core: pure functions. ``pack``, ``read_payload`` and ``open_payload`` are slow and may run in a worker thread.

The codec of a payload follows from the run, the round and both anchors: neither side chooses it. A payload is
hashed before compression, so the hash that an offer signs is that of the bytes whose values are merged.
Source: docs/spec/protocol.md section 4.
"""

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from swarm.errors import BrokenPromise, UsageError
from swarm.gossip.blobs.chunks import Manifest, manifest
from swarm.gossip.codecs import int4, int8
from swarm.gossip.codecs.int4 import (
    decode_int3,
    decode_int4,
    encode_int3,
    encode_int4,
    encode_int4_once,
    int4_bytes,
)
from swarm.gossip.codecs.int8 import (
    VALUES_MAX,
    compress,
    decode_bf16,
    decode_f32,
    decode_int8,
    decompress,
    encode_bf16,
    encode_f32,
    encode_int8,
    int8_bytes,
)
from swarm.gossip.trade.messages import (
    EXCHANGE_CHUNK_BYTES,
    NO_SIGNATURE,
    Codec,
    FragmentKey,
    Offer,
    payload_digest,
)
from swarm.placement import let_go, moved, spilled_bytes, trim
from swarm.types import NO_DIGEST, Bytes, Digest

LEVELS = {Codec.INT8: int8.LEVELS, Codec.INT4: int4.LEVELS, Codec.INT3: int4.INT3_LEVELS}
"""Levels on each side of 0, of encodings relative to an anchor."""
BF16_ROUNDING = 2.0**-9
"""Most that bfloat16 rounds off of a value of 1."""


@dataclass(frozen=True, slots=True)
class FragmentPayload:
    """Values of a fragment at the optimizer step that reached the height of the trade.

    ``theta`` and ``anchor`` are flat float32 of equal length and are not written to afterwards. In a run that
    also trades slow weights, ``theta`` is the fast weights followed by the slow ones, and ``anchor`` is the
    anchor twice.
    """

    theta: Tensor
    anchor: Tensor
    anchor_root: Digest
    step: int
    tokens: int
    codec: Codec = Codec.INT8
    """Codec that the run prescribes for this round if both sides have one anchor."""
    residual: Tensor | None = None
    """Error that earlier int4 payloads left, as long as ``theta``; None but for int4 with error feedback."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Snapshot encoded with one codec, ready to send."""

    offer: Offer
    """Offer, not signed yet."""
    manifest: Manifest
    wire: Bytes
    residual: Tensor | None = None
    """Residual that replaces the snapshot's once this payload was acknowledged; None if it had none, or but for
    int4."""


@dataclass(frozen=True, slots=True)
class ReceivedFragment:
    """A partner's fragment that arrived whole; a verifier of its merge starts from offer and payload."""

    offer: Offer
    """Signed by the partner."""
    payload: Bytes
    """The quantized bytes, before zstandard: the preimage of ``offer.payload_hash``."""
    values: Tensor
    """The partner's theta (and phi behind it, where both travel): flat float32, finite."""


def choose_codec(common: Codec, mine: Digest, theirs: Digest) -> Codec:
    """Return the round's ``common`` codec if both sides have one anchor or need none, else bfloat16."""
    is_shared = mine == theirs and mine != NO_DIGEST
    return common if is_shared or common is Codec.F32 else Codec.BF16


def check_codec(offer: Offer, common: Codec, mine: Digest) -> None:
    """Raise ``BrokenPromise`` unless an offer is in the codec that follows from the round and both anchors."""
    due = choose_codec(common, offer.anchor_root, mine)
    if offer.codec is not due:
        raise BrokenPromise(f"{offer.codec.name} where the round and the anchors say {due.name}")


def payload_bytes(codec: Codec, numel: int) -> int:
    """Return the length in bytes of the quantized payload of ``numel`` values."""
    match codec:
        case Codec.INT8:
            return int8_bytes(numel)
        case Codec.INT4 | Codec.INT3:
            return int4_bytes(numel)
        case Codec.BF16:
            return 2 * numel
        case Codec.F32:
            return 4 * numel


_PRESSED = {Codec.INT8: 95, Codec.INT4: 83, Codec.INT3: 58}
"""Percent that zstandard leaves of the payload of weights in training, rounded up (docs/benchmarks.md)."""


def usual_wire_bytes(codec: Codec, numel: int) -> int:
    """Return the bytes that the payload of ``numel`` values usually has on the wire of a line that is slow."""
    return payload_bytes(codec, numel) * _PRESSED.get(codec, 100) // 100


def encode_payload(snapshot: FragmentPayload, codec: Codec) -> tuple[Bytes, Tensor | None]:
    """Return the quantized bytes, and the residual to keep once they were acknowledged. Slow.

    The residual is None but for int4 of a snapshot with one. Raises ``UsageError`` if the snapshot is not
    finite, or too far from its anchor for the codec.
    """
    match codec:
        case Codec.INT8:
            return encode_int8(snapshot.theta, snapshot.anchor), None
        case Codec.INT4:
            if snapshot.residual is None:
                return encode_int4_once(snapshot.theta, snapshot.anchor), None
            coded = encode_int4(snapshot.theta, snapshot.anchor, snapshot.residual)
            return coded.payload, coded.residual_N
        case Codec.INT3:
            return encode_int3(snapshot.theta, snapshot.anchor), None
        case Codec.BF16:
            return encode_bf16(snapshot.theta), None
        case Codec.F32:
            return encode_f32(snapshot.theta), None


def rounding_rms(codec: Codec, theta: Tensor, anchor: Tensor) -> float:
    """Return the root mean square of what a codec rounds off of flat float32 values, about."""
    most = LEVELS.get(codec)
    if most is not None:
        return int8.rounding_rms(theta, anchor, most)
    return BF16_ROUNDING * float(theta.norm()) / sqrt(theta.numel()) if codec is Codec.BF16 else 0.0


def pack(
    key: FragmentKey, snapshot: FragmentPayload, codec: Codec, is_plain: bool = False
) -> Packed:
    """Quantize, compress unless ``is_plain``, and hash a snapshot. Slow.

    Raises ``UsageError`` if it cannot be encoded, as ``encode_payload`` does.
    """
    payload, residual = encode_payload(snapshot, codec)
    wire = payload if is_plain else compress(payload)
    wire = spilled_bytes(wire)  # kept for two rounds, and seldom asked for twice
    listed = manifest(wire, EXCHANGE_CHUNK_BYTES)
    offer = Offer(
        key=key,
        incarnation=0,  # set by who signs it
        step=snapshot.step,
        tokens=snapshot.tokens,
        codec=codec,
        anchor_root=snapshot.anchor_root,
        payload_hash=payload_digest(payload),
        num_bytes=len(payload),
        wire_bytes=len(wire),
        chunk_root=listed.root,
        signature=NO_SIGNATURE,
    )
    residual = None if residual is None else moved(residual)
    let_go()  # theta and anchor
    return Packed(offer, listed, wire, residual)


def read_payload(codec: Codec, payload: Bytes, anchor_N: Tensor) -> Tensor:
    """Return the partner's theta from its quantized bytes: float32 of the anchor's length. Slow.

    The bits are the same on every machine. Raises ``PeerFault`` for values that no honest peer sends.
    """
    match codec:
        case Codec.INT8:
            return decode_int8(payload, anchor_N, anchor_N.numel())
        case Codec.INT4:
            return decode_int4(payload, anchor_N, anchor_N.numel())
        case Codec.INT3:
            return decode_int3(payload, anchor_N, anchor_N.numel())
        case Codec.BF16:
            return decode_bf16(payload, anchor_N.numel())
        case Codec.F32:
            return decode_f32(payload, anchor_N.numel())


def open_payload(offer: Offer, wire: Bytes, anchor_N: Tensor) -> tuple[Bytes, Tensor]:
    """Return the partner's quantized bytes, and the theta they encode. Slow.

    Raises ``PeerFault`` if they do not unpack to what the offer promised, or hold values that no honest peer
    sends.
    """
    trim()  # what the last micro-batch left
    payload = decompress(wire, offer.num_bytes)
    if payload_digest(payload) != offer.payload_hash:
        raise BrokenPromise("a payload that is not the one promised")
    theta_N = read_payload(offer.codec, payload, anchor_N)
    theta_N = moved(theta_N)  # both wait for the end of a step
    return spilled_bytes(payload), theta_N


def check_snapshot(snapshot: FragmentPayload) -> None:
    """Raise ``UsageError`` unless a snapshot is flat float32, not empty, and as long as anchor and residual."""
    theta, anchor = snapshot.theta, snapshot.anchor
    if theta.dtype != torch.float32 or anchor.dtype != torch.float32:
        raise UsageError("a snapshot is float32")
    if theta.dim() != 1 or theta.shape != anchor.shape or not 0 < theta.numel() <= VALUES_MAX:
        raise UsageError("a snapshot is flat, as long as its anchor, and not empty")
    residual = snapshot.residual
    if residual is not None and (residual.dtype, residual.shape) != (theta.dtype, theta.shape):
        raise UsageError("a residual is as long as its snapshot")
