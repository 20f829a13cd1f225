"""The hashes inside of a BLAKE3 digest lead to the digest that the library computes."""

import random

import pytest
from blake3 import blake3

from swarm.primitives.blake3_tree import layers_of, leaf_count, leaf_hashes, root_digest

MIB = 1 << 20


def bytes_of(num_bytes: int) -> bytes:
    return random.Random(num_bytes).randbytes(num_bytes)


@pytest.mark.parametrize("num_bytes", [1025, 2048, 3000, 7 * 1024, 100 * 1024 + 7, MIB + 31])
def test_the_hashes_below_a_digest_lead_to_it(num_bytes: int) -> None:
    data = bytes_of(num_bytes)
    assert root_digest(*layers_of(leaf_hashes(data))[-1]) == blake3(data).digest()


def test_leaves_are_the_same_one_by_one_and_many_at_once() -> None:
    data = bytes_of(40 * 1024)
    single = [leaf_hashes(data[at * 1024 : (at + 1) * 1024], at)[0] for at in range(40)]
    assert leaf_hashes(data) == single


def test_an_empty_message_has_a_leaf_too() -> None:
    assert [leaf_count(n) for n in (0, 1, 1024, 1025)] == [1, 1, 1, 2]
