"""What is held for others is bounded, and the peer that holds the most makes room."""

import random

import pytest

from swarm.errors import Unreachable
from swarm.host.client import STREAMS_MAX
from swarm.host.memory_quota import (
    BULK_BYTES_MAX,
    BULK_PER_PEER_BYTES_MAX,
    HELD_BYTES_MAX,
    LEAVING_BYTES_MAX,
    UNREAD_BYTES_MAX,
    UNREAD_BYTES_MIN,
    UNREAD_PER_CONNECTION_BYTES_MAX,
    ByteBudget,
    UnreadBytes,
    bulk_budget,
    small_budget,
    stream_budget,
)
from swarm.primitives.codec import FRAME_BYTES_MAX, LONGEST_FRAME_BYTES
from swarm.types import PeerId

ALICE, BOB, MALLORY = (PeerId(bytes([i]) * 32) for i in range(3))


def a_budget() -> ByteBudget:
    return ByteBudget(per_peer_bytes_max=60, bytes_max=100)


@pytest.mark.rule("H5", "S5")
def test_one_peer_has_its_part_and_gets_it_back() -> None:
    budget = a_budget()
    number, evicted = budget.admit(MALLORY, 60)
    assert evicted == ()
    with pytest.raises(Unreachable):
        budget.admit(MALLORY, 1)
    assert budget.admit(ALICE, 40)[1] == ()
    budget.release(number)
    budget.release(number)
    assert (budget.of(MALLORY), budget.num_bytes) == (0, 40)
    assert budget.admit(MALLORY, 60)[1] == ()


@pytest.mark.rule("H5", "S5")
def test_the_peer_that_holds_the_most_makes_room_oldest_first() -> None:
    budget = a_budget()
    first, _ = budget.admit(MALLORY, 30)
    second, _ = budget.admit(MALLORY, 30)
    budget.admit(BOB, 30)
    assert budget.admit(ALICE, 20)[1] == (first,)
    assert (budget.of(MALLORY), budget.of(BOB), budget.of(ALICE)) == (30, 30, 20)
    assert budget.admit(BOB, 20)[1] == ()
    budget.arrived(second)
    with pytest.raises(Unreachable):
        budget.admit(ALICE, 40)


@pytest.mark.rule("H5")
def test_what_has_arrived_is_not_pushed_out_and_no_peer_pushes_out_one_that_holds_less() -> None:
    budget = a_budget()
    number, _ = budget.admit(MALLORY, 60)
    budget.arrived(number)
    budget.admit(BOB, 40)
    with pytest.raises(Unreachable):
        budget.admit(ALICE, 1 + 40)
    assert budget.admit(ALICE, 10)[1], "BOB holds more than ALICE will"
    before = (budget.num_bytes, budget.of(ALICE), budget.of(MALLORY))
    with pytest.raises(Unreachable):
        budget.admit(MALLORY, 40)
    assert (budget.num_bytes, budget.of(ALICE), budget.of(MALLORY)) == before


@pytest.mark.rule("H5", "S5")
def test_a_peer_may_keep_every_stream_of_micro_batches_full_and_say_more() -> None:
    """And that is all: sixteen of the longest frames are the budget of all peers together."""
    budget = bulk_budget()
    for _ in range(STREAMS_MAX):
        budget.admit(ALICE, LONGEST_FRAME_BYTES)
    budget.admit(ALICE, FRAME_BYTES_MAX)
    with pytest.raises(Unreachable):
        budget.admit(ALICE, LONGEST_FRAME_BYTES)
    assert BULK_PER_PEER_BYTES_MAX < (72 << 20) + (1 << 20)
    assert BULK_BYTES_MAX == 132 << 20
    assert HELD_BYTES_MAX == 152 << 20


@pytest.mark.rule("H5", "S5")
@pytest.mark.parametrize("budget", [a_budget(), small_budget(), bulk_budget(), stream_budget()])
def test_no_order_of_offers_breaks_a_bound(budget: ByteBudget, seed: int) -> None:
    rng, held, left = random.Random(seed), dict[int, None](), list[int]()
    most, part = budget._bytes_max, budget._per_peer_bytes_max
    for _ in range(2_000):
        peer = PeerId(bytes([rng.randrange(12)]) * 32)
        match rng.randrange(3):
            case 0 if held:
                budget.release(gone := rng.choice(sorted(held)))
                held.pop(gone)
            case 1 if held:
                budget.arrived(rng.choice(sorted(held)))
            case _:
                try:
                    number, evicted = budget.admit(peer, rng.randrange(part))
                except Unreachable:
                    continue
                held[number] = None
                for other in evicted:
                    del held[other]
                    if rng.random() < 0.8:
                        budget.release(other)
                    else:
                        left.append(other)
        assert budget.num_bytes <= most
        assert sum(budget._leaving.values()) <= max(LEAVING_BYTES_MAX, most)
        assert all(budget.of(PeerId(bytes([i]) * 32)) <= part for i in range(12))
    for number in (*held, *left):
        budget.release(number)
    assert budget.num_bytes == 0
    assert not budget._leaving
    assert not budget._by_peer
    assert not budget._held


@pytest.mark.rule("H5", "S5")
def test_a_crowd_that_announces_everything_and_sends_nothing_pushes_out_itself() -> None:
    """Sixteen unknown peers ask for all they may have; a peer with an honest micro-batch is let in at once."""
    budget = bulk_budget()
    for outsider in range(3, 19):
        for _ in range(16):
            try:
                _, evicted = budget.admit(PeerId(bytes([outsider]) * 32), 4 << 20)
            except Unreachable:
                break
            for number in evicted:
                budget.release(number)
    assert budget.num_bytes == BULK_BYTES_MAX
    assert budget.admit(ALICE, 4 << 20)[1]
    assert budget.of(ALICE) == 4 << 20


@pytest.mark.rule("H5", "S5")
def test_attack_who_asks_faster_than_others_leave_is_refused() -> None:
    """What was evicted is there until its task has had a turn: a crowd that asks in one turn adds nothing."""
    budget = bulk_budget()
    outsiders = [PeerId(bytes([number]) * 32) for number in range(3, 203)]
    evicted, is_refused = list[int](), False
    for outsider in outsiders:
        for _ in range(2 if outsider in outsiders[:17] else 1):
            try:
                evicted += budget.admit(outsider, 4 << 20)[1]
            except Unreachable:
                is_refused = True
    assert is_refused
    assert len(evicted) * (4 << 20) <= LEAVING_BYTES_MAX
    for number in evicted:
        budget.release(number)
    assert budget.admit(ALICE, 4 << 20)[1], "and one is let in as soon as there is room"


def test_an_answer_makes_no_room_before_it_is_on_its_way() -> None:
    budget = a_budget()
    number, _ = budget.admit(MALLORY, 60, is_moving=False)
    budget.admit(BOB, 40)
    with pytest.raises(Unreachable):
        budget.admit(ALICE, 45)
    budget.moves(number)
    assert budget.admit(ALICE, 45)[1] == (number,)


@pytest.mark.rule("H31", "S5")
def test_bytes_of_other_kinds_leave_less_room_for_questions() -> None:
    unread = UnreadBytes[str]()
    budget = bulk_budget(lambda: unread.num_bytes)
    unread.beside = lambda: budget.num_bytes
    for number in range(4):
        assert unread.add(f"link {number}", 16 << 20) is None
    room = HELD_BYTES_MAX - (64 << 20)
    budget.admit(ALICE, room // 2)
    budget.admit(BOB, room // 2)
    assert budget.admit(MALLORY, 1 << 20)[1], "ALICE or BOB makes room"
    assert budget.num_bytes + unread.num_bytes <= HELD_BYTES_MAX


@pytest.mark.rule("H8", "S5")
def test_the_connection_with_the_most_unread_bytes_is_cut_when_all_hold_too_much() -> None:
    unread = UnreadBytes[str]()
    assert unread.add("mallory", 24 << 20) is None
    assert unread.add("bob", 16 << 20) is None
    unread.remove("bob", 4 << 20)
    assert unread.add("carol", 20 << 20) is None
    assert unread.add("alice", 8 << 20) is None
    assert unread.num_bytes == UNREAD_BYTES_MAX
    assert unread.add("alice", 1) == "mallory"
    assert (unread.of("mallory"), unread.num_bytes) == (0, (40 << 20) + 1)
    unread.remove("mallory", 1 << 20)
    assert unread.num_bytes == (40 << 20) + 1, "what was forgotten is counted no more"


@pytest.mark.rule("H8")
def test_one_connection_has_its_part_of_the_unread_bytes() -> None:
    unread = UnreadBytes[str]()
    assert unread.add("mallory", UNREAD_PER_CONNECTION_BYTES_MAX) is None
    assert unread.add("mallory", 1) == "mallory"
    assert unread.num_bytes == 0


@pytest.mark.rule("H31")
def test_questions_leave_a_little_room_for_bytes_that_nobody_has_read_yet() -> None:
    unread = UnreadBytes[str](lambda: HELD_BYTES_MAX)
    assert unread.add("alice", UNREAD_BYTES_MIN) is None
    assert unread.add("bob", 1) == "alice"
