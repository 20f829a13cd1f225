"""Who comes with many keys from few addresses pushes out nobody but itself."""

import pytest

from swarm.host.places import OUTBOUND_PART, PLACES_MAX, Place, ask_for_place, group_of

EVIL, GOOD, OTHER = "8.8.8.8", "1.1.1.1", "9.9.9.9"
INBOUND_MAX = PLACES_MAX - PLACES_MAX // OUTBOUND_PART


def inbound(host: str, *, is_kept: bool = False) -> Place:
    return Place(host, is_inbound=True, is_kept=is_kept)


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


def test_where_addresses_are_private_each_counts_for_itself() -> None:
    assert group_of("127.0.0.1") == "127.0.0.1"
    assert group_of("10.0.0.1") != group_of("10.0.0.2")
    assert group_of("8.8.8.1") == group_of("8.8.8.2")
    lan = [inbound("10.0.0.1")] * INBOUND_MAX
    assert not ask_for_place(inbound("10.0.0.1"), lan).is_admitted
    assert ask_for_place(inbound("10.0.0.2"), lan).pushed_out == INBOUND_MAX - 1
