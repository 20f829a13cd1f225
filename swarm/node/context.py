"""Share references between the parts of a running node, open its worker threads, and hold what it measured.

Shell: references to every package; decides nothing.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from swarm.config.schema import NodeConfig
from swarm.config.spec import Genesis
from swarm.dht.service import Dht
from swarm.executor import Executor
from swarm.gossip.blobs.service import Blobs
from swarm.gossip.news.service import News
from swarm.gossip.trade.service import Trades
from swarm.host.service import Host
from swarm.ledger.service import LedgerService
from swarm.ledger.state.records import Run
from swarm.ledger.views import ConvictionView
from swarm.node.artifacts.cache import ArtifactCache
from swarm.node.join.isolation import Isolation
from swarm.node.reporting import EventLog
from swarm.primitives.crypto import SecretKey
from swarm.store import Store
from swarm.training.pipeline import Pipeline
from swarm.types import PeerId, RunIndex, StageIndex
from swarm.verify.service import Verifier

SPAN_S = 5.0
"""Seconds below which a rate is noise; if polled more seldom, the time between two polls is used."""
SILENCES_MAX = 4
"""Spans of the count after which a silence makes the rate 0: the run is paused, or over."""
MARKS_MAX = 64
"""Steps remembered: more than there are polls in ``SPAN_S``."""


def validates(config: NodeConfig, genesis: Genesis, me: PeerId) -> bool:
    """Return True if a node offers to validate: it is configured to, or founded the network alone."""
    return config.validate_ or genesis.validators == (me,)


class TokenRate:
    """Estimator of one node's tokens per second, however long a step takes.

    Tokens come a step at a time, and a large model takes minutes for one: counted over a few seconds the rate
    would be zero, or many times too high. So the rate is what came between two steps, over at least ``SPAN_S``;
    while nothing comes it falls as the silence grows longer than that.
    """

    def __init__(self, now: float) -> None:
        self._marks = deque([(now, 0)], maxlen=MARKS_MAX)
        """Times at which more tokens were seen than before, with the totals."""
        self._seats: Hashable = ()

    def measured(self, tokens: int, now: float, seats: Hashable = ()) -> int:
        """Return tokens per second; other ``seats`` restart the count, because a shard brings its own total."""
        marks = self._marks
        if seats != self._seats:
            self._seats = seats
            marks.clear()
            marks.append((now, tokens))
        elif tokens > marks[-1][1]:
            marks.append((now, tokens))
        newest_at, newest = marks[-1]
        while len(marks) > 2 and newest_at - marks[1][0] >= SPAN_S:
            marks.popleft()
        began_at, began = marks[0]
        counted_s = max(newest_at - began_at, SPAN_S)
        if now - newest_at > SILENCES_MAX * counted_s:
            return 0
        passed_s = max(counted_s, now - newest_at)
        return int((newest - began) / passed_s)


CONVICTIONS_KEPT = 32
"""Convictions kept: as many as the ledger remembers of one run."""


@dataclass(slots=True)
class TradeRecord:
    """Trade as the map shows it."""

    round: int
    fragment: int
    stage: int
    source: PeerId
    target: PeerId | None
    is_done: bool
    is_one_way: bool = False
    """True if nothing was to come from the partner, which only receives."""


@dataclass(frozen=True, slots=True)
class LinkStats:
    """Connections to peers, counted."""

    connected: int = 0
    chosen: int = 0
    """Those that this node dialled and keeps by its own choice."""
    networks: int = 0
    """Public networks that they lead to."""
    anchors: int = 0
    """Anchor peers remembered."""


@dataclass(slots=True)
class NodeStats:
    """Figures that this node has measured itself since it started."""

    tokens: int = 0
    tokens_per_s: int = 0
    steps: int = 0
    trades: int = 0
    solo: int = 0
    last_partner: bytes = b""
    losses: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """Pairs (round, mean training loss in nats) of closed segments."""
    open_loss: float | None = None
    """Mean training loss in nats of the open segments so far; None before their first micro-batch."""
    notes: list[TradeRecord] = field(default_factory=list[TradeRecord])
    convictions: deque[ConvictionView] = field(
        default_factory=lambda: deque[ConvictionView](maxlen=CONVICTIONS_KEPT)
    )
    """Convictions, oldest first."""
    hashing_s: float = 0.0
    waits_for: str = ""
    """Event that the node is waiting for, in words; empty if none."""
    links: LinkStats = LinkStats()
    isolation: Isolation | None = None
    """Finding that this node is isolated from its network; None while it is not."""

    @property
    def training_loss(self) -> float | None:
        """Mean training loss in nats of the last closed segment; until there is one, of the open ones."""
        return self.losses[-1][1] if self.losses else self.open_loss


@dataclass(slots=True)
class NodeContext:
    """References that a duty may need; built once by ``service.run_node``."""

    home: Path
    config: NodeConfig
    secret: SecretKey
    genesis: Genesis
    store: Store
    host: Host
    ledger: LedgerService
    dht: Dht
    news: News
    trades: Trades
    blobs: Blobs
    compute: Executor
    checking: Executor
    """Worker of lower priority for replays of others' work, so that training never waits for it."""
    artifacts: ArtifactCache
    checks: Verifier
    pipeline: Pipeline
    report: EventLog
    incarnation: int
    stats: NodeStats
    devices: tuple[str, ...] = ("cpu",)
    """Devices on which native runs are computed here."""
    run_index: RunIndex | None = None
    run16: bytes = bytes(16)
    checkpoints_held: dict[StageIndex, int] = field(default_factory=dict[StageIndex, int])
    """Round of the newest canonical checkpoint on this disk, by stage."""

    @property
    def me(self) -> PeerId:
        """Public key of this node."""
        return self.secret.peer

    @property
    def run(self) -> Run | None:
        """Run as of the last finalised block; None until it is known."""
        return None if self.run_index is None else self.ledger.state.find_run(self.run_index)

    def peers_of_run(self) -> list[PeerId]:
        """Return all peers that the ledger or the network names for this run, connected ones first."""
        return self.artifacts.peers_of(self.run)


TRADING_NICENESS = 12
"""Niceness of trading: gives way to training a little; a partner waits for it, but not long."""
SERVING_NICENESS = 15
"""Niceness of generation, between our own training and the checks: a user waits for the tokens."""
CHECKING_NICENESS = 19
"""Niceness of checks: the lowest priority there is, below the 10 of our own training, so they never delay a
step."""


@dataclass(frozen=True, slots=True)
class Executors:
    """Workers of one node: our own training, and the work that gives way to it."""

    compute: Executor
    checking: Executor
    """Worker that replays the work of others."""
    serving: Executor
    """Worker of generation requests: a replay that takes seconds must not hold up a token."""
    trading: Executor
    """Worker that packs and opens fragments: an inner step must not wait for an exchange."""
    devices: tuple[str, ...]
    """Devices on which our own training of native runs computes."""

    def close(self) -> None:
        """End all workers; each waits a little for the job that still runs."""
        for worker in (self.compute, self.checking, self.serving, self.trading):
            worker.close()


def open_executors(threads: int, devices: tuple[str, ...]) -> Executors:
    """Return the workers of one node, none of them started; each computes with ``threads`` threads."""
    prepare = partial(_prepare_torch, threads)
    return Executors(
        compute=Executor(prepare=prepare),
        checking=Executor(niceness=CHECKING_NICENESS, prepare=prepare),
        serving=Executor(niceness=SERVING_NICENESS, prepare=prepare),
        trading=Executor(niceness=TRADING_NICENESS, prepare=prepare),
        devices=devices,
    )


def _prepare_torch(threads: int) -> None:
    """Set the threads of torch, once per worker: a fixed number gives the same bits in every run here."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
