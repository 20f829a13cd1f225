"""The hashes inside of a BLAKE3 digest lead to the digest that the library computes."""

import random

import pytest
from blake3 import blake3

from swarm.primitives import blake3_tree
from swarm.primitives.blake3_tree import (
    compiled,
    layers_of,
    leaf_count,
    leaf_hashes,
    parent_hash,
    root_digest,
)

MIB = 1 << 20


def bytes_of(num_bytes: int) -> bytes:
    return random.Random(num_bytes).randbytes(num_bytes)


@pytest.fixture(params=["compiled", "python"])
def _by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the C extension, and as if it had not been built."""
    if request.param == "python":
        monkeypatch.setattr(blake3_tree, "compiled", lambda: None)
    elif compiled() is None:
        pytest.skip("the C extension was not built: there was no compiler")


@pytest.mark.usefixtures("_by")
@pytest.mark.parametrize("num_bytes", [1025, 2048, 3000, 7 * 1024, 100 * 1024 + 7, MIB + 31])
def test_the_hashes_below_a_digest_lead_to_it(num_bytes: int) -> None:
    data = bytes_of(num_bytes)
    assert root_digest(*layers_of(leaf_hashes(data))[-1]) == blake3(data).digest()


@pytest.mark.usefixtures("_by")
def test_leaves_are_the_same_one_by_one_and_many_at_once() -> None:
    data = bytes_of(40 * 1024)
    single = [leaf_hashes(data[at * 1024 : (at + 1) * 1024], at)[0] for at in range(40)]
    assert leaf_hashes(data) == single


def test_an_empty_message_has_a_leaf_too() -> None:
    assert [leaf_count(n) for n in (0, 1, 1024, 1025)] == [1, 1, 1, 2]


@pytest.mark.parametrize("num_bytes", [0, 1, 63, 64, 65, 1000, 1024, 1025, 9 * 1024 + 1])
def test_the_extension_has_the_hashes_of_python(
    num_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any length, from any chunk on: the number of a chunk may need more than 32 bits."""
    data = memoryview(bytes_of(num_bytes))
    found = [leaf_hashes(data, first) for first in (0, 3, (1 << 40) + 5)]
    above = parent_hash(found[0][0], found[1][0]), root_digest(found[0][0], found[1][0])
    layers = layers_of(found[0] * 3)
    monkeypatch.setattr(blake3_tree, "compiled", lambda: None)
    assert found == [leaf_hashes(data, first) for first in (0, 3, (1 << 40) + 5)]
    assert above == (
        parent_hash(found[0][0], found[1][0]),
        root_digest(found[0][0], found[1][0]),
    )
    assert layers == layers_of(found[0] * 3)


def test_a_library_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blake3_tree, "VERSION", -1)
    compiled.cache_clear()
    assert compiled() is None
    compiled.cache_clear()
