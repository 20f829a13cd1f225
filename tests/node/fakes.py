"""Small typed parts of a node, for tests of what uses no more of one."""

from collections.abc import Callable
from dataclasses import dataclass, field

from swarm.events import EventKind
from swarm.gossip.trade.service import Trades
from swarm.node.context import NodeStats
from swarm.testing.executor import InlineExecutor
from swarm.types import PeerId
from tests.fakes import FakeHost
from tests.training.pipeline import CHAIN


@dataclass
class Reports:
    """Everything that was reported, in order."""

    events: list[tuple[EventKind, str]] = field(default_factory=list)

    def __call__(self, kind: EventKind, text: str, **fields: str | int) -> None:
        """Remember one event."""
        self.events.append((kind, text))

    def texts(self, kind: EventKind | None = None) -> list[str]:
        """The texts of all events, or of those of one kind."""
        return [text for told, text in self.events if kind in {None, told}]


@dataclass
class TradingNode:
    """What ``node.seat.trade`` uses of a node."""

    me: PeerId
    trades: Trades
    tally: NodeStats = field(default_factory=NodeStats)
    report: Reports = field(default_factory=Reports)


def a_trading_node(host: FakeHost, trades: Callable[..., Trades] = Trades) -> TradingNode:
    """A node whose fragments take a hundredth of a second to pack or to open."""
    compute = InlineExecutor(lambda _: 0.01)
    return TradingNode(host.peer, trades(host, host.secret, CHAIN, compute))
