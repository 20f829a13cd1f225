"""A sparse map has one root per contents, and its proofs hold for nothing else."""

import random
from time import perf_counter

import pytest

from swarm.errors import BrokenPromise
from swarm.primitives.codec import encode, replace
from swarm.primitives.merkle import (
    MapPart,
    SparseMap,
    root_of_parts,
    verify_absent,
    verify_included,
)
from swarm.types import NO_DIGEST, Digest


def a_map(count: int) -> SparseMap[bytes]:
    return SparseMap[bytes]().update({b"key%d" % i: b"value%d" % i for i in range(count)})


@pytest.mark.rule("L5")
def test_the_root_depends_on_the_contents_and_not_on_the_order_of_changes() -> None:
    rng = random.Random(7)
    contents = {b"k%d" % i: b"v%d" % i for i in range(200)}
    one = SparseMap[bytes]()
    for key in rng.sample(sorted(contents), 200):
        one = one.set(key, contents[key])
    two = SparseMap[bytes]().update(contents).update({b"extra%d" % i: b"x" for i in range(50)})
    for i in rng.sample(range(50), 50):
        two = two.delete(b"extra%d" % i)
    assert one.root == two.root
    assert one == two != one.delete(b"k0")
    assert hash(one) == hash(two)
    assert dict(one.items()) == dict(two.items()) == contents
    assert len(one) == len(two) == 200


def test_a_random_stream_of_changes_agrees_with_a_dict() -> None:
    rng, model, tree = random.Random(3), dict[bytes, bytes](), SparseMap[bytes]()
    for _ in range(300):
        changes = {
            b"%d" % rng.randrange(80): rng.choice([None, b"%d" % rng.randrange(9)])
            for _ in range(rng.randrange(6))
        }
        tree = tree.update(changes)
        for key, value in changes.items():
            model.pop(key, None)
            if value is not None:
                model[key] = value
        assert len(tree) == len(model)
    assert dict(tree.items()) == model
    assert tree.root == SparseMap[bytes]().update(model).root


def test_an_old_version_is_untouched_and_the_empty_map_has_no_digest() -> None:
    old = a_map(5)
    root = old.root
    old.update({b"key1": b"other", b"key2": None, b"new": b"x"})
    assert old.root == root
    assert old.get(b"key1") == b"value1"
    assert SparseMap[bytes]().root == NO_DIGEST
    assert a_map(1).delete(b"key0").root == NO_DIGEST


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_presence_and_absence_are_provable(count: int) -> None:
    tree = a_map(count)
    for i in range(count):
        verify_included(tree.root, b"key%d" % i, encode(b"value%d" % i), tree.prove(b"key%d" % i))
    for i in range(50):
        verify_absent(tree.root, b"nokey%d" % i, tree.prove(b"nokey%d" % i))
    verify_absent(NO_DIGEST, b"any", SparseMap[bytes]().prove(b"any"))


def test_a_proof_holds_for_nothing_else() -> None:
    tree = a_map(50)
    proof, absence = tree.prove(b"key7"), tree.prove(b"nokey")
    for root, key, value, wrong in (
        (tree.root, b"key7", b"value8", proof),
        (tree.root, b"key8", b"value7", proof),
        (Digest(bytes(31) + b"1"), b"key7", b"value7", proof),
        (tree.root, b"key7", b"value7", replace(proof, siblings=proof.siblings[1:])),
        (tree.root, b"key7", b"value7", replace(proof, siblings=(b"x",) * 300)),
    ):
        with pytest.raises(BrokenPromise):
            verify_included(root, key, encode(value), wrong)
    for key, wrong in (
        (b"key7", proof),
        (b"key7", absence),
        (b"nokey", replace(absence, other_path=bytes(32), other_value_hash=bytes(32))),
        (b"nokey", replace(absence, siblings=absence.siblings * 60)),
    ):
        with pytest.raises(BrokenPromise):
            verify_absent(tree.root, key, wrong)


def test_a_leaf_cannot_be_denied_by_showing_it_as_another() -> None:
    tree = a_map(50)
    present = tree.prove(b"key7")
    stranger = next(b"n%d" % i for i in range(999) if tree.prove(b"n%d" % i).other_path)
    beside = tree.prove(stranger)
    with pytest.raises(BrokenPromise):
        verify_absent(
            tree.root,
            b"key7",
            replace(
                present, other_path=beside.other_path, other_value_hash=beside.other_value_hash
            ),
        )


def test_a_hundred_changes_among_ten_thousand_keys_are_quick() -> None:
    tree = a_map(10_000)
    began = perf_counter()
    tree.update({b"key%d" % (i * 97): b"changed" for i in range(100)})
    assert perf_counter() - began < 0.05


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9, 50, 300])
@pytest.mark.parametrize("depth", [0, 1, 3, 6])
def test_a_map_is_the_same_from_its_parts(count: int, depth: int) -> None:
    tree = a_map(count)
    parts = tree.cut(depth)
    assert len(parts) == 1 << depth
    assert sum(map(len, parts)) == count
    named = [(part.digest, len(part) == 1) for part in parts]
    assert root_of_parts(named) == tree.root
    built = [
        MapPart.build(list(part.items()), index=i, depth=depth) for i, part in enumerate(parts)
    ]
    assert [part.digest for part in built] == [part.digest for part in parts]
    again = SparseMap[bytes].join(built)
    assert again.root == tree.root
    assert dict(again.items()) == dict(tree.items())
    assert again.get(b"key0") == tree.get(b"key0")


def test_false_names_of_parts_lead_to_another_root() -> None:
    tree = a_map(5)
    named = [(part.digest, len(part) == 1) for part in tree.cut(3)]
    assert any(digest == NO_DIGEST for digest, _ in named)
    alone = next(i for i in range(8) if named[i][1] and named[i ^ 1][0] == NO_DIGEST)
    moved = list(named)
    moved[alone], moved[alone ^ 1] = named[alone ^ 1], named[alone]
    assert root_of_parts(moved) == tree.root, "which half a lone entry is in, its path says"
    doubted = list(named)
    doubted[alone] = (named[alone][0], False)
    assert root_of_parts(doubted) != tree.root
    without = list(named)
    without[alone] = (NO_DIGEST, False)
    assert root_of_parts(without) != tree.root


def test_a_part_has_its_own_entries_only_in_the_order_of_their_paths() -> None:
    parts = a_map(50).cut(2)
    items = list(parts[1].items())
    assert len(items) > 2
    for wrong in (items[::-1], [*items, items[-1]], [items[0], *list(parts[2].items())]):
        with pytest.raises(BrokenPromise):
            MapPart.build(wrong, index=1, depth=2)
    with pytest.raises(BrokenPromise):
        MapPart.build(items, index=0, depth=2)
