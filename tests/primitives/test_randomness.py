"""Random streams are a function of seed, purpose and context, and fair."""

from collections import Counter

import pytest

from swarm.primitives.randomness import RandomStream, stream

SEED = b"s" * 32


def test_the_same_context_draws_the_same_numbers() -> None:
    first, second = stream(SEED, "pairing", 3, b"run"), stream(SEED, "pairing", 3, b"run")
    assert [first.below(1000) for _ in range(50)] == [second.below(1000) for _ in range(50)]


def test_another_seed_purpose_or_context_throws_others() -> None:
    streams = [
        stream(SEED, "pairing", 3),
        stream(b"t" * 32, "pairing", 3),
        stream(SEED, "sampling", 3),
        stream(SEED, "pairing", 4),
        stream(SEED, "pairing", 3, 0),
        stream(SEED, "pairing", -3),
        stream(SEED, "pairing", b"3"),
    ]
    assert len({rng.bytes_(16) for rng in streams}) == len(streams)


def test_bytes_come_in_one_order_however_they_are_asked_for() -> None:
    whole, parts = RandomStream(SEED), RandomStream(SEED)
    assert whole.bytes_(5000) == b"".join(parts.bytes_(n) for n in (1, 1023, 1, 2000, 1975))


@pytest.mark.parametrize("bound", [1, 2, 3, 6, 255, 256, 257, 1000, 1 << 40, (1 << 64) + 1])
def test_a_draw_stays_below_its_bound(bound: int) -> None:
    rng = stream(SEED, "below")
    assert all(0 <= rng.below(bound) < bound for _ in range(200))


def test_a_small_die_is_fair() -> None:
    rng, num_draws = stream(SEED, "fair"), 60_000
    counts = Counter(rng.below(6) for _ in range(num_draws))
    chi_squared = sum((counts[face] - num_draws / 6) ** 2 / (num_draws / 6) for face in range(6))
    assert chi_squared < 20.5  # 5 degrees of freedom, odds of 1 in 1000; the seed is fixed


def test_every_permutation_is_as_likely() -> None:
    rng = stream(SEED, "shuffle")
    counts = Counter(tuple(rng.shuffled("abc")) for _ in range(6000))
    assert len(counts) == 6
    assert all(850 < count < 1150 for count in counts.values())


def test_a_choice_follows_its_weights() -> None:
    rng = stream(SEED, "weights")
    counts = Counter(rng.choice("abc", (1, 0, 3)) for _ in range(4000))
    assert counts["b"] == 0
    assert 900 < counts["a"] < 1100
    assert {rng.choice("xy") for _ in range(40)} == {"x", "y"}
