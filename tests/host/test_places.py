"""Who comes with many keys from few addresses pushes out nobody but itself."""

import pytest

from swarm.host.places import (
    IDLE_S,
    OUTBOUND_PART,
    PLACES_MAX,
    STRANGERS_PART,
    Place,
    ask_for_place,
    group_of,
)

EVIL, GOOD, OTHER = "8.8.8.8", "1.1.1.1", "9.9.9.9"
INBOUND_MAX = PLACES_MAX - PLACES_MAX // OUTBOUND_PART


def inbound(
    host: str, *, is_kept: bool = False, standing: bool = False, use: int = 0, age_s: float = 0.0
) -> Place:
    return Place(host, True, is_kept, standing, use, age_s)


def outbound(host: str, *, is_kept: bool = False) -> Place:
    return Place(host, is_inbound=False, is_kept=is_kept)


@pytest.mark.rule("H28")
def test_attack_a_crowd_that_dials_us_leaves_a_quarter_of_the_places_to_us() -> None:
    taken = list[Place]()
    while ask_for_place(inbound(EVIL), taken).is_admitted:
        taken.append(inbound(EVIL))
    assert len(taken) == INBOUND_MAX
    for _ in range(PLACES_MAX - INBOUND_MAX):
        assert ask_for_place(outbound(GOOD), taken).is_admitted
        taken.append(outbound(GOOD))
    assert not ask_for_place(outbound(GOOD), taken).is_admitted


@pytest.mark.rule("H28")
def test_attack_keys_behind_one_address_keep_nobody_else_out() -> None:
    """The youngest of the crowd makes room; those who were there before it stay."""
    taken = [inbound(GOOD), *[inbound(EVIL)] * (INBOUND_MAX - 1)]
    verdict = ask_for_place(inbound(OTHER), taken)
    assert verdict.is_admitted
    assert verdict.pushed_out == INBOUND_MAX - 1
    assert not ask_for_place(inbound("8.8.8.200"), taken).is_admitted, "the same /24"


@pytest.mark.rule("H28")
def test_attack_newcomers_of_new_networks_push_nobody_out_once_each_has_one() -> None:
    taken = [inbound(f"{5 + number // 100}.{number % 100}.1.1") for number in range(INBOUND_MAX)]
    assert not ask_for_place(inbound(GOOD), taken).is_admitted


@pytest.mark.rule("H28")
def test_a_peer_of_our_choice_gets_a_place_and_is_pushed_out_of_none() -> None:
    full = [*[inbound(EVIL)] * INBOUND_MAX, *[outbound(GOOD)] * (PLACES_MAX - INBOUND_MAX)]
    verdict = ask_for_place(outbound(OTHER, is_kept=True), full)
    assert verdict.is_admitted
    assert verdict.pushed_out == INBOUND_MAX - 1
    mixed = [*full[:-1], outbound(OTHER, is_kept=True)]
    assert ask_for_place(outbound("4.4.4.4", is_kept=True), mixed).pushed_out == INBOUND_MAX - 1
    kept = [inbound(EVIL, is_kept=True)] * INBOUND_MAX
    assert not ask_for_place(inbound(GOOD), kept).is_admitted


def many(count: int, *, standing: bool = False, age_s: float = 0.0, use: int = 0) -> list[Place]:
    """One of each of so many networks."""
    hosts = [f"{5 + number // 100}.{number % 100}.{int(standing)}.1" for number in range(count)]
    return [inbound(host, standing=standing, age_s=age_s, use=use) for host in hosts]


STRANGERS_MIN = PLACES_MAX // STRANGERS_PART


@pytest.mark.rule("H28")
def test_who_has_standing_gets_the_place_of_a_stranger_but_of_the_last() -> None:
    taken = many(INBOUND_MAX)
    for number in range(INBOUND_MAX - STRANGERS_MIN):
        member = inbound(f"99.{number}.1.1", standing=True)
        verdict = ask_for_place(member, taken)
        assert verdict.pushed_out is not None
        assert not taken[verdict.pushed_out].has_standing
        del taken[verdict.pushed_out]
        taken.append(member)
    assert not ask_for_place(inbound(GOOD, standing=True), taken).is_admitted
    assert sum(not place.has_standing for place in taken) == STRANGERS_MIN


@pytest.mark.rule("H28")
def test_newcomers_have_places_where_all_are_taken_by_peers_with_standing() -> None:
    taken = many(INBOUND_MAX, standing=True)
    for number in range(STRANGERS_MIN):
        verdict = ask_for_place(inbound(f"99.{number}.1.1"), taken)
        assert verdict.pushed_out is not None
        assert taken[verdict.pushed_out].has_standing
        del taken[verdict.pushed_out]
        taken.append(inbound(f"99.{number}.1.1"))
    assert not ask_for_place(inbound(GOOD), taken).is_admitted


@pytest.mark.rule("H28")
def test_the_least_useful_of_a_network_makes_room() -> None:
    crowd = [inbound(EVIL, use=int(number != 7)) for number in range(INBOUND_MAX)]
    assert ask_for_place(inbound(GOOD), crowd).pushed_out == 7


@pytest.mark.rule("H28")
def test_attack_idle_keys_of_as_many_networks_keep_nobody_out_for_longer_than_a_minute() -> None:
    assert not ask_for_place(inbound(GOOD), many(INBOUND_MAX, age_s=IDLE_S - 1)).is_admitted
    assert ask_for_place(inbound(GOOD), many(INBOUND_MAX, age_s=IDLE_S)).pushed_out == 0
    useful = many(INBOUND_MAX, age_s=IDLE_S, use=1)
    assert not ask_for_place(inbound(GOOD), useful).is_admitted, "who gave us something stays"


def test_where_addresses_are_private_each_counts_for_itself() -> None:
    assert group_of("127.0.0.1") == "127.0.0.1"
    assert group_of("10.0.0.1") != group_of("10.0.0.2")
    assert group_of("8.8.8.1") == group_of("8.8.8.2")
    lan = [inbound("10.0.0.1")] * INBOUND_MAX
    assert not ask_for_place(inbound("10.0.0.1"), lan).is_admitted
    assert ask_for_place(inbound("10.0.0.2"), lan).pushed_out == INBOUND_MAX - 1
