"""A sparse map has one root per contents, and its proofs hold for nothing else."""

import random
from time import perf_counter

import pytest

from swarm.errors import BrokenPromise
from swarm.primitives.codec import encode, replace
from swarm.primitives.merkle import SparseMap, verify_absent, verify_included
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
