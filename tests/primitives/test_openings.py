"""Every byte under a digest can be shown alone, and nothing else passes."""

import random
from itertools import pairwise

import pytest

from swarm.errors import BadEncoding, PeerFault
from swarm.primitives.codec import replace
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES, tensor_hash
from swarm.primitives.crypto import fast_digest
from swarm.primitives.openings import (
    Content,
    Place,
    Tree,
    check_opening,
    children,
    covered,
    is_leaf,
    lead,
    lead_from_data,
    message_content,
    tensor_content,
)
from swarm.types import Digest

MIB = TENSOR_CHUNK_BYTES
SIZES = (4, 900, 1000, 1024, 5000, MIB - 40, MIB, MIB + 4, 2 * MIB + 500, 3 * MIB, 5 * MIB + 492)
BITS = 4


def bytes_of(num_bytes: int) -> bytes:
    return random.Random(num_bytes).randbytes(num_bytes)


def contents(num_bytes: int) -> list[tuple[Content, Digest]]:
    """A tensor and a message of these bytes, with the digests that everything else computes of them."""
    data, shape = bytes_of(num_bytes), (num_bytes // 4,)
    return [
        (tensor_content("float32", shape, num_bytes), tensor_hash("float32", shape, data)),
        (message_content("wire", num_bytes), fast_digest("wire", data)),
    ]


@pytest.mark.parametrize("num_bytes", [0, *SIZES])
def test_a_tree_has_the_digest_of_its_content(num_bytes: int) -> None:
    for content, digest in contents(num_bytes):
        assert Tree(content, bytes_of(num_bytes)).digest == digest


@pytest.mark.parametrize("num_bytes", SIZES)
@pytest.mark.parametrize("bits", [1, BITS])
def test_splits_lead_from_a_digest_down_to_any_leaf(num_bytes: int, bits: int) -> None:
    rng, data = random.Random(num_bytes), bytes_of(num_bytes)
    for content, digest in contents(num_bytes):
        tree = Tree(content, data)
        for _ in range(6):
            place: Place = content.top
            hash_: bytes = digest
            while not is_leaf(content, place):
                hashes = tree.split(place, bits)
                assert lead(content, place, hashes, bits) == hash_
                below = children(content, place, bits)
                ends = [content.span(one) for one in below]
                assert (ends[0][0], ends[-1][1]) == content.span(place)
                assert all(a[1] == b[0] for a, b in pairwise(ends))
                child = rng.randrange(len(below))
                place, hash_ = below[child], hashes[child]
            start, stop = content.span(place)
            assert tree.data(place) == data[start:stop]
            assert lead_from_data(content, place, data[start:stop]) == hash_
            with pytest.raises(BadEncoding):
                lead_from_data(content, place, data[start : stop - 1])


@pytest.mark.parametrize("num_bytes", SIZES)
def test_an_opening_shows_whole_leaves_under_their_digest(num_bytes: int) -> None:
    rng, data = random.Random(num_bytes), bytes_of(num_bytes)
    for content, digest in contents(num_bytes):
        tree = Tree(content, data)
        for _ in range(8):
            first = rng.randrange(num_bytes)
            stop = min(num_bytes, first + rng.choice((1, 4, 2000, 70_000)))
            opening = tree.opening(first, stop)
            end = opening.start + len(opening.data)
            assert opening.start <= first
            assert stop <= end
            assert opening.data == data[opening.start : end]
            check_opening(content, digest, opening)


@pytest.mark.parametrize("num_bytes", [900, 5000, MIB + 4, 3 * MIB])
def test_attack_an_opening_of_other_bytes_or_of_another_shape(num_bytes: int) -> None:
    data = bytes_of(num_bytes)
    for content, digest in contents(num_bytes):
        opening = Tree(content, data).opening(num_bytes // 2, num_bytes // 2 + 4)
        changed = bytes([opening.data[0] ^ 1]) + opening.data[1:]
        lies = [
            replace(opening, data=changed),
            replace(opening, data=opening.data[:-1]),
            replace(opening, data=opening.data + b"\0"),
            replace(opening, data=b""),
            replace(opening, start=opening.start + 4),
            replace(opening, start=-1),
            replace(opening, start=10**12),
            replace(opening, path=(*opening.path, bytes(32))),
            replace(opening, path=opening.path[:-1] + (b"",) * bool(opening.path) + (b"",)),
        ]
        if opening.path:
            lies.append(replace(opening, path=opening.path[:-1]))
            lies.append(replace(opening, path=(bytes(32), *opening.path[1:])))
        for lie in lies:
            with pytest.raises(PeerFault):
                check_opening(content, digest, lie)
        other = Digest(bytes(32))
        with pytest.raises(PeerFault):
            check_opening(content, other, opening)


def test_a_split_has_as_many_hashes_as_there_are_below() -> None:
    content, digest = contents(3 * MIB)[0]
    hashes = Tree(content, bytes_of(3 * MIB)).split(content.top, BITS)
    for wrong in (hashes[:-1], (*hashes, hashes[0]), (), (b"", *hashes[1:])):
        with pytest.raises(BadEncoding):
            lead(content, content.top, wrong, BITS)
    assert lead(content, content.top, (hashes[1], hashes[0], *hashes[2:]), BITS) != digest


def test_bytes_that_are_not_there_are_not_covered() -> None:
    content, _ = contents(5000)[0]
    for start, stop in ((-1, 4), (4, 4), (4999, 5001), (8, 4)):
        with pytest.raises(BadEncoding):
            covered(content, start, stop)
