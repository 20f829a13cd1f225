"""A root commits to every leaf, its position and their number."""

import pytest

from swarm.errors import BrokenPromise
from swarm.primitives.merkle import (
    Hash,
    blake3_hash,
    merkle_proof,
    merkle_root,
    range_proof,
    sha256_hash,
    verify_proof,
    verify_range,
)
from swarm.types import Digest


def leaves(count: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(count)]


@pytest.mark.parametrize("hash_", [sha256_hash, blake3_hash])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 33])
def test_every_leaf_can_be_proven_in_its_place_only(count: int, hash_: Hash) -> None:
    items = leaves(count)
    root = merkle_root(items, hash_)
    for index, leaf in enumerate(items):
        proof = merkle_proof(items, index, hash_)
        verify_proof(root, leaf, index, count, proof, hash_)
        wrong: list[tuple[bytes, int, int, tuple[bytes, ...]]] = [
            (b"another", index, count, proof),
            (leaf, index, count + 1, proof),
            (leaf, index, count, (*proof, bytes(32))),
            (leaf, -1, count, proof),
            (leaf, count, count, proof),
        ]
        if count > 1:
            wrong.append((leaf, (index + 1) % count, count, proof))
            wrong.append((leaf, index, count, proof[:-1]))
            wrong.append((leaf, index, count, (bytes(32), *proof[1:])))
        for bad in wrong:
            with pytest.raises(BrokenPromise):
                verify_proof(root, bad[0], bad[1], bad[2], bad[3], hash_)


def test_lists_of_different_lengths_have_different_roots() -> None:
    roots = {merkle_root(leaves(count)) for count in range(40)}
    assert len(roots) == 40


def test_padding_is_no_leaf() -> None:
    items = leaves(3)
    root = merkle_root(items)
    for fake in (b"", b"\x02", bytes(32)):
        assert merkle_root([*items, fake]) != root
        with pytest.raises(BrokenPromise):
            verify_proof(root, fake, 3, 4, merkle_proof([*items, fake], 3))


def test_an_inner_node_is_no_leaf() -> None:
    items = leaves(4)
    left = sha256_hash(b"\x00" + items[0]) + sha256_hash(b"\x00" + items[1])
    right = sha256_hash(b"\x00" + items[2]) + sha256_hash(b"\x00" + items[3])
    assert merkle_root([left, right], sha256_hash) != merkle_root(items, sha256_hash)


def test_a_proof_of_absurd_depth_is_refused_at_once() -> None:
    with pytest.raises(BrokenPromise):
        verify_proof(Digest(bytes(32)), b"", 0, 1 << 60, [bytes(32)] * 60)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_neighbours_are_proved_together(count: int) -> None:
    items = leaves(count)
    root = merkle_root(items)
    for first in range(count):
        for stop in range(first + 1, count + 1):
            proof = range_proof(items, first, stop - first)
            verify_range(root, items[first:stop], first, count, proof)
            lies = [
                (items[first:stop], first, count, (*proof, bytes(32))),
                ([b"other", *items[first + 1 : stop]], first, count, proof),
                (items[first:stop], first, count + 1, proof),
                (items[first:stop], first - 1, count, proof),
                ([], first, count, proof),
            ]
            lies += [(items[first:stop], first, count, proof[:-1])] if proof else []
            for lie in lies:
                with pytest.raises(BrokenPromise):
                    verify_range(root, *lie)
