"""Compute the hashes inside of a BLAKE3 digest: those of its chunks of 1 KiB, and of the pairs above them.

Core: pure functions.

A BLAKE3 digest is the root of a binary tree over chunks of 1 KiB, so whoever has the bytes can show that some
of them are under the digest without showing the rest, and nobody has to keep a second tree. The library
computes roots only; here the hashes below are computed, a few by integers, many at once by numpy's lanes.

An optional C extension (blake3_tree.c) has the same hashes, a hundred times as fast. It is no Python module:
it is opened by its path and given pointers.

The left half of a tree has the largest power of two of chunks that is less than all. Layers that pair
neighbours, and carry an odd last one up, are the same tree.

Source: BLAKE3, version 20211102, sections 2.1 to 2.5.
"""

import ctypes
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

LEAF_BYTES = 1024
"""Bytes of a chunk: a leaf of the tree."""
_BLOCK_BYTES = 64
_IV = (
    0x6A09E667,
    0xBB67AE85,
    0x3C6EF372,
    0xA54FF53A,
    0x510E527F,
    0x9B05688C,
    0x1F83D9AB,
    0x5BE0CD19,
)
_ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
"""Permutation of the sixteen words of a block between two rounds."""
_ROUNDS = 7
_START, _END, _PARENT, _ROOT = 1, 2, 4, 8
_MASK = 0xFFFFFFFF
_FEW = 6
"""Leaves up to which Python's integers are faster than numpy's lanes."""

VERSION = 1
"""Version of the signatures in blake3_tree.c; a library of another version was built from another source."""
_PATH = __file__.rpartition("blake3_tree")[0] + "_blake3_tree.abi3.so"

_Words = npt.NDArray[np.uint32]


def _schedule() -> list[tuple[int, ...]]:
    """Return the order in which each round reads the words of a block."""
    orders = [tuple(range(16))]
    while len(orders) < _ROUNDS:
        orders.append(tuple(orders[-1][at] for at in _ORDER))
    return orders


_SCHEDULE = _schedule()
_QUARTERS = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)


def leaf_count(num_bytes: int) -> int:
    """Return the number of chunks of a message; an empty one has one, too."""
    return max(-(-num_bytes // LEAF_BYTES), 1)


def leaf_hashes(data: bytes | memoryview, first: int = 0) -> list[bytes]:
    """Return the hashes of consecutive chunks, the first of which has number ``first`` in its message.

    The message has more than one chunk: the hash of the only one is its digest.
    """
    view = memoryview(data).cast("B")
    count, library = leaf_count(len(view)), compiled()
    if library is not None:
        return library.leaves(view, count, first)
    whole = len(view) // LEAF_BYTES
    hashes = list[bytes]()
    if whole > _FEW:
        hashes = _many(np.frombuffer(view[: whole * LEAF_BYTES], "<u4").reshape(whole, 256), first)
    for at in range(len(hashes), count):
        hashes.append(_leaf(bytes(view[at * LEAF_BYTES : (at + 1) * LEAF_BYTES]), first + at))
    return hashes


def parent_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash above two others."""
    library = compiled()
    if library is not None:
        return library.parents(left + right, _PARENT)
    return _compressed(_IV, left + right, 0, _BLOCK_BYTES, _PARENT)


def root_digest(left: bytes, right: bytes) -> bytes:
    """Return the digest of a message from the two hashes at the top of its tree."""
    library = compiled()
    if library is not None:
        return library.parents(left + right, _PARENT | _ROOT)
    return _compressed(_IV, left + right, 0, _BLOCK_BYTES, _PARENT | _ROOT)


def layers_of(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return the layers of a tree of more than one leaf, up to the two hashes below the root."""
    layers = [list(leaves)]
    while len(layers[-1]) > 2:
        layers.append(_above(layers[-1]))
    return layers


def _above(layer: list[bytes]) -> list[bytes]:
    pairs, library = len(layer) // 2, compiled()
    if library is not None:
        raw = library.parents(b"".join(layer[: 2 * pairs]), _PARENT)
        above = [raw[at : at + 32] for at in range(0, len(raw), 32)]
    elif pairs > _FEW:
        blocks = np.frombuffer(b"".join(layer[: 2 * pairs]), "<u4").reshape(pairs, 16).T
        state = _lanes_start(pairs)
        above = _bytes_of(_lanes(state, np.ascontiguousarray(blocks), 0, _BLOCK_BYTES, _PARENT))
    else:
        above = [parent_hash(layer[at], layer[at + 1]) for at in range(0, 2 * pairs, 2)]
    return above + layer[2 * pairs :]


class Compiled:
    """The C extension."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, long = ctypes.c_void_p, ctypes.c_int64
        self._leaves, self._parents = library.tree_leaves, library.tree_parents
        self._leaves.argtypes = (pointer, long, ctypes.c_uint64, pointer)
        self._parents.argtypes = (ctypes.c_char_p, long, ctypes.c_uint32, pointer)
        self._leaves.restype = self._parents.restype = None

    def leaves(self, view: memoryview, count: int, first: int) -> list[bytes]:
        """Return the hashes of chunks, as ``leaf_hashes`` does."""
        data, hashes = np.frombuffer(view, np.uint8), ctypes.create_string_buffer(32 * count)
        self._leaves(data.ctypes.data if len(data) else None, len(data), first, hashes)
        raw = hashes.raw
        return [raw[at : at + 32] for at in range(0, len(raw), 32)]

    def parents(self, pairs: bytes, flags: int) -> bytes:
        """Return the hashes above pairs, one behind another."""
        hashes = ctypes.create_string_buffer(len(pairs) // 2)
        self._parents(pairs, len(pairs) // 64, flags, hashes)
        return hashes.raw


@cache
def compiled() -> Compiled | None:
    """Return the C extension; None if it was not built here."""
    try:
        library = ctypes.CDLL(_PATH)
        is_ours = library.tree_version() == VERSION
    except (OSError, AttributeError):
        return None
    return Compiled(library) if is_ours else None


def _leaf(chunk: bytes, number: int) -> bytes:
    """Return the hash of one chunk."""
    blocks = [chunk[at : at + _BLOCK_BYTES] for at in range(0, max(len(chunk), 1), _BLOCK_BYTES)]
    key: tuple[int, ...] = _IV
    out = b""
    for at, block in enumerate(blocks):
        flags = (_START if at == 0 else 0) | (_END if at == len(blocks) - 1 else 0)
        out = _compressed(key, block.ljust(_BLOCK_BYTES, b"\0"), number, len(block), flags)
        key = _words(out)
    return out


def _words(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4))


def _compressed(key: tuple[int, ...], block: bytes, counter: int, length: int, flags: int) -> bytes:
    """Compress one block; return the new key as 32 bytes."""
    m = _words(block)
    v = [*key, *_IV[:4], counter & _MASK, counter >> 32, length, flags]
    for order in _SCHEDULE:
        for number, (a, b, c, d) in enumerate(_QUARTERS):
            va, vb, vc, vd = v[a], v[b], v[c], v[d]
            va = (va + vb + m[order[2 * number]]) & _MASK
            vd ^= va
            vd = (vd >> 16) | ((vd << 16) & _MASK)
            vc = (vc + vd) & _MASK
            vb ^= vc
            vb = (vb >> 12) | ((vb << 20) & _MASK)
            va = (va + vb + m[order[2 * number + 1]]) & _MASK
            vd ^= va
            vd = (vd >> 8) | ((vd << 24) & _MASK)
            vc = (vc + vd) & _MASK
            vb ^= vc
            vb = (vb >> 7) | ((vb << 25) & _MASK)
            v[a], v[b], v[c], v[d] = va, vb, vc, vd
    return b"".join((v[at] ^ v[at + 8]).to_bytes(4, "little") for at in range(8))


def _many(words_N256: _Words, first: int) -> list[bytes]:
    """Return the hashes of whole chunks, all at once: each is a lane."""
    count = len(words_N256)
    key = _lanes_start(count)
    number = np.arange(first, first + count, dtype=np.uint64)
    for at in range(16):
        flags = (_START if at == 0 else 0) | (_END if at == 15 else 0)
        block = np.ascontiguousarray(words_N256[:, 16 * at : 16 * (at + 1)].T)
        key = _lanes(key, block, number, _BLOCK_BYTES, flags)
    return _bytes_of(key)


def _lanes_start(count: int) -> _Words:
    return np.repeat(np.array(_IV, np.uint32)[:, None], count, axis=1)


def _bytes_of(key_8N: _Words) -> list[bytes]:
    raw = np.ascontiguousarray(key_8N.T).astype("<u4").tobytes()
    return [raw[at : at + 32] for at in range(0, len(raw), 32)]


def _lanes(
    key_8N: _Words,
    block_16N: _Words,
    number: npt.NDArray[np.uint64] | int,
    length: int,
    flags: int,
) -> _Words:
    """Compress one block of every lane; return the new keys."""
    lanes = key_8N.shape[1]
    v = np.empty((16, lanes), np.uint32)
    v[:8] = key_8N
    v[8:12] = np.array(_IV[:4], np.uint32)[:, None]
    counter = np.asarray(number, np.uint64)
    v[12], v[13] = counter & np.uint64(_MASK), counter >> np.uint64(32)
    v[14], v[15] = length, flags
    for order in _SCHEDULE:
        for half in range(2):
            quarters = _QUARTERS[4 * half : 4 * half + 4]
            rows = [[quarter[at] for quarter in quarters] for at in range(4)]
            a, b, c, d = (v[row] for row in rows)
            x = block_16N[[order[8 * half + 2 * at] for at in range(4)]]
            y = block_16N[[order[8 * half + 2 * at + 1] for at in range(4)]]
            for words, turn_d, turn_b in ((x, 16, 12), (y, 8, 7)):
                a += b
                a += words
                d ^= a
                d = _turned(d, turn_d)
                c += d
                b ^= c
                b = _turned(b, turn_b)
            for row, value in zip(rows, (a, b, c, d), strict=True):
                v[row] = value
    return v[:8] ^ v[8:]


def _turned(x: _Words, bits: int) -> _Words:
    return (x >> np.uint32(bits)) | (x << np.uint32(32 - bits))
