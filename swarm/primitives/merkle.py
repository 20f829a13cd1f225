"""Merkle roots and proofs over lists, and over immutable sparse maps whose versions share unchanged nodes.

Core: pure functions and immutable maps.

In a list a leaf is hashed with tag 0x00, an inner node with 0x01; the list is padded to a power of two with the
hash of tag 0x02, so a list and its padded twin have different roots only through the count, which is hashed
into the root.

A sparse map has one root per content. A key lives at the 256-bit path SHA-256(key). A subtree with one leaf IS
that leaf and an empty subtree is 32 zero bytes, so the root depends on the contents only and never on the order
of changes. A change copies the path to the root and shares the rest.

Source: RFC 6962 section 2.1 for the tags (the padding is ours), the Jellyfish Merkle tree of Diem for the
compact form of the map.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Generic, TypeVar

from blake3 import blake3

from swarm.errors import BrokenPromise
from swarm.primitives.codec import Message, Untracked, encode
from swarm.primitives.parts import Parts, at_once
from swarm.types import NO_DIGEST, Digest

Hash = Callable[[bytes], bytes]
PROOF_DEPTH_MAX = 40
PATHS_CACHED = 1 << 14
"""Paths of keys that are remembered, about 250 bytes each: a node reads the same entries in every block."""


def sha256_hash(data: bytes) -> bytes:
    """Return the SHA-256 hash, used by the ledger."""
    return hashlib.sha256(data).digest()


def blake3_hash(data: bytes) -> bytes:
    """Return the BLAKE3 hash, used for tensors, chunks and transcripts."""
    return blake3(data).digest()


def merkle_root(leaves: Sequence[bytes], hash_: Hash = blake3_hash) -> Digest:
    """Return the root of a list of byte strings; the empty list has a root too."""
    layer = _padded(leaves, hash_)
    while len(layer) > 1:
        layer = _above(layer, hash_)
    return sealed(layer[0], len(leaves), hash_)


def merkle_proof(
    leaves: Sequence[bytes], index: int, hash_: Hash = blake3_hash
) -> tuple[bytes, ...]:
    """Return the sibling hashes from leaf ``index`` up to the root."""
    return range_proof(leaves, index, 1, hash_)


def verify_proof(
    root: Digest,
    leaf: bytes,
    index: int,
    count: int,
    proof: Sequence[bytes],
    hash_: Hash = blake3_hash,
) -> None:
    """Raise ``BrokenPromise`` unless ``leaf`` is number ``index`` of the ``count`` leaves under ``root``."""
    depth = max(count - 1, 0).bit_length()
    if not 0 <= index < count or len(proof) != depth or depth > PROOF_DEPTH_MAX:
        raise BrokenPromise("a Merkle proof of the wrong shape")
    node = leaf_hash(leaf, hash_)
    for sibling in proof:
        node = hash_(b"\x01" + (sibling + node if index & 1 else node + sibling))
        index >>= 1
    if sealed(node, count, hash_) != root:
        raise BrokenPromise("a Merkle proof that does not lead to its root")


def merkle_layers(leaves: Sequence[bytes], hash_: Hash = blake3_hash) -> list[list[bytes]]:
    """Return the hashes of a tree, from those of its leaves, padded, up to the one below the root."""
    return layers_above(_padded(leaves, hash_), hash_)


def proof_in(layers: Sequence[Sequence[bytes]], index: int) -> tuple[bytes, ...]:
    """Return the proof of a leaf from all layers of its tree (``merkle_layers``)."""
    return tuple(layer[(index >> level) ^ 1] for level, layer in enumerate(layers[:-1]))


def layers_above(hashes: Sequence[bytes], hash_: Hash = blake3_hash) -> list[list[bytes]]:
    """Return the layers of a part of a tree, from a power of two of neighbours up to the one above all."""
    layers = [list(hashes)]
    while len(layers[-1]) > 1:
        layers.append(_above(layers[-1], hash_))
    return layers


def layer_above(layer: Sequence[bytes], level: int, hash_: Hash = blake3_hash) -> list[bytes]:
    """Return the hashes of layer ``level`` from those below, of which an odd last one stands before padding."""
    whole = [*layer, padding_hash(level - 1, hash_)] if len(layer) % 2 else list(layer)
    return _above(whole, hash_)


def leaf_hash(leaf: bytes, hash_: Hash = blake3_hash) -> bytes:
    """Return the hash of a leaf in its tree."""
    return hash_(b"\x00" + leaf)


def padding_hash(level: int, hash_: Hash = blake3_hash) -> bytes:
    """Return the hash above 2 ** ``level`` leaves that only pad a tree."""
    node = hash_(b"\x02")
    for _ in range(level):
        node = hash_(b"\x01" + node + node)
    return node


def sealed(top: bytes, count: int, hash_: Hash = blake3_hash) -> Digest:
    """Return the root of a tree of ``count`` leaves below its topmost hash."""
    return Digest(hash_(b"\x03" + count.to_bytes(8, "big") + top))


def range_proof(
    leaves: Sequence[bytes], first: int, number: int, hash_: Hash = blake3_hash
) -> tuple[bytes, ...]:
    """Return the hashes beside ``number`` neighbours from leaf ``first`` on, up to the root, left first."""
    layer, proof, stop = _padded(leaves, hash_), list[bytes](), first + number
    while len(layer) > 1:
        if first & 1:
            first -= 1
            proof.append(layer[first])
        if stop & 1:
            proof.append(layer[stop])
            stop += 1
        layer, first, stop = _above(layer, hash_), first >> 1, stop >> 1
    return tuple(proof)


def verify_range(
    root: Digest,
    leaves: Sequence[bytes],
    first: int,
    count: int,
    proof: Sequence[bytes],
    hash_: Hash = blake3_hash,
) -> None:
    """Raise ``BrokenPromise`` unless ``leaves`` are those from ``first`` on of the ``count`` under ``root``."""
    depth, stop = max(count - 1, 0).bit_length(), first + len(leaves)
    if not 0 <= first < stop <= count or depth > PROOF_DEPTH_MAX:
        raise BrokenPromise("a Merkle proof of the wrong shape")
    layer, beside = [leaf_hash(leaf, hash_) for leaf in leaves], iter(proof)
    for _ in range(depth):
        if first & 1:
            first -= 1
            layer.insert(0, next(beside, b""))
        if stop & 1:
            layer.append(next(beside, b""))
            stop += 1
        layer, first, stop = _above(layer, hash_), first >> 1, stop >> 1
    if next(beside, None) is not None or sealed(layer[0], count, hash_) != root:
        raise BrokenPromise("a Merkle proof that does not lead to its root")


def _padded(leaves: Sequence[bytes], hash_: Hash) -> list[bytes]:
    width = 1 << max(len(leaves) - 1, 0).bit_length()
    padding = padding_hash(0, hash_)
    return [leaf_hash(leaf, hash_) for leaf in leaves] + [padding] * (width - len(leaves))


def _above(layer: list[bytes], hash_: Hash) -> list[bytes]:
    return [hash_(b"\x01" + layer[i] + layer[i + 1]) for i in range(0, len(layer), 2)]


PATH_BITS = 256
PROOF_SIBLINGS_MAX = PATH_BITS
PART_KEYS = 256
"""Keys that are changed without a pause: some ten milliseconds, most of them to encode the values."""

V = TypeVar("V")


class SparseProof(Message, frozen=True):
    """Proof that a key is present, or that it is absent and which leaf, if any, stands in its place."""

    siblings: tuple[bytes, ...]
    """Sibling hashes, from the root down."""
    other_path: bytes
    """Path of the leaf in the key's place, for absence beside another leaf; empty otherwise."""
    other_value_hash: bytes


# Nodes refer to nothing that refers back to them. A search for garbage among all of a ledger's, which cannot be
# any, would hold up everything else for a tenth of a second.
class _Leaf(Untracked, Generic[V], frozen=True):
    path: int
    key: bytes
    value: V
    digest: bytes


class _Branch(Untracked, Generic[V], frozen=True):
    left: "_Node[V]"
    right: "_Node[V]"
    size: int
    digest: bytes


def _leaf(path: int, key: bytes, value: V) -> _Leaf[V]:
    digest = _leaf_digest(path.to_bytes(32, "big"), _value_hash(encode(value)))
    return _Leaf(path, key, value, digest)


def _branch(left: "_Node[V]", right: "_Node[V]") -> _Branch[V]:
    digest = _inner_digest(_digest(left), _digest(right))
    return _Branch(left, right, _size(left) + _size(right), digest)


_Node = _Leaf[V] | _Branch[V] | None


@dataclass(frozen=True, slots=True)
class MapPart(Generic[V]):
    """All of a sparse map whose paths begin with the same bits."""

    top: "_Node[V]"

    @classmethod
    def build(cls, items: Sequence[tuple[bytes, V]], *, index: int, depth: int) -> "MapPart[V]":
        """Return part ``index`` of the 2 ** ``depth`` of a map.

        Raises ``BrokenPromise`` unless the keys are in the order of their paths, and all of this part.
        """
        leaves = [_leaf(_path(key), key, value) for key, value in items]
        paths = [leaf.path for leaf in leaves]
        if any(after <= before for before, after in pairwise(paths)):
            raise BrokenPromise("entries out of order")
        if any(path >> (PATH_BITS - depth) != index for path in paths):
            raise BrokenPromise("entries of another part")
        return cls(_built(leaves, PATH_BITS - 1 - depth))

    @property
    def digest(self) -> Digest:
        """Hash of the part; ``NO_DIGEST`` when empty."""
        return Digest(_digest(self.top))

    def __len__(self) -> int:
        return _size(self.top)

    def items(self) -> Iterator[tuple[bytes, V]]:
        """Yield every key and value, in the order of their paths."""
        return SparseMap(self.top).items()


class SparseMap(Generic[V]):
    """Immutable map from bytes to values with exactly one encoding; ``update`` makes the next version."""

    __slots__ = ("_top",)

    def __init__(self, _top: "_Node[V]" = None) -> None:
        self._top: _Node[V] = _top

    @property
    def root(self) -> Digest:
        """Root hash; ``NO_DIGEST`` when empty."""
        return Digest(_digest(self._top))

    def __len__(self) -> int:
        return _size(self._top)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SparseMap) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    def get(self, key: bytes) -> V | None:
        """Return the value under ``key``, or None."""
        path, node, bit = _path(key), self._top, PATH_BITS - 1
        while isinstance(node, _Branch):
            node = node.right if path >> bit & 1 else node.left
            bit -= 1
        return node.value if node is not None and node.path == path else None

    def update(self, changes: Mapping[bytes, V | None]) -> "SparseMap[V]":
        """Return the map after ``changes``; None deletes, deleting an absent key changes nothing."""
        return at_once(self.update_in_parts(changes))

    def update_in_parts(self, changes: Mapping[bytes, V | None]) -> "Parts[SparseMap[V]]":
        """Update as ``update`` does, and let the caller do something else in between.

        Neighbours in the tree are changed together: they share the branches above them.
        """
        top, ordered = self._top, sorted((_path(key), key) for key in changes)
        for first in range(0, len(ordered), PART_KEYS):
            if first:
                yield
            edits = dict[int, _Leaf[V] | None]()
            for path, key in ordered[first : first + PART_KEYS]:
                value = changes[key]
                edits[path] = None if value is None else _leaf(path, key, value)
            top = _edited(top, edits, PATH_BITS - 1)
        return SparseMap(top)

    def set(self, key: bytes, value: V) -> "SparseMap[V]":
        """Return the map with one value changed."""
        return self.update({key: value})

    def delete(self, key: bytes) -> "SparseMap[V]":
        """Return the map without one key."""
        return self.update({key: None})

    def items(self) -> Iterator[tuple[bytes, V]]:
        """Yield every key and value, in the order of their paths."""
        stack: list[_Node[V]] = [self._top]
        while stack:
            node = stack.pop()
            if isinstance(node, _Branch):
                stack += [node.right, node.left]
            elif node is not None:
                yield node.key, node.value

    def cut(self, depth: int) -> list[MapPart[V]]:
        """Return the 2 ** ``depth`` parts of this map, by the first bits of the paths."""
        layer: list[_Node[V]] = [self._top]
        for level in range(depth):
            layer = [half for node in layer for half in _halves(node, PATH_BITS - 1 - level)]
        return [MapPart(node) for node in layer]

    @classmethod
    def join(cls, parts: Sequence[MapPart[V]]) -> "SparseMap[V]":
        """Return the map that was cut into ``parts``, of which there are a power of two."""
        layer = [part.top for part in parts]
        while len(layer) > 1:
            layer = [_joined(*layer[i : i + 2]) for i in range(0, len(layer), 2)]
        return cls(layer[0])

    def prove(self, key: bytes) -> SparseProof:
        """Return a proof that ``key`` has its value, or that it is absent."""
        path, node, bit, siblings = _path(key), self._top, PATH_BITS - 1, list[bytes]()
        while isinstance(node, _Branch):
            near, far = (node.right, node.left) if path >> bit & 1 else (node.left, node.right)
            siblings.append(_digest(far))
            node, bit = near, bit - 1
        if node is None or node.path == path:
            return SparseProof(tuple(siblings), b"", b"")
        return SparseProof(
            tuple(siblings), node.path.to_bytes(32, "big"), _value_hash(encode(node.value))
        )


def root_of_parts(parts: Sequence[tuple[Digest, bool]]) -> Digest:
    """Return the root of a map that is cut into parts of these digests.

    The flag is True for a part of one entry: where its neighbour is empty it stands in the place of both. There
    are a power of two of them. A wrong flag leads to another root.
    """
    layer = list(parts)
    while len(layer) > 1:
        layer = [_over(*layer[i : i + 2]) for i in range(0, len(layer), 2)]
    return layer[0][0]


def _over(left: tuple[Digest, bool], right: tuple[Digest, bool]) -> tuple[Digest, bool]:
    """Return the digest above two parts, and whether they have one entry together."""
    for one, other in ((left, right), (right, left)):
        if other[0] == NO_DIGEST and (one[1] or one[0] == NO_DIGEST):
            return one
    return Digest(_inner_digest(left[0], right[0])), False


def verify_included(root: Digest, key: bytes, value: bytes, proof: SparseProof) -> None:
    """Raise ``BrokenPromise`` unless ``key`` holds the value encoded as ``value`` under ``root``."""
    if proof.other_path or proof.other_value_hash:
        raise BrokenPromise("a proof of absence where one of presence was promised")
    path = _path(key)
    _check(root, path, _leaf_digest(path.to_bytes(32, "big"), _value_hash(value)), proof)


def verify_absent(root: Digest, key: bytes, proof: SparseProof) -> None:
    """Raise ``BrokenPromise`` unless ``key`` is absent under ``root``."""
    path, found = _path(key), bytes(NO_DIGEST)
    if proof.other_path:
        other = int.from_bytes(proof.other_path, "big")
        shared = PATH_BITS - len(proof.siblings)
        if len(proof.other_path) != 32 or len(proof.other_value_hash) != 32 or other == path:
            raise BrokenPromise("not a proof of absence")
        if shared < 0 or other >> shared != path >> shared:
            raise BrokenPromise("the other leaf does not stand in the way")
        found = _leaf_digest(proof.other_path, proof.other_value_hash)
    elif proof.other_value_hash:
        raise BrokenPromise("not a proof of absence")
    _check(root, path, found, proof)


def _check(root: Digest, path: int, found: bytes, proof: SparseProof) -> None:
    depth = len(proof.siblings)
    if depth > PROOF_SIBLINGS_MAX or any(len(sibling) != 32 for sibling in proof.siblings):
        raise BrokenPromise("a proof of the wrong shape")
    for level, sibling in zip(range(depth - 1, -1, -1), reversed(proof.siblings), strict=True):
        right = path >> (PATH_BITS - 1 - level) & 1
        found = _inner_digest(sibling, found) if right else _inner_digest(found, sibling)
    if found != root:
        raise BrokenPromise("a proof that does not lead to its root")


def _edited(node: "_Node[V]", edits: Mapping[int, _Leaf[V] | None], bit: int) -> "_Node[V]":
    """Return ``node`` after ``edits``; ``bit`` is the bit of the path that decides at this depth."""
    if not edits:
        return node
    if not isinstance(node, _Branch):
        leaves = [leaf for leaf in edits.values() if leaf is not None]
        if node is not None and node.path not in edits:
            leaves.append(node)
        return _built(leaves, bit)
    zeros = {path: leaf for path, leaf in edits.items() if not path >> bit & 1}
    ones = {path: leaf for path, leaf in edits.items() if path >> bit & 1}
    return _joined(_edited(node.left, zeros, bit - 1), _edited(node.right, ones, bit - 1))


def _built(leaves: list[_Leaf[V]], bit: int) -> "_Node[V]":
    if len(leaves) < 2:
        return leaves[0] if leaves else None
    zeros = [leaf for leaf in leaves if not leaf.path >> bit & 1]
    ones = [leaf for leaf in leaves if leaf.path >> bit & 1]
    return _joined(_built(zeros, bit - 1), _built(ones, bit - 1))


def _joined(left: "_Node[V]", right: "_Node[V]") -> "_Node[V]":
    if left is None and not isinstance(right, _Branch):
        return right
    if right is None and not isinstance(left, _Branch):
        return left
    return _branch(left, right)


def _halves(node: "_Node[V]", bit: int) -> "tuple[_Node[V], _Node[V]]":
    if isinstance(node, _Branch):
        return node.left, node.right
    if node is not None and node.path >> bit & 1:
        return None, node
    return node, None


def _size(node: "_Node[V]") -> int:
    return node.size if isinstance(node, _Branch) else int(node is not None)


def _digest(node: "_Node[V]") -> bytes:
    return NO_DIGEST if node is None else node.digest


@lru_cache(PATHS_CACHED)
def _path(key: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"\x04" + key).digest(), "big")


def _value_hash(value: bytes) -> bytes:
    return hashlib.sha256(b"\x05" + value).digest()


def _leaf_digest(path: bytes, value_hash: bytes) -> bytes:
    return hashlib.sha256(b"\x06" + path + value_hash).digest()


def _inner_digest(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x07" + left + right).digest()
