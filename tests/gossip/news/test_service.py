"""News over a host: judged before it is passed on, and a host that is gone holds nobody up."""

from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from swarm.errors import BadSignature, PeerFault, Unreachable
from swarm.gossip.news.router import Verdict
from swarm.gossip.news.service import News
from swarm.types import PeerId
from tests.fakes import FakeHost, FakeNetwork

TOPIC = "transactions"


@dataclass
class Node:
    """A host with news, and what came to it."""

    host: FakeHost
    news: News
    heard: list[bytes] = field(default_factory=list[bytes])
    num_judged: int = 0

    def judge(self, _peer: PeerId, data: bytes) -> Verdict:
        self.num_judged += 1
        if data.startswith(b"false"):
            raise BadSignature("false")
        if data.startswith(b"old"):
            return Verdict.IGNORE
        self.heard.append(data)
        return Verdict.ACCEPT


def some_nodes(network: FakeNetwork, count: int) -> list[Node]:
    nodes = list[Node]()
    for number in range(1, count + 1):
        host = network.host(number)
        node = Node(host, News(host, seed=bytes([number]) * 32))
        node.news.join(TOPIC, node.judge)
        nodes.append(node)
    return nodes


@pytest.mark.rule("G32")
async def test_news_reaches_all_and_is_judged_once_by_each(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork(loss=0.05)
    nodes = some_nodes(network, 12)
    async with trio.open_nursery() as nursery:
        for node in nodes:
            await nursery.start(node.news.run)
        await trio.sleep(3)
        for number, node in enumerate(nodes):
            node.news.publish(TOPIC, b"statement %d" % number)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    for node in nodes:
        assert len(node.heard) == node.num_judged == 11
        assert node.news.mesh(TOPIC)
        assert not node.host.blamed


@pytest.mark.rule("G32")
async def test_attack_what_is_false_is_blamed_on_who_brought_it_and_goes_no_further(
    autojump_clock: MockClock,
) -> None:
    nodes = some_nodes(FakeNetwork(), 3)
    async with trio.open_nursery() as nursery:
        for node in nodes:
            await nursery.start(node.news.run)
        await trio.sleep(2)
        nodes[0].news.publish(TOPIC, b"false")
        nodes[0].news.publish(TOPIC, b"old")
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    for node in nodes[1:]:
        assert not node.heard
        assert {peer for peer, _ in node.host.blamed} == {nodes[0].host.peer}
    assert not nodes[0].host.blamed


async def test_a_peer_that_is_gone_or_does_not_know_the_protocol_rests_longer_and_longer(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork()
    (node,) = some_nodes(network, 1)
    network.host(9)  # serves nothing
    async with trio.open_nursery() as nursery:
        await nursery.start(node.news.run)
        await trio.sleep(60)
        assert node.news.num_frames < 10
        nursery.cancel_scope.cancel()


async def test_a_check_that_is_cut_short_leaves_the_rest_to_be_judged_later(
    autojump_clock: MockClock,
) -> None:
    one, two = some_nodes(FakeNetwork(), 2)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.news.run)
        for text in (b"false", b"statement"):
            one.news.publish(TOPIC, text)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    # All of it came in one frame, and the false one ended it.
    async with trio.open_nursery() as nursery:
        await nursery.start(two.news.run)
        await nursery.start(one.news.run)
        one.news.publish(TOPIC, b"another")
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert b"another" in two.heard


async def test_what_is_published_before_the_start_waits_for_it(
    autojump_clock: MockClock,
) -> None:
    one, two = some_nodes(FakeNetwork(), 2)
    one.news.publish(TOPIC, b"statement")
    async with trio.open_nursery() as nursery:
        await nursery.start(one.news.run)
        await nursery.start(two.news.run)
        await trio.sleep(2)
        two.news.leave(TOPIC)
        one.news.publish(TOPIC, b"another")
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert two.heard == [b"statement"]


def test_the_errors_of_a_check_are_those_of_its_peer() -> None:
    assert issubclass(BadSignature, PeerFault)
    assert not issubclass(Unreachable, PeerFault)


async def test_the_last_that_a_peer_hears_of_our_topics_is_true(
    autojump_clock: MockClock,
) -> None:
    one, two = some_nodes(FakeNetwork(delay_s=0.1), 2)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.news.run)
        await nursery.start(two.news.run)
        await trio.sleep(2)
        for _ in range(3):
            two.news.leave(TOPIC)
            two.news.join(TOPIC, two.judge)
        await trio.sleep(1)
        one.news.publish(TOPIC, b"statement")
        await trio.sleep(1)
        two.news.leave(TOPIC)
        await trio.sleep(1)
        num_frames = one.news.num_frames
        one.news.publish(TOPIC, b"another")
        await trio.sleep(5)
        assert one.news.num_frames == num_frames
        nursery.cancel_scope.cancel()
    assert two.heard == [b"statement"]
