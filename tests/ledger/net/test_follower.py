"""Followers get blocks and snapshots from each other: no crowd at the validators, and nobody is left behind."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from swarm.config.spec import Genesis
from swarm.ledger.net import archive
from swarm.ledger.net.sync import (
    AHEAD_MAX,
    ASKS_MAX,
    NOTHING_YET,
    PROBE_TURNS,
    SYNC_PROTOCOL,
    WAIT_MS_MAX,
    FollowRequest,
    parse_reply,
    parse_request,
)
from swarm.ledger.net.waiting import HELD_MAX
from swarm.ledger.service import TIDY_S, LedgerService
from swarm.primitives.codec import encode, replace
from swarm.testing.ledger import numbered_key
from swarm.types import Bytes, Height, PeerId
from tests.ledger.consensus.test_memory import a_home
from tests.ledger.services import Handler, MemoryHost, MemoryNet, a_genesis, a_ledger

EPOCH = 10


class CountingHost(MemoryHost):
    """A host that counts what it is asked for blocks."""

    asked = 0

    def serve(self, protocol: str, handler: Handler, **limits: int) -> None:
        async def counted(peer: PeerId, data: bytes) -> Bytes:
            self.asked += protocol == SYNC_PROTOCOL
            return await handler(peer, data)

        super().serve(protocol, counted, **limits)


async def waited_at(host: MemoryHost, asker: MemoryHost, height: int = 1) -> tuple[bool, float]:
    """Ask for a block; return whether the host was full, and the seconds that it held the question."""
    request, began = encode(FollowRequest(Height(height), WAIT_MS_MAX)), trio.current_time()
    data = await asker.call(host.peer, SYNC_PROTOCOL, request, timeout_s=9.0)
    return parse_reply(data).is_full, trio.current_time() - began


async def some_followers(
    stack: AsyncExitStack, home: Path, net: MemoryNet, genesis: Genesis, count: int
) -> list[LedgerService]:
    """Ledgers of nodes 1 to ``count``, which do not validate, open as long as ``stack``."""
    followers = list[LedgerService]()
    for number in range(1, count + 1):
        host = MemoryHost(net, numbered_key(number))
        opened = a_ledger(home, genesis, number, host, validate=False)
        followers.append(await stack.enter_async_context(opened))
    return followers


@pytest.mark.rule("L63")
async def test_two_dozen_followers_of_one_validator_are_no_crowd_at_it_and_none_is_behind(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(1)
    founder = CountingHost(net, numbered_key(0))
    async with AsyncExitStack() as stack:
        head = await stack.enter_async_context(a_ledger(tmp_path, genesis, 0, founder))
        followers = await some_followers(stack, tmp_path, net, genesis, 24)
        await head.wait_height(12)
        asked = founder.asked
        for height in range(13, 23):
            await head.wait_height(height)
            assert min(ledger.height for ledger in followers) >= height - 2
        assert founder.asked - asked <= 10 * (HELD_MAX + 4)
        assert not any(host.blamed for host in net.hosts.values())


@pytest.mark.rule("L63")
async def test_followers_do_not_wait_for_a_block_at_each_other(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Two that asked each other now and then once lost five seconds by it, and a reporter its bond."""
    net, genesis = MemoryNet(), a_genesis(1)
    async with AsyncExitStack() as stack:
        head = await stack.enter_async_context(
            a_ledger(tmp_path, genesis, 0, MemoryHost(net, numbered_key(0)))
        )
        followers = await some_followers(stack, tmp_path, net, genesis, 3)
        await head.wait_height(12)
        for height in range(13, 13 + 4 * PROBE_TURNS * ASKS_MAX):
            await head.wait_height(height)
            assert min(ledger.height for ledger in followers) >= height - 2


@pytest.mark.rule("L63")
async def test_who_waits_at_a_peer_holds_no_request_of_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(1, interval_ms=60_000)
    ours, other = MemoryHost(net, numbered_key(0)), MemoryHost(net, numbered_key(1))
    request = encode(FollowRequest(Height(1), WAIT_MS_MAX))
    answers = list[bool]()

    async def ask_back(peer: PeerId, data: bytes) -> bytes:
        assert parse_request(data).wait_ms
        back = await other.call(peer, SYNC_PROTOCOL, request, timeout_s=9.0)
        answers.append(parse_reply(back).is_full)
        return encode(replace(NOTHING_YET, is_full=True))

    other.serve(SYNC_PROTOCOL, ask_back)
    async with a_ledger(tmp_path, genesis, 0, ours, validate=False):
        await trio.sleep(1.0)
    assert answers == [True]


@pytest.mark.rule("L63")
async def test_a_node_holds_so_many_requests_and_one_of_each_peer(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(1, interval_ms=60_000)
    host = MemoryHost(net, numbered_key(0))
    waited = list[tuple[bool, float]]()

    async def ask(number: int) -> None:
        waited.append(await waited_at(host, MemoryHost(net, numbered_key(number))))

    async with a_ledger(tmp_path, genesis, 0, host, validate=False), trio.open_nursery() as nursery:
        for number in [*range(1, HELD_MAX + 4), 1, 2]:
            nursery.start_soon(ask, number)
    assert sum(is_full for is_full, _ in waited) == 5
    assert all((wait_s > 4) != is_full for is_full, wait_s in waited)


@pytest.mark.rule("L119")
async def test_attack_who_parks_in_all_places_keeps_neither_a_stake_nor_another_address_waiting(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Sixty-four keys of one address wait in turns; 0 to 5 are those of the genesis, with a stake each."""
    net, genesis = MemoryNet(), a_genesis(1, interval_ms=60_000)
    host = MemoryHost(net, numbered_key(0))
    askers = {number: MemoryHost(net, numbered_key(number)) for number in range(1, 80)}
    net.origins = {asker.peer: "203.0.113.7" for asker in askers.values()}
    net.origins[askers[79].peer] = "198.51.100.1"

    async def park(number: int) -> None:
        while True:
            if (await waited_at(host, askers[number]))[0]:
                await trio.sleep(0.05)

    async with a_ledger(tmp_path, genesis, 0, host, validate=False), trio.open_nursery() as nursery:
        for number in range(10, 74):
            nursery.start_soon(park, number)
        await trio.sleep(7.0)
        for number in (1, 79):
            is_full, wait_s = await waited_at(host, askers[number])
            assert not is_full
            assert wait_s > 4, number
        nursery.cancel_scope.cancel()


@pytest.mark.rule("L119")
async def test_attack_a_question_for_a_block_that_is_far_away_is_not_held(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(1, interval_ms=60_000)
    host, asker = MemoryHost(net, numbered_key(0)), MemoryHost(net, numbered_key(1))
    async with a_ledger(tmp_path, genesis, 0, host, validate=False):
        for height, is_near in ((AHEAD_MAX, True), (AHEAD_MAX + 1, False), (1 << 60, False)):
            is_full, wait_s = await waited_at(host, asker, height)
            assert is_full != is_near
            assert (wait_s > 4) == is_near


@pytest.mark.rule("L60", "L63")
async def test_a_newcomer_gets_snapshot_and_blocks_from_a_follower_while_the_validator_is_gone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(1, epoch_blocks=EPOCH)
    hosts = [MemoryHost(net, numbered_key(number)) for number in range(3)]
    async with (
        a_ledger(tmp_path, genesis, 0, hosts[0]) as founder,
        a_ledger(tmp_path, genesis, 1, hosts[1], validate=False) as follower,
    ):
        await founder.wait_height(45)
        net.cut.add(hosts[0].peer)
        async with a_ledger(tmp_path, genesis, 2, hosts[2], validate=False) as newcomer:
            await newcomer.wait_height(follower.height)
            assert newcomer.first == 40
            assert newcomer.is_caught_up
        said = list[str]()
        async with a_ledger(
            tmp_path, genesis, 2, hosts[2], validate=False, keeps_all=True, report=said.append
        ) as again:
            assert again.first == 40
        assert said == ["this home has no blocks before 40: archive = true keeps those after it"]


@pytest.mark.rule("L62")
async def test_a_follower_drops_what_nobody_can_ask_for_and_a_launcher_keeps_all(
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archive, "BLOCKS_KEPT_MIN", 10)
    net, genesis = MemoryNet(), a_genesis(1, epoch_blocks=EPOCH)
    hosts = [MemoryHost(net, numbered_key(number)) for number in range(2)]
    async with (
        a_ledger(tmp_path, genesis, 0, hosts[0]) as founder,
        a_ledger(tmp_path, genesis, 1, hosts[1], validate=False) as follower,
    ):
        await follower.wait_height(80)
        span = genesis.unbonding_epochs * EPOCH
        assert span <= follower.height - follower.first <= span + TIDY_S
        assert follower.block_at(Height(follower.first - 1)) is None
        assert founder.keeps_all
        assert founder.first == 1
        assert not follower.keeps_all


@pytest.mark.rule("L62")
async def test_who_wants_all_blocks_says_so_where_nobody_has_them(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It never takes a peer that has pruned them for one that has nothing new."""
    net, genesis = MemoryNet(), a_genesis(1, epoch_blocks=EPOCH)
    hosts = [MemoryHost(net, numbered_key(number)) for number in range(3)]
    said = list[str]()
    async with (
        a_ledger(tmp_path, genesis, 0, hosts[0]) as founder,
        AsyncExitStack() as stack,
    ):
        await founder.wait_height(45)
        follower = await stack.enter_async_context(
            a_ledger(tmp_path, genesis, 1, hosts[1], validate=False)
        )
        await follower.wait_height(46)
        net.cut.add(hosts[0].peer)
        whole = await stack.enter_async_context(
            a_ledger(
                tmp_path, genesis, 2, hosts[2], validate=False, keeps_all=True, report=said.append
            )
        )
        await trio.sleep(120.0)
        assert (whole.height, whole.is_caught_up) == (0, False)
        assert "no peer that answers has block 1 any more, and archive = true wants all" in said[0]
        net.cut.clear()
        await whole.wait_height(founder.height)
        assert whole.first == 1


@pytest.mark.rule("L52", "L60")
async def test_a_validator_that_lost_its_disk_begins_with_a_snapshot_and_is_silent_for_the_epoch(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net, genesis = MemoryNet(), a_genesis(4, epoch_blocks=EPOCH)
    homes = [a_home(tmp_path / f"home-{number}") for number in range(4)]
    hosts = [MemoryHost(net, numbered_key(number)) for number in range(4)]
    async with AsyncExitStack() as stack:
        others = [
            await stack.enter_async_context(
                a_ledger(homes[number], genesis, number, hosts[number], remembers=True)
            )
            for number in range(1, 4)
        ]
        async with a_ledger(homes[0], genesis, 0, hosts[0], remembers=True) as ours:
            await ours.wait_height(41)
        (homes[0] / "0.sqlite").unlink()
        async with a_ledger(homes[0], genesis, 0, hosts[0], remembers=True) as ours:
            epoch = (await ours.wait_height(others[0].height + 3)).next_epoch
            assert ours.first == 40
            assert ours.is_silent
            await ours.wait_height((epoch + 1) * EPOCH + 2)
            assert ours.is_validator
        assert all(ledger.stats.evidence == 0 for ledger in others)
