"""The links of our own choice lead to peers that a crowd of free keys cannot be at once, in many networks."""

from collections import Counter
from collections.abc import Sequence

import pytest

from swarm.host.backoff import backoff_s
from swarm.host.outbound import (
    ANCHOR_LINKS,
    DIALS_ISOLATED,
    LINKS,
    PER_NETWORK_MAX,
    RETRY_HEARD_S,
    RETRY_ISOLATED_S,
    RETRY_MOST_S,
    TRIES_MAX,
    VALIDATOR_LINKS,
    Known,
    Outbound,
    Rank,
    chosen,
    spread,
)
from swarm.primitives.codec import replace
from swarm.primitives.randomness import stream
from swarm.types import PeerId


def a_peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def a_crowd(
    count: int,
    *,
    first: int = 0,
    rank: Rank = Rank.HEARD,
    networks: int = 0,
    name: str = "net",
    is_connected: bool = False,
    is_dialled: bool = False,
) -> list[Known]:
    """Peers of ``networks`` public networks in turn; of none of them for 0."""
    return [
        Known(
            peer=a_peer(first + number),
            rank=rank,
            network=f"{name}{number % networks}" if networks else "",
            is_connected=is_connected,
            is_dialled=is_dialled,
        )
        for number in range(count)
    ]


def a_machine(seed: int = 0) -> Outbound:
    return Outbound(stream(seed.to_bytes(32, "big"), "host.outbound"))


def settle(
    machine: Outbound, found: Sequence[Known], alive: frozenset[PeerId], now: float = 0.0
) -> tuple[PeerId, ...]:
    """Dial what the machine asks for until it asks for no more; return the links it keeps."""
    known = {one.peer: one for one in found}
    for step in range(200):
        plan = machine.plan(known.values(), now + 40.0 * step, is_isolated=False)
        for peer in plan.dial:
            if peer in alive:
                machine.reached(peer)
                known[peer] = replace(known[peer], is_connected=True, is_dialled=True)
            else:
                machine.failed(peer, "gone", now + 40.0 * step)
        if not plan.dial:
            break
    return machine.plan(known.values(), now + 1e5, is_isolated=False).keep


@pytest.mark.rule("H26", "S4a")
def test_attack_a_crowd_that_dials_us_takes_none_of_our_links() -> None:
    """A thousand keys that came in by themselves: each is chosen only once we have dialled it."""
    crowd = a_crowd(1000, is_connected=True, networks=500)
    machine = a_machine()
    assert machine.plan(crowd, 0.0, is_isolated=False).keep == ()
    friends = a_crowd(3, first=5000, rank=Rank.VALIDATOR, networks=3, name="friend")
    alive = frozenset(one.peer for one in (*crowd, *friends))
    kept = settle(a_machine(), [*crowd, *friends], alive)
    assert {one.peer for one in friends} <= set(kept)


@pytest.mark.rule("H26", "S4a")
def test_attack_keys_behind_few_addresses_take_two_links_of_each_network() -> None:
    for seed in range(20):
        crowd = a_crowd(300, networks=1, name="attacker")
        others = a_crowd(12, first=900, networks=12)
        kept = settle(
            a_machine(seed), [*crowd, *others], frozenset(one.peer for one in (*crowd, *others))
        )
        assert len(kept) == LINKS
        networks = Counter(one.network for one in (*crowd, *others) if one.peer in kept)
        assert networks["attacker0"] <= PER_NETWORK_MAX
        assert len(networks) >= LINKS // PER_NETWORK_MAX


@pytest.mark.rule("H26")
def test_attack_links_that_newcomers_hold_go_back_to_anchors_and_validators() -> None:
    """All links are taken by strangers, each of its own network, before the others can be reached."""
    crowd = a_crowd(100, networks=100, is_connected=True, is_dialled=True)
    machine = a_machine()
    assert len(machine.plan(crowd, 0.0, is_isolated=False).keep) == LINKS
    anchors = a_crowd(4, first=5000, rank=Rank.ANCHOR, networks=4, name="a")
    voters = a_crowd(30, first=6000, rank=Rank.VALIDATOR, networks=30, name="v")
    late = [*anchors, *voters]
    kept = settle(machine, [*crowd, *late], frozenset(one.peer for one in (*crowd, *late)), 100.0)
    ranks = Counter(one.rank for one in (*crowd, *late) if one.peer in kept)
    assert ranks[Rank.ANCHOR] >= ANCHOR_LINKS
    assert ranks[Rank.VALIDATOR] >= VALIDATOR_LINKS
    assert Rank.HEARD not in ranks


@pytest.mark.rule("H26")
def test_attack_three_quarters_of_all_networks_and_one_honest_peer_is_kept() -> None:
    """Nobody is known but by hearsay, and an attacker has three of four networks and 19 of 20 keys."""
    isolated = 0
    for seed in range(200):
        evil = a_crowd(190, networks=30, name="evil")
        good = a_crowd(10, first=2000, networks=10, name="good")
        kept = settle(a_machine(seed), [*evil, *good], frozenset(a.peer for a in (*evil, *good)))
        isolated += not {one.peer for one in good} & set(kept)
    assert isolated / 200 < 0.15, ".75 to the power of 8 is .10"


@pytest.mark.rule("H26")
def test_attack_a_stranger_at_the_old_address_of_an_anchor_is_not_it() -> None:
    """The dial fails, for the key is another one; the link goes to the next, and the anchor is tried again."""
    anchors = a_crowd(4, rank=Rank.ANCHOR, networks=4)
    machine = a_machine()
    first = machine.plan(anchors, 0.0, is_isolated=False).dial
    for peer in first:
        machine.failed(peer, "another peer answers there", 0.0)
    others = a_crowd(8, first=100, networks=8, name="o")
    plan = machine.plan([*anchors, *others], 0.5, is_isolated=False)
    assert set(plan.dial) == {one.peer for one in others}
    assert plan.keep == ()
    again = machine.plan([*anchors, *others], 60.0, is_isolated=False).dial
    assert len({one.peer for one in anchors} & set(again)) >= ANCHOR_LINKS


@pytest.mark.rule("H26")
def test_on_a_private_network_all_peers_are_chosen_alike() -> None:
    lan = a_crowd(8, rank=Rank.MEMBER)
    assert len(chosen(lan, ())) == LINKS


@pytest.mark.rule("H26")
def test_a_link_is_not_given_up_for_another_of_the_same_rank() -> None:
    peers = a_crowd(40, networks=40, is_connected=True, is_dialled=True)
    machine = a_machine()
    kept = machine.plan(peers, 0.0, is_isolated=False).keep
    for step in range(10):
        assert set(machine.plan(peers, float(step), is_isolated=False).keep) == set(kept)


def test_of_two_links_the_peer_may_close_ours() -> None:
    """It stays chosen as long as it is connected, and is dialled again once it is not."""
    (one,) = a_crowd(1, rank=Rank.VALIDATOR, is_connected=True)
    machine = a_machine()
    assert machine.plan([one], 0.0, is_isolated=False).dial == (one.peer,)
    machine.reached(one.peer)
    assert machine.proved == {one.peer}
    assert machine.plan([one], 1.0, is_isolated=False).keep == (one.peer,)
    gone = replace(one, is_connected=False)
    plan = machine.plan([gone], 2.0, is_isolated=False)
    assert (plan.keep, plan.dial) == ((), (one.peer,))
    assert machine.plan([gone], 3.0, is_isolated=False).dial == (), "it is being dialled"


@pytest.mark.parametrize(
    ("rank", "is_connected", "most_s"),
    [
        (Rank.ANCHOR, False, RETRY_MOST_S),
        (Rank.VALIDATOR, False, RETRY_MOST_S),
        (Rank.HEARD, False, RETRY_HEARD_S),
        (Rank.VALIDATOR, True, RETRY_HEARD_S),
    ],
)
@pytest.mark.rule("H27")
def test_a_peer_that_cannot_be_reached_rests_longer_each_time(
    rank: Rank, is_connected: bool, most_s: float
) -> None:
    (one,) = a_crowd(1, rank=rank, is_connected=is_connected)
    machine, now, pauses = a_machine(), 0.0, list[float]()
    for _ in range(14):
        began = now
        while not machine.plan([one], now, is_isolated=False).dial:
            now += 0.5
        pauses.append(now - began)
        machine.failed(one.peer, "refused", now)
    assert pauses[0] == 0
    assert pauses[1] <= backoff_s(0, first_s=1.0, most_s=most_s, jitter=1.0) + 0.5
    assert 0.8 * most_s <= pauses[-1] <= 1.2 * most_s + 0.5
    assert machine.last_failure == "refused"
    machine.reached(one.peer)
    assert not machine.last_failure


@pytest.mark.rule("H27")
def test_a_node_that_is_isolated_waits_for_nobody_longer_than_ten_seconds() -> None:
    """Also for those whose longer rest has begun before."""
    peers = [*a_crowd(3, rank=Rank.ANCHOR), *a_crowd(3, first=10)]
    machine = a_machine()
    for attempt in range(12):
        for peer in machine.plan(peers, 1000.0 * attempt, is_isolated=False).dial:
            machine.failed(peer, "gone", 1000.0 * attempt)
    assert not machine.plan(peers, 11_001.0, is_isolated=False).dial
    soon = 11_000.0 + 1.2 * RETRY_ISOLATED_S
    assert set(machine.plan(peers, soon, is_isolated=True).dial) == {one.peer for one in peers}


@pytest.mark.rule("H27")
def test_attack_addresses_that_answer_nothing_do_not_keep_an_isolated_node_from_the_best() -> None:
    """Half of its dials go to the best, the other half to any; no more than ``DIALS_ISOLATED`` at once."""
    crowd, voters = a_crowd(4000, networks=900), a_crowd(4, first=9000, rank=Rank.VALIDATOR)
    machine = a_machine()
    dial = machine.plan([*crowd, *voters], 0.0, is_isolated=True).dial
    assert len(dial) == DIALS_ISOLATED
    assert {one.peer for one in voters} <= set(dial)
    assert machine.plan([*crowd, *voters], 1.0, is_isolated=True).dial == ()


def test_failures_of_so_many_peers_are_remembered() -> None:
    machine = a_machine()
    for number in range(TRIES_MAX + 5):
        machine.failed(a_peer(number), "gone", 0.0)
    assert len(machine._failures) == TRIES_MAX


def test_each_network_has_its_turn() -> None:
    many, few = a_crowd(50, networks=1, name="many"), a_crowd(3, first=100, networks=3, name="few")
    order = spread([*many, *few], stream(bytes(32), "host.outbound"))
    assert len(order) == 53
    assert len({one.network for one in order[:4]}) == 4
