"""A node keeps links of its own choice, says that it is isolated, and is soon connected again once others are
there.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
import trio.testing

from swarm.events import EventKind
from swarm.host.outbound import LINKS, PER_NETWORK_MAX
from swarm.host.peer_ids import id_of
from swarm.host.service import Host, open_host
from swarm.node.join import known_peers, staying
from swarm.node.join.anchors import ANCHORS_MAX, RIPE_S
from swarm.node.join.join import TABLE
from swarm.node.join.staying import Staying
from swarm.primitives.crypto import SecretKey
from swarm.primitives.randomness import stream
from tests.node.join.world import Machine, World, a_peer

HEALED_S = 30.0
SEEDS = range(3)


@asynccontextmanager
async def some_machines(
    world: World, count: int
) -> AsyncGenerator[tuple[list[Machine], trio.Nursery]]:
    """Machines in as many networks, all up and connected to the first; a validator is among them."""
    machines = [Machine(world, n + 1, f"/ip4/{20 + n}.1.1.1/tcp/4001") for n in range(count)]
    async with trio.open_nursery() as nursery:
        for machine in machines:
            machine.voters = (machines[0].peer,)
            machine.members = [other.peer for other in machines if other is not machine]
            nursery.start_soon(
                machine.run, [machines[0].peer] if machine is not machines[0] else []
            )
        await until(lambda: all(machine.links for machine in machines))
        yield machines, nursery
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> float:
    """Wait for a condition in virtual time; return how long it took."""
    began = trio.current_time()
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110  virtual time
            await trio.sleep(0.25)
    return trio.current_time() - began


@pytest.mark.rule("N30")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("is_mute", [True, False])
@pytest.mark.parametrize("outage_s", [7.0, 400.0])
async def test_a_node_whose_peers_all_died_is_connected_again_within_30_s_of_their_start(
    seed: int, is_mute: bool, outage_s: float, autojump_clock: trio.testing.MockClock
) -> None:
    """They forget it, so that nobody calls it: it heals unaided. Dead machines refuse, or answer nothing."""
    world = World(seed, is_mute=is_mute)
    async with some_machines(world, 4) as ((alone, *others), nursery):
        await trio.sleep(100 * world.dice.random())
        for machine in others:
            machine.go_down()
            machine.store.rows.clear()
        said_s = await until(lambda: alone.stats.isolation is not None)
        assert said_s <= 7.0
        assert alone.reports.events[-1][0] is EventKind.WARNING
        assert "this node is isolated" in alone.reports.events[-1][1]
        await trio.sleep(outage_s * (1 + world.dice.random()))
        for machine in others:
            nursery.start_soon(machine.run)
        assert await until(lambda: bool(alone.links)) <= HEALED_S
        await until(lambda: alone.stats.isolation is None)
        assert "connected again" in alone.reports.texts()[-1]


@pytest.mark.rule("N30")
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_node_whose_line_was_cut_is_connected_again_within_30_s(
    seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(seed)
    async with some_machines(world, 5) as (machines, _):
        world.cut = {machines[3].peer}
        world.break_links()
        await trio.sleep(100 + 400 * world.dice.random())
        assert machines[3].stats.isolation is not None
        assert machines[1].stats.isolation is None, "the others have each other"
        world.cut = set()
        assert await until(lambda: bool(machines[3].links)) <= HEALED_S


@pytest.mark.rule("N15", "N30")
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_network_that_all_left_meets_again_within_30_s_of_the_last_start(
    seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Nobody has a ticket; each start is at another time, and the first of all is the last to come back."""
    world = World(seed)
    async with some_machines(world, 5) as (machines, nursery):
        await trio.sleep(100)
        for machine in machines:
            machine.go_down()
        for machine in reversed(machines):
            await trio.sleep(100 * world.dice.random())
            nursery.start_soon(machine.run)
        assert await until(lambda: all(machine.links for machine in machines)) <= HEALED_S


@pytest.mark.rule("N30")
async def test_who_is_isolated_for_an_hour_dials_seldom_and_says_so_seldom(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    async with some_machines(world, 4) as ((alone, *others), _):
        for machine in others:
            machine.go_down()
        alone.num_dials, alone.reports.events[:] = 0, []
        await trio.sleep(3600)
        assert len(alone.reports.events) <= 7
        assert alone.num_dials <= 2 * 3 * 3600 / 8
    assert "try: swarm join TICKET" in alone.reports.texts()[0]


@pytest.mark.rule("H26")
async def test_the_quota_is_filled_from_all_that_are_known(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Of those that came by themselves, too: they are dialled once, to see that they can be."""
    world = World()
    async with some_machines(world, 12) as ((hub, *others), _):
        assert not any(hub.links.values())
        await until(lambda: hub.stats.links.chosen == LINKS, 120.0)
        assert len(hub.kept) == LINKS
        assert all(hub.links[peer] for peer in hub.kept)
        assert hub.stats.links.networks == len(others)
        await trio.sleep(60)
        dials = hub.num_dials
        await trio.sleep(600)
        assert hub.num_dials == dials, "who has its links dials no more"


@pytest.mark.rule("H26", "N29", "S4a")
async def test_attack_a_crowd_of_one_network_gets_no_more_than_its_links_and_anchors(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It dials the node, has its addresses told to it, and stays for as long as all others."""
    world = World()
    async with some_machines(world, 6) as (machines, nursery):
        victim, crowd = machines[5], list[Machine]()
        for machine in machines[:5]:  # as the directory tells them
            victim.learn(machine.peer, [machine.address])
        for number in range(24):
            evil = Machine(world, 100 + number, f"/ip4/66.6.6.{number}/tcp/4001")
            crowd.append(evil)
            nursery.start_soon(evil.run, [victim.peer])
        await until(lambda: len(victim.links) >= 24, 300.0)
        await trio.sleep(RIPE_S + 120)
        evil_peers = {machine.peer for machine in crowd}
        assert len(victim.kept & evil_peers) <= PER_NETWORK_MAX
        assert len(victim.kept - evil_peers) == len(machines) - 1
        store = victim.store
        anchors = known_peers.anchors_of(store, TABLE)  # type: ignore[arg-type]
        assert len(anchors.peers) == ANCHORS_MAX
        assert len({one.network for one in anchors.peers}) == ANCHORS_MAX
        assert sum(one.peer in evil_peers for one in anchors.peers) <= 1
        recalled = known_peers.recalled(store, TABLE)  # type: ignore[arg-type]
        assert [peer for peer, _ in recalled[:ANCHORS_MAX]] == [one.peer for one in anchors.peers]
        assert sum(peer in evil_peers for peer, _ in recalled) <= 1 + PER_NETWORK_MAX


@pytest.mark.rule("H27", "N30", "S4a")
async def test_attack_a_crowd_around_a_node_whose_ledger_stands_still_is_named_and_passed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """All whom it is connected to are of one network, and none is a validator: it looks for others in haste."""
    world = World()
    async with some_machines(world, 4) as (machines, nursery):
        *others, victim = machines
        for number in range(10):
            evil = Machine(world, 100 + number, f"/ip4/66.6.6.{number}/tcp/4001")
            nursery.start_soon(evil.run, [victim.peer])
        await until(lambda: len(victim.links) > 10)
        for machine in others:
            machine.go_down()
            machine.store.rows.clear()
        await until(lambda: victim.stats.isolation is not None)
        assert victim.reports.texts()[-1].startswith("this node may be isolated: the ledger stands")
        assert "all 10 of its links lead to one network" in victim.reports.texts()[-1]
        await trio.sleep(500)
        nursery.start_soon(others[0].run)
        assert await until(lambda: others[0].peer in victim.links) <= HEALED_S
        await until(lambda: victim.stats.isolation is None)


@pytest.mark.rule("H26", "N29", "S4a")
async def test_attack_strangers_at_the_addresses_of_all_anchors_do_not_take_their_links(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """All others are gone; an attacker has their addresses now. The node has no link to it, and says so."""
    world = World(is_mute=False)
    async with some_machines(world, 4) as ((victim, *others), nursery):
        await trio.sleep(RIPE_S + 60)
        for number, machine in enumerate(others):
            machine.go_down()
            squatter = Machine(world, 100 + number, machine.address)
            machine.address = f"/ip4/{90 + number}.1.1.1/tcp/1"
            nursery.start_soon(squatter.run)
        await trio.sleep(120)
        assert victim.links == {}
        assert victim.stats.isolation is not None
        assert "another peer answers there" in victim.stats.isolation.cause
        for machine in others:  # the machines are back elsewhere, and call: they remember it
            nursery.start_soon(machine.run)
        assert await until(lambda: bool(victim.links)) <= HEALED_S


async def test_a_home_that_knows_nobody_says_so_and_lets_in_who_calls(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        machine = Machine(world, 1, "/ip4/20.1.1.1/tcp/1")
        machine.voters = (a_peer(9),)
        nursery.start_soon(machine.run)
        await until(lambda: machine.stats.isolation is not None)
        assert machine.reports.texts() == [
            "this node is isolated: no peer is connected, and it knows none to call;"
            " try: swarm join TICKET"
        ]
        caller = Machine(world, 2, "/ip4/20.1.1.2/tcp/1")
        nursery.start_soon(caller.run, [machine.peer])
        await until(lambda: machine.stats.isolation is None)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def real_hosts(count: int) -> AsyncGenerator[list[Host]]:
    """Hosts on loopback, not connected."""
    async with AsyncExitStack() as stack:
        keys = [SecretKey.from_seed(bytes([n + 1]) * 32) for n in range(count)]
        yield [
            await stack.enter_async_context(
                open_host(key, listen=["127.0.0.1:0"], chain16=b"c" * 16)
            )
            for key in keys
        ]


@pytest.mark.rule("H26", "N30")
async def test_real_links_that_were_cut_are_dialled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts over real sockets: who came by itself is proved and kept, and called once its link is cut."""
    monkeypatch.setattr(staying, "TICK_S", 0.02)
    monkeypatch.setattr(staying, "PLAN_S", 0.05)
    async with real_hosts(3) as (alice, bob, carol), trio.open_nursery() as nursery:
        node = Machine(World(), 1, "")
        node.voters = (bob.peer,)
        context = node.context()
        context.me, context.host = alice.peer, alice
        dice = stream(bytes(32), "host.outbound")
        nursery.start_soon(Staying(context, (), dice).run)
        for caller in (bob, carol):
            await caller.connect(alice.peer, alice.addresses())
        await until(lambda: node.stats.links.chosen == 2)
        network = alice.libp2p_host.get_network()
        assert network.kept == {id_of(bob.peer), id_of(carol.peer)}  # type: ignore[attr-defined]
        for peer in (bob.peer, carol.peer):
            await alice._links.drop_peer(peer)
        assert alice.connected() == []
        await until(lambda: len(alice.connected()) == 2, HEALED_S)
        assert alice.is_dialled(bob.peer)
        nursery.cancel_scope.cancel()
