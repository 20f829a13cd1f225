"""Open a digest: show some bytes of a tensor or a message under it, or the hashes between it and them.

Core: pure functions.

Everything that is committed is hashed by BLAKE3 in one of two ways (``commitments.tensor_hash``,
``crypto.fast_digest``): at once, behind a head that names its purpose, or, for tensors above 1 MiB, as a Merkle
tree over parts of 1 MiB that are hashed so. Both are trees down to leaves of 1 KiB, and every byte can be shown
alone: a commitment to all of a model is a commitment to each of its elements, and costs no more.

    Content   form of what a digest is of: its head and its length, which fix the shape of the tree
    Place     one hash of the tree: in the Merkle tree over the parts (part -1), or in the tree of one part
    Opening   neighbouring bytes with what lies beside them, up to the digest
    Tree      the hashes of given bytes, computed where they are wanted

A split goes down several layers at once, from a hash to all hashes below it: only those of the right number,
that lead to it, pass, so whoever opens cannot add or leave out a leaf.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3

from swarm.errors import BadEncoding, BrokenPromise
from swarm.primitives.blake3_tree import (
    LEAF_BYTES,
    layers_of,
    leaf_count,
    leaf_hashes,
    parent_hash,
    root_digest,
)
from swarm.primitives.codec import Message, encode
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES
from swarm.primitives.crypto import fast_digest, framed
from swarm.primitives.merkle import layer_above, leaf_hash, sealed
from swarm.types import NO_DIGEST, Digest

WHOLE = -1
"""Part of a place in the tree over all parts."""


@dataclass(frozen=True, slots=True)
class Content:
    """Form of what a digest is of: all but the bytes."""

    head: bytes
    """Bytes that are hashed before the content, or before each of its parts but for their length."""
    num_bytes: int
    tree_head: bytes | None = None
    """First part of the digest of a tensor above 1 MiB; None for what is hashed at once."""

    @property
    def parts(self) -> int:
        """Number of parts that are hashed by themselves."""
        return 1 if self.tree_head is None else -(-self.num_bytes // TENSOR_CHUNK_BYTES)

    @property
    def top(self) -> "Place":
        """Place of the digest."""
        if self.tree_head is None:
            return Place(0, _height(self._leaves(0)), 0)
        return Place(WHOLE, _height(self.parts), 0)

    def part_bytes(self, part: int) -> int:
        """Return the bytes of a part."""
        if self.tree_head is None:
            return self.num_bytes
        return min(TENSOR_CHUNK_BYTES, self.num_bytes - part * TENSOR_CHUNK_BYTES)

    def part_head(self, part: int) -> bytes:
        """Return the bytes that are hashed before a part."""
        return self.head + self.part_bytes(part).to_bytes(8, "big")

    def leaves(self, place: "Place") -> int:
        """Return the leaves of the tree that a place is in."""
        return self.parts if place.part == WHOLE else self._leaves(place.part)

    def _leaves(self, part: int) -> int:
        return leaf_count(len(self.part_head(part)) + self.part_bytes(part))

    def span(self, place: "Place") -> tuple[int, int]:
        """Return (start, stop) of the bytes below a place."""
        first, stop = place.index << place.level, (place.index + 1) << place.level
        if place.part == WHOLE:
            return first * TENSOR_CHUNK_BYTES, min(stop * TENSOR_CHUNK_BYTES, self.num_bytes)
        before, num_bytes = len(self.part_head(place.part)), self.part_bytes(place.part)
        start = place.part * TENSOR_CHUNK_BYTES
        ends = (max(first * LEAF_BYTES - before, 0), min(stop * LEAF_BYTES - before, num_bytes))
        return start + ends[0], start + max(ends[1], 0)


def tensor_content(dtype: str, shape: Sequence[int], num_bytes: int) -> Content:
    """Return the content of ``commitments.tensor_hash``."""
    if num_bytes <= TENSOR_CHUNK_BYTES:
        return Content(framed("tensor", (encode((dtype, tuple(shape))),)), num_bytes)
    head = encode((dtype, tuple(shape), num_bytes))
    return Content(framed("tensor-chunk", ()), num_bytes, head)


def message_content(purpose: str, num_bytes: int) -> Content:
    """Return the content of ``fast_digest(purpose, message)``."""
    return Content(framed(purpose, ()), num_bytes)


class Place(Message, frozen=True):
    """A hash in the tree of a content: number ``index`` of a layer, ``level`` layers above the leaves."""

    part: int
    level: int
    index: int


class Opening(Message, frozen=True):
    """Neighbouring bytes of a content, with the hashes beside them, from the left to the right."""

    start: int
    data: bytes
    path: tuple[bytes, ...]


def layers_below(content: Content, place: Place) -> int:
    """Return the layers from a place down to the leaves of its tree; at a leaf of the parts, of that part."""
    return _entered(content, place).level


def is_leaf(content: Content, place: Place) -> bool:
    """Return True if nothing but bytes is below a place."""
    return _entered(content, place).level == 0


def children(content: Content, place: Place, bits: int) -> list[Place]:
    """Return the places that a split of at most ``bits`` layers opens, from the left to the right."""
    place = _entered(content, place)
    level = max(place.level - bits, 0)
    down, leaves = place.level - level, content.leaves(place)
    below = range(place.index << down, (place.index + 1) << down)
    found = [Place(place.part, level, at) for at in below if at << level < leaves]
    return [_settled(content, one) for one in found]


def lead(content: Content, place: Place, hashes: Sequence[bytes], bits: int) -> bytes:
    """Return the hash at a place from those that a split of it opens.

    Raises ``BadEncoding`` unless these are as many as the split has.
    """
    below = children(content, place, bits)
    if len(hashes) != len(below) or any(len(one) != 32 for one in hashes):
        raise BadEncoding(f"a split of {len(hashes)} where {len(below)} are opened")
    inner = _entered(content, place)
    level, layer = max(inner.level - bits, 0), list(hashes)
    while level < inner.level:
        level += 1
        first = Place(inner.part, level, inner.index << (inner.level - level))
        layer = _above(content, first, layer)
    return _outer(content, place, inner, layer[0])


def lead_from_data(content: Content, place: Place, data: bytes) -> bytes:
    """Return the hash at a leaf from its bytes; raise ``BadEncoding`` unless it has as many."""
    start, stop = content.span(place)
    if len(data) != stop - start:
        raise BadEncoding(f"{len(data)} bytes of a leaf of {stop - start}")
    inner = _entered(content, place)
    return _outer(content, place, inner, _leaf(content, inner, data))


def covered(content: Content, start: int, stop: int) -> tuple[int, int]:
    """Return (start, stop) of the leaves that have these bytes; raises ``BadEncoding`` for others."""
    if not 0 <= start < stop <= content.num_bytes:
        raise BadEncoding(f"bytes {start} to {stop} of {content.num_bytes}")
    first, last = _leaf_at(content, start), _leaf_at(content, stop - 1)
    return content.span(first)[0], content.span(last)[1]


def check_opening(content: Content, digest: Digest, opening: Opening) -> None:
    """Raise ``PeerFault`` unless an opening is of whole leaves under a digest."""
    start, stop = opening.start, opening.start + len(opening.data)
    if covered(content, start, stop) != (start, stop):
        raise BadEncoding("an opening that begins or ends within a leaf")
    if any(len(one) != 32 for one in opening.path):
        raise BadEncoding("a hash that has not 32 bytes")
    beside = iter(opening.path)
    found = _opened(content, content.top, opening, beside)
    if next(beside, None) is not None or found != digest:
        raise BrokenPromise("an opening that does not lead to its digest")


class Tree:
    """The hashes of a content, from its bytes."""

    def __init__(self, content: Content, data: bytes | bytearray | memoryview) -> None:
        self._content = content
        self._view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        self._part = WHOLE
        self._layers: list[list[bytes]] = []
        self._parts: list[list[bytes]] = []

    @property
    def digest(self) -> Digest:
        """The digest of the content."""
        return Digest(self._hash(self._content.top))

    def split(self, place: Place, bits: int) -> tuple[bytes, ...]:
        """Return the hashes of a split of a place."""
        return tuple(self._hash(one) for one in children(self._content, place, bits))

    def data(self, place: Place) -> bytes:
        """Return the bytes below a place."""
        start, stop = self._content.span(place)
        return bytes(self._view[start:stop])

    def opening(self, start: int, stop: int) -> Opening:
        """Return the opening of the leaves that have some bytes."""
        start, stop = covered(self._content, start, stop)
        path = tuple(self._beside(self._content.top, start, stop))
        return Opening(start, bytes(self._view[start:stop]), path)

    def _beside(self, place: Place, start: int, stop: int) -> Iterator[bytes]:
        if not _meets(self._content, place, start, stop):
            yield self._hash(place)
        elif not is_leaf(self._content, place):
            for child in children(self._content, place, 1):
                yield from self._beside(child, start, stop)

    def _hash(self, place: Place) -> bytes:
        if place.part == WHOLE:
            return self._of_parts(place)
        if place == Place(place.part, _height(self._content.leaves(place)), 0):
            return self._part_digest(place.part)
        return self._part_layers(place.part)[place.level][place.index]

    def _of_parts(self, place: Place) -> bytes:
        content = self._content
        if not self._parts:
            digests = [self._part_digest(part) for part in range(content.parts)]
            layer, level = [leaf_hash(one) for one in digests], 0
            self._parts.append(layer)
            while len(layer) > 1 or level < content.top.level:
                level += 1
                layer = _above(content, Place(WHOLE, level, 0), layer)
                self._parts.append(layer)
        top = self._parts[place.level][place.index]
        return _outer(content, place, place, top)

    def _part_digest(self, part: int) -> bytes:
        hasher = blake3(self._content.part_head(part))
        start = part * TENSOR_CHUNK_BYTES
        return hasher.update(self._view[start : start + self._content.part_bytes(part)]).digest()

    def _part_layers(self, part: int) -> list[list[bytes]]:
        if part != self._part:
            start = part * TENSOR_CHUNK_BYTES
            data = self._view[start : start + self._content.part_bytes(part)]
            self._layers = layers_of(leaf_hashes(self._content.part_head(part) + data))
            self._part = part
        return self._layers


def _height(leaves: int) -> int:
    return max(leaves - 1, 0).bit_length()


def _entered(content: Content, place: Place) -> Place:
    """Return the top of a part for its leaf in the tree over all parts; other places as they are."""
    if place.part == WHOLE and place.level == 0:
        part = place.index
        return Place(part, _height(content.leaves(Place(part, 0, 0))), 0)
    return place


def _settled(content: Content, place: Place) -> Place:
    """Return the place itself of a hash that was only carried up, for want of a neighbour."""
    if place.part == WHOLE:
        return place
    level, index, leaves = place.level, place.index, content.leaves(place)
    while level and (2 * index + 1) << (level - 1) >= leaves:
        level, index = level - 1, 2 * index
    return Place(place.part, level, index)


def _above(content: Content, first: Place, layer: Sequence[bytes]) -> list[bytes]:
    """Return the hashes above a layer; the first of them is at ``first``."""
    pairs = [(layer[at], layer[at + 1 : at + 2]) for at in range(0, len(layer), 2)]
    if first.part == WHOLE:
        return layer_above(layer, first.level)
    if first.level == _height(content.leaves(first)):
        return [root_digest(left, right[0]) for left, right in pairs]
    return [parent_hash(left, right[0]) if right else left for left, right in pairs]


def _outer(content: Content, place: Place, inner: Place, hash_: bytes) -> bytes:
    """Return the hash at ``place`` from that at ``inner``, the same one seen from below."""
    if inner != place:
        hash_ = leaf_hash(hash_)
    if content.tree_head is not None and place == content.top:
        root = sealed(hash_, content.parts)
        return fast_digest("tensor-tree", content.tree_head, root)
    return hash_


def _leaf(content: Content, place: Place, data: bytes | memoryview) -> bytes:
    """Return the hash of one leaf from its bytes."""
    head = content.part_head(place.part)
    framed_data = head[place.index * LEAF_BYTES : (place.index + 1) * LEAF_BYTES] + data
    if content.leaves(place) == 1:
        return blake3(framed_data).digest()
    return leaf_hashes(framed_data, place.index)[0]


def _leaf_at(content: Content, at: int) -> Place:
    """Return the place of the leaf that has a byte."""
    part = 0 if content.tree_head is None else at // TENSOR_CHUNK_BYTES
    within = len(content.part_head(part)) + at - part * TENSOR_CHUNK_BYTES
    return Place(part, 0, within // LEAF_BYTES)


def _meets(content: Content, place: Place, start: int, stop: int) -> bool:
    first, last = content.span(place)
    return first < stop and start < last


def _opened(content: Content, place: Place, opening: Opening, beside: Iterator[bytes]) -> bytes:
    """Return the hash at a place, from the bytes of an opening and what lies beside them."""
    start, stop = opening.start, opening.start + len(opening.data)
    if not _meets(content, place, start, stop):
        return next(beside, NO_DIGEST)
    inner = _entered(content, place)
    if is_leaf(content, place):
        first, last = content.span(place)
        data = opening.data[first - start : last - start]
        return _outer(content, place, inner, _leaf(content, inner, data))
    layer = [_opened(content, child, opening, beside) for child in children(content, place, 1)]
    return _outer(content, place, inner, _above(content, inner, layer)[0])
