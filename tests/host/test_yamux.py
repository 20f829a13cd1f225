"""A pile is what Yamux takes it for, however frames are cut, and no peer makes it cost more than its bytes."""

import random
import sys

import pytest

from swarm.host.yamux import SMALL_BYTES, ReceiveBuffer


@pytest.mark.parametrize("seed", range(30))
def test_a_pile_answers_like_a_bytearray(seed: int) -> None:
    rng = random.Random(seed)
    pile, model = ReceiveBuffer(), bytearray()
    for _ in range(60):
        match rng.randrange(6):
            case 0:
                size = rng.randrange(len(model) + 2)
                assert bytes(pile[:size]) == model[:size]
                del pile[:size], model[:size]
            case 1:
                assert bytes(pile) == model
                pile.clear()
                model.clear()
            case _:
                piece = rng.randbytes(rng.choice([0, 1, 7, SMALL_BYTES - 1, 3 * SMALL_BYTES]))
                pile.extend(piece)
                model.extend(piece)
        assert len(pile) == len(model)
        assert bool(pile) == bool(model)
    assert bytes(pile) == model


def test_a_single_frame_is_not_copied() -> None:
    pile, frame = ReceiveBuffer(), bytes(SMALL_BYTES)
    pile.extend(frame)
    assert bytes(pile) is frame


@pytest.mark.rule("H19")
def test_frames_of_one_byte_cost_one_byte_each() -> None:
    pile = ReceiveBuffer()
    for _ in range(100_000):
        pile.extend(b"ab")
    assert len(pile) == 200_000
    assert len(pile._parts) == 1
    assert sys.getsizeof(pile._parts[0]) < 2 * len(pile)


def test_large_frames_and_small_ones_in_turns_cost_little_more() -> None:
    pile = ReceiveBuffer()
    for _ in range(100):
        pile.extend(bytes(SMALL_BYTES))
        pile.extend(b"a")
    assert len(pile._parts) == 200


@pytest.mark.rule("H19")
def test_a_pile_of_many_questions_is_read_in_the_time_of_one() -> None:
    """A peer sends megabytes of small questions at once, and each is read alone."""
    pile = ReceiveBuffer()
    for _ in range(8):
        pile.extend(bytes(1 << 20))
    taken = []
    for _ in range(100):
        view = pile[:64]
        del pile[:64]
        taken.append(view)
    assert len(pile) == (8 << 20) - 6400
    assert {len(one) for one in taken} == {64}
    assert len(pile._parts) == 8, "nothing was put together for it"


def test_a_small_frame_behind_one_that_is_half_read_joins_what_is_left() -> None:
    pile = ReceiveBuffer()
    pile.extend(b"abc")
    assert pile[:2] == b"ab"
    del pile[:2]
    pile.extend(b"def")
    assert bytes(pile) == b"cdef"
    pile.clear()
    pile.extend(b"gh")
    assert bytes(pile) == b"gh"
