"""What a node says of itself is so: a loss as soon as it has one, and no training after the end."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from swarm.config.schema import NodeConfig
from swarm.dht.directory import STATES
from swarm.gossip.news.router import Verdict
from swarm.gossip.news.service import Check
from swarm.host.outbound import VALIDATOR_LINKS
from swarm.ledger.blocks import Validator
from swarm.ledger.state.records import Run, RunPhase, Seat
from swarm.ledger.state.state import genesis_state
from swarm.node.context import NodeStats
from swarm.node.join.announce import AnnouncingNode, RunNews, announcement, peers_asked
from swarm.testing.ledger import small_run_spec
from swarm.types import NO_DIGEST, Amount, PeerId, RoundIndex, StageIndex
from tests.fakes import FakeHost, FakeNetwork
from tests.node.fakes import GENESIS, FakeLedger, a_round, a_run

ME = PeerId(b"m" * 32)


@dataclass
class Described:
    """What an announcement describes."""

    run: Run
    me: PeerId = ME
    run16: bytes = bytes(16)
    config: NodeConfig = field(default_factory=NodeConfig)
    stats: NodeStats = field(default_factory=NodeStats)
    host: FakeHost = field(default_factory=lambda: FakeNetwork().host(1))
    ledger: FakeLedger = field(default_factory=FakeLedger)
    jobs: tuple[object, ...] = ()

    @property
    def checks(self) -> "Described":
        """Nothing is checked."""
        return self


def a_node(phase: RunPhase = RunPhase.TRAINING, *, is_seated: bool = True) -> Described:
    peer = ME if is_seated else PeerId(b"o" * 32)
    seat = Seat(
        stage=StageIndex(0),
        index=2,
        peer=peer,
        joined_round=RoundIndex(0),
        last_commit_round=RoundIndex(0),
        last_end_root=NO_DIGEST,
        last_tokens=0,
        is_volunteer=False,
        last_verified_round=-1,
        is_on_trial=False,
        ask=0,
        seated_ask=0,
    )
    rounds = (a_round(3, 9),)
    node = Described(a_run(small_run_spec(), phase=phase, seats=((seat,),), rounds=rounds))
    node.ledger.state = genesis_state(GENESIS)
    return node


def test_the_loss_of_the_first_round_is_announced_before_it_is_over() -> None:
    node = a_node()
    assert announcement(node).loss_milli == -1
    node.stats.open_loss = 4.3125
    assert announcement(node).loss_milli == 4312
    node.stats.losses.append((0, 3.5))
    assert announcement(node).loss_milli == 3500, "a whole round counts more than a part of one"


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (RunPhase.TRAINING, "training"),
        (RunPhase.COOLING, "training"),
        (RunPhase.FINISHED, "idle"),
        (RunPhase.SETTLED, "idle"),
    ],
)
def test_nobody_is_training_after_the_end(phase: RunPhase, state: str) -> None:
    """The ledger keeps the seats until the run is settled."""
    announced = announcement(a_node(phase))
    assert announced.state == state
    assert announced.state in STATES
    assert announced.seats == ((0, 2),)
    assert announcement(a_node(phase, is_seated=False)).state == "idle"


@pytest.mark.rule("H26")
def test_validators_are_looked_for_until_enough_of_them_are_connected() -> None:
    """Peers of the run may all be one attacker's; the addresses of validators are found like those of peers."""
    voters = [PeerId(bytes([number]) * 32) for number in range(1, 6)]
    connected, others = [PeerId(b"o" * 32)], [PeerId(b"o" * 32), PeerId(b"p" * 32), voters[0]]
    node = SimpleNamespace(
        peers_of_run=lambda: others,
        ledger=SimpleNamespace(
            state=SimpleNamespace(validators=[Validator(peer, Amount(1)) for peer in voters])
        ),
        host=SimpleNamespace(connected=lambda: connected),
    )
    assert peers_asked(cast("AnnouncingNode", node)) == [*others, *voters[1:]]
    connected += voters[:VALIDATOR_LINKS]
    assert peers_asked(cast("AnnouncingNode", node)) == others


class TopicsOnly:
    """News and directory as the announcements of a run use them."""

    def __init__(self) -> None:
        self.checks: dict[str, Check] = {}
        self.published: list[tuple[str, bytes]] = []
        self.welcome: list[bool] = []

    def join(self, topic: str, check: Check) -> None:
        self.checks[topic] = check

    def leave(self, topic: str) -> None:
        del self.checks[topic]

    def publish(self, topic: str, data: bytes) -> None:
        self.published.append((topic, data))

    def hear(self, data: bytes, is_welcome: Callable[[PeerId], bool]) -> bool:
        self.welcome += [is_welcome(PeerId(data)), is_welcome(GENESIS.validators[0])]
        return True


@pytest.mark.rule("D19")
def test_announcements_are_news_on_the_topic_of_the_run_of_this_node() -> None:
    """A peer that has neither a stake nor a seat is not welcome there."""
    topics, node = TopicsOnly(), cast("Any", a_node())
    node.news = node.dht = topics
    run_news = RunNews(node)
    run_news.spread(b"")
    first = f"announcements/{bytes(16).hex()}"
    assert list(topics.checks) == [first]
    assert not topics.published
    assert topics.checks[first](ME, b"s" * 32) is Verdict.ACCEPT
    assert topics.welcome == [False, True]
    node.run16 = b"r" * 16
    run_news.spread(b"record")
    second = f"announcements/{node.run16.hex()}"
    assert list(topics.checks) == [second]
    assert topics.published == [(second, b"record")]
    node.run = None
    run_news.spread(b"record")
    assert not topics.checks
