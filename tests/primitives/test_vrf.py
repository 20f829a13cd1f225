"""A VRF proof is RFC 9381's, unique to its key and input, and nothing else verifies."""

import pytest

from swarm.errors import BadSignature
from swarm.primitives.crypto import SecretKey
from swarm.primitives.vrf import prove, verify
from swarm.types import PeerId

EXAMPLES = [  # RFC 9381 appendix B.3, examples 16 to 18
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "",
        "8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f26f8a57ccaed74ee1b190bed1f479d97"
        "27d2d0f9b005a6e456a35d4fb0daab1268a1b0db10836d9826a528ca76567805",
        "90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff"
        "66b71dda49d2de59d03450451af026798e8f81cd2e333de5cdf4f3e140fdd8ae",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "72",
        "f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed593"
        "3bf0864a62558b3ed7f2fea45c92a465301b3bbf5e3e54ddf2d935be3b67926d"
        "a3ef39226bbc355bdc9850112c8f4b02",
        "eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb"
        "5e33821bc613efb94db5e5b54c70a848a0bef4553a41befc57663b56373a5031",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "af82",
        "9bc0f79119cc5604bf02d23b4caede71393cedfbb191434dd016d30177ccbf80"
        "96bb474e53895c362d8628ee9f9ea3c0e52c7a5c691b6c18c9979866568add7a"
        "2d41b00b05081ed0f58ee5e31b3a970e",
        "645427e5d00c62a23fb703732fa5d892940935942101e456ecca7bb217c61c45"
        "2118fec1219202a0edcf038bb6373241578be7217ba85a2687f7a0310b2df19f",
    ),
]


@pytest.mark.parametrize(("seed", "alpha", "proof", "beta"), EXAMPLES)
def test_the_examples_of_the_rfc_hold(seed: str, alpha: str, proof: str, beta: str) -> None:
    secret = SecretKey.from_seed(bytes.fromhex(seed))
    assert prove(secret, bytes.fromhex(alpha)).hex() == proof
    assert verify(secret.peer, bytes.fromhex(alpha), bytes.fromhex(proof)).hex() == beta


@pytest.mark.parametrize("index", range(0, 80, 9))
def test_a_proof_with_one_bit_turned_does_not_verify(index: int) -> None:
    secret = SecretKey.from_seed(bytes(31) + b"\x07")
    proof = bytearray(prove(secret, b"alpha"))
    proof[index] ^= 1
    with pytest.raises(BadSignature):
        verify(secret.peer, b"alpha", bytes(proof))


def test_a_proof_serves_one_key_and_one_input() -> None:
    secret, other = SecretKey.from_seed(bytes(32)), SecretKey.from_seed(b"\x01" * 32)
    proof = prove(secret, b"alpha")
    for peer, alpha in ((secret.peer, b"beta"), (other.peer, b"alpha")):
        with pytest.raises(BadSignature):
            verify(peer, alpha, proof)


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_a_key_of_small_order_or_off_the_curve_is_refused(key: bytes) -> None:
    proof = prove(SecretKey.from_seed(bytes(32)), b"alpha")
    with pytest.raises(BadSignature):
        verify(PeerId(key), b"alpha", proof)


P = 2**255 - 19
"""The field of Curve25519."""


def is_point(encoded: bytes) -> bool:
    """Decompress by the formulas of RFC 8032 section 5.1.3, with nothing but integers."""
    number = int.from_bytes(encoded, "little")
    y, sign = number & ((1 << 255) - 1), number >> 255
    d = -121665 * pow(121666, -1, P) % P
    square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    if y >= P or (square == 0 and sign):
        return False
    return square == 0 or pow(square, (P - 1) // 2, P) == 1


def test_a_gamma_that_is_not_a_point_is_named_and_every_point_is_one() -> None:
    """Non-canonical bytes and a sign of x = 0 too, which libsodium takes."""
    peer = SecretKey.from_seed(bytes(32)).peer
    edges = [0, 1, 2, P - 2, P - 1, P, P + 1, (1 << 255) - 1]
    encodings = [(y | sign << 255).to_bytes(32, "little") for y in edges for sign in (0, 1)]
    encodings += [SecretKey.from_seed(bytes([i]) * 32).seed for i in range(40)]
    found = list[bool]()
    for encoded in encodings:
        with pytest.raises(BadSignature) as refused:
            verify(peer, b"alpha", encoded + bytes(48))
        found.append("not a point" not in str(refused.value))
    assert found == [is_point(encoded) for encoded in encodings]
    assert {True, False} == set(found)
