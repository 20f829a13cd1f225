"""Prove and verify VRF draws: random bytes that one key, and only that key, could have drawn.

Core: pure functions. Uses pynacl.

ECVRF-EDWARDS25519-SHA512-TAI of RFC 9381 (suite 3), on libsodium's group operations. The proof is unique: a
leader cannot try several and keep the one it likes. Hashing to the curve takes a number of tries that depends
on the input, which is public here.
"""

import hashlib
from functools import lru_cache

import nacl.bindings
import nacl.exceptions

from swarm.errors import BadSignature
from swarm.primitives.crypto import PEER_BYTES, SecretKey
from swarm.types import PeerId

PROOF_BYTES = 80
_CHALLENGE_BYTES = 16
_SUITE = b"\x03"
_IDENTITY = b"\x01" + bytes(31)
_FIELD = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_TRIES_MAX = 256
"""Values of the counter, one byte; each try fails half of the time."""
VERIFIED_CACHED = 4096
"""Verified proofs that are remembered, about 400 bytes each: a proof is met in the mempool, in a proposed block
and in the final one, and costs half a millisecond to verify."""


def prove(secret: SecretKey, alpha: bytes) -> bytes:
    """Return the 80-byte proof of ``secret`` over ``alpha`` (RFC 9381 section 5.1)."""
    expanded = hashlib.sha512(secret.seed).digest()
    scalar = bytearray(expanded[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    private = int.from_bytes(scalar, "little")
    base = _hash_to_curve(secret.peer, alpha)
    gamma = _times(private, base)
    nonce = int.from_bytes(hashlib.sha512(expanded[32:] + base).digest(), "little") % _ORDER
    commitment = nacl.bindings.crypto_scalarmult_ed25519_base_noclamp(_scalar(nonce))
    challenge = _challenge(secret.peer, base, gamma, commitment, _times(nonce, base))
    response = (nonce + challenge * private) % _ORDER
    return gamma + challenge.to_bytes(_CHALLENGE_BYTES, "little") + _scalar(response)


@lru_cache(VERIFIED_CACHED)
def verify(peer: PeerId, alpha: bytes, proof: bytes) -> bytes:
    """Return the 64-byte output of a proof (section 5.3); raise ``BadSignature`` if it is not ``peer``'s."""
    if len(proof) != PROOF_BYTES or len(peer) != PEER_BYTES:
        raise BadSignature(f"a VRF proof has {PROOF_BYTES} bytes and a key {PEER_BYTES}")
    gamma, challenge = proof[:32], int.from_bytes(proof[32:48], "little")
    response = int.from_bytes(proof[48:], "little")
    # is_valid_point also refuses small orders: such a key could give any output it likes (section 5.4.5).
    if response >= _ORDER or not nacl.bindings.crypto_core_ed25519_is_valid_point(peer):
        raise BadSignature("a VRF proof out of range")
    if not _is_on_curve(gamma):
        raise BadSignature("a VRF proof that is not a point")
    try:
        base = _hash_to_curve(peer, alpha)
        from_key = _minus(
            nacl.bindings.crypto_scalarmult_ed25519_base_noclamp(_scalar(response)),
            _times(challenge, peer),
        )
        from_base = _minus(_times(response, base), _times(challenge, gamma))
    except nacl.exceptions.CryptoError:
        # libsodium refuses products that are the identity: an honest prover meets one with probability 2^-252.
        raise BadSignature("a VRF proof at infinity") from None
    if _challenge(peer, base, gamma, from_key, from_base) != challenge:
        raise BadSignature("a VRF proof that does not verify")
    return output(proof)


def output(proof: bytes) -> bytes:
    """Return the 64-byte output of a proof that is already verified (section 5.2)."""
    return hashlib.sha512(_SUITE + b"\x03" + _times_eight(proof[:32]) + b"\x00").digest()


def _hash_to_curve(peer: PeerId, alpha: bytes) -> bytes:
    """Hash to the curve: try and increment (section 5.4.1.1), then clear the cofactor."""
    for counter in range(_TRIES_MAX):
        text = _SUITE + b"\x01" + peer + alpha + bytes([counter]) + b"\x00"
        candidate = hashlib.sha512(text).digest()[:32]
        if _is_on_curve(candidate):
            return _times_eight(candidate)
    raise AssertionError("256 coins fell on the same side")


def _is_on_curve(point: bytes) -> bool:
    """Return True if 32 bytes decompress to a point, of any order (RFC 8032 section 5.1.3)."""
    y = int.from_bytes(point, "little") & ((1 << 255) - 1)
    if y >= _FIELD:
        return False
    if y in {1, _FIELD - 1}:  # x is 0, which has no sign; libsodium does not mind one.
        return point[31] < 128
    try:
        nacl.bindings.crypto_core_ed25519_add(point, _IDENTITY)
    except nacl.exceptions.CryptoError:
        return False
    return True


def _challenge(*points: bytes) -> int:
    text = _SUITE + b"\x02" + b"".join(points) + b"\x00"
    return int.from_bytes(hashlib.sha512(text).digest()[:_CHALLENGE_BYTES], "little")


def _times(factor: int, point: bytes) -> bytes:
    return nacl.bindings.crypto_scalarmult_ed25519_noclamp(_scalar(factor % _ORDER), point)


def _times_eight(point: bytes) -> bytes:
    for _ in range(3):
        point = nacl.bindings.crypto_core_ed25519_add(point, point)
    return point


def _minus(left: bytes, right: bytes) -> bytes:
    return nacl.bindings.crypto_core_ed25519_sub(left, right)


def _scalar(number: int) -> bytes:
    return number.to_bytes(32, "little")
