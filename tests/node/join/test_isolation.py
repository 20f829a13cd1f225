"""A node says that it is isolated, with one cause and one command, once; and that it is not any more."""

import pytest

from swarm.node.join.isolation import (
    AGAIN_S,
    ALONE_S,
    DOCTOR,
    HEMMED_S,
    JOIN,
    IsolationWatch,
    Links,
)
from swarm.primitives.codec import replace

FINE = Links(
    networks=("8.8.8.0/24", "1.1.1.0/24"),
    num_known=5,
    needs_others=True,
    has_validator=True,
    ledger_age_s=1.0,
    pace_s=1.0,
)
ALONE = replace(
    FINE, networks=(), has_validator=False, failure="cannot reach a at b (connection refused)"
)


@pytest.mark.rule("N30")
def test_a_node_without_any_peer_says_so_within_seconds_and_when_it_is_over() -> None:
    watch = IsolationWatch(0.0)
    assert watch.judge(FINE, 100.0) == ""
    assert watch.judge(ALONE, 101.0) == ""
    assert watch.found is None, "a peer that starts again is back soon"
    text = watch.judge(ALONE, 100.0 + ALONE_S)
    assert text == (
        "this node is isolated: none of the 5 peers that it knows answers; it goes on trying;"
        " try: swarm join TICKET"
    )
    assert watch.found is not None
    assert watch.found.cause.endswith("(the last: cannot reach a at b (connection refused))")
    assert watch.found.since == 100.0
    assert watch.judge(ALONE, 130.0) == "", "once"
    assert watch.judge(FINE, 131.0) == "connected again after 31 s: 2 peers"
    assert watch.found is None
    assert watch.judge(FINE, 132.0) == ""


@pytest.mark.rule("N30")
def test_what_lasts_is_said_again_after_a_while() -> None:
    watch = IsolationWatch(0.0)
    said = [now for now in range(0, 2000, 10) if watch.judge(ALONE, float(now))]
    assert said == [10, 10 + int(AGAIN_S), 10 + 2 * int(AGAIN_S), 10 + 3 * int(AGAIN_S)]


@pytest.mark.rule("N30")
@pytest.mark.parametrize(
    ("links", "cause", "command"),
    [
        (replace(ALONE, failure=""), "none of the 5 peers that it knows answers; it", JOIN),
        (replace(ALONE, num_known=1), "none of the 1 peer that it knows", JOIN),
        (replace(ALONE, num_known=0), "it knows none to call", JOIN),
        (replace(ALONE, failure="cannot reach a at b (no route)"), "no route", DOCTOR),
        (replace(ALONE, failure="cannot reach a at b (name not found)"), "not found", DOCTOR),
    ],
)
def test_each_cause_has_one_command(links: Links, cause: str, command: str) -> None:
    watch = IsolationWatch(0.0)
    watch.judge(links, ALONE_S)
    assert watch.found is not None
    assert cause in watch.found.cause
    assert watch.found.command == command


@pytest.mark.rule("N30")
def test_the_one_validator_of_a_network_needs_nobody() -> None:
    watch = IsolationWatch(0.0)
    assert watch.judge(replace(ALONE, needs_others=False), 1e4) == ""
    assert watch.found is None


@pytest.mark.rule("N30")
def test_attack_links_into_one_network_that_withhold_the_ledger_are_named() -> None:
    """Those connected may be one attacker with many keys: no validator is among them, and nothing comes."""
    hemmed = replace(FINE, networks=("8.8.8.0/24",) * 9, has_validator=False, ledger_age_s=HEMMED_S)
    watch = IsolationWatch(0.0)
    assert "all 9 of its links lead to one network" in watch.judge(hemmed, 50.0)
    assert watch.found is not None
    assert not watch.found.is_alone
    assert watch.judge(ALONE, 60.0), "another cause is news"
    assert watch.judge(hemmed, 61.0)
    assert "connected again" in watch.judge(FINE, 62.0)


@pytest.mark.rule("N30")
@pytest.mark.parametrize(
    "links",
    [
        replace(FINE, networks=("", ""), has_validator=False, ledger_age_s=1e4),
        replace(FINE, networks=("a", "b"), has_validator=False, ledger_age_s=1e4),
        replace(FINE, networks=("a", "a"), ledger_age_s=1e4),
        replace(FINE, networks=("a", "a"), has_validator=False, ledger_age_s=HEMMED_S - 1),
        replace(FINE, networks=("a",), has_validator=False, ledger_age_s=HEMMED_S, pace_s=60.0),
    ],
)
def test_on_a_private_network_and_near_a_validator_no_attack_is_suspected(links: Links) -> None:
    watch = IsolationWatch(0.0)
    assert watch.judge(links, 1e4) == ""
