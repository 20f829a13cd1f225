"""What the parts of a running node share.

Shell: references to every room; decides nothing.

The threads in which a node computes, and which of them gives way to which.

opens and closes them.
"""

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from swarm.config.schema import NodeConfig
from swarm.config.spec import Genesis
from swarm.dht.service import Dht
from swarm.executor import Executor
from swarm.gossip.blobs.service import Blobs
from swarm.gossip.trade.service import Trades
from swarm.host.service import Host
from swarm.ledger.service import LedgerService
from swarm.ledger.state.records import Run
from swarm.ledger.views import ConvictionView
from swarm.node.artifacts.cache import ArtifactCache
from swarm.node.reporting import EventLog
from swarm.primitives.crypto import SecretKey
from swarm.store import Store
from swarm.training.pipeline import Pipeline
from swarm.types import PeerId, RunIndex, StageIndex
from swarm.verify.service import Verifier

SENTENCES_KEPT = 32
"""As many convictions as the ledger remembers of one run."""


@dataclass(slots=True)
class TradeRecord:
    """One trade as the map shows it."""

    round: int
    fragment: int
    stage: int
    source: PeerId
    target: PeerId | None
    is_done: bool


@dataclass(slots=True)
class NodeStats:
    """What this node measured itself since it started."""

    tokens: int = 0
    tokens_per_s: int = 0
    steps: int = 0
    trades: int = 0
    solo: int = 0
    last_partner: bytes = b""
    losses: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """(round, mean training loss in nats) of closed segments."""
    open_loss: float | None = None
    """Mean training loss in nats of the open segments so far; None before their first micro-batch."""
    notes: list[TradeRecord] = field(default_factory=list[TradeRecord])
    sentences: deque[ConvictionView] = field(
        default_factory=lambda: deque[ConvictionView](maxlen=SENTENCES_KEPT)
    )
    """Convictions, oldest first."""
    hashing_s: float = 0.0
    waits_for: str = ""
    """What the node is waiting for, as a sentence, or empty."""

    @property
    def training_loss(self) -> float | None:
        """Of the last closed segment, in nats; until there is one, of what is open."""
        return self.losses[-1][1] if self.losses else self.open_loss


@dataclass(slots=True)
class NodeContext:
    """Everything a duty may need. Built once by ``service.run_node``."""

    home: Path
    config: NodeConfig
    secret: SecretKey
    genesis: Genesis
    store: Store
    host: Host
    ledger: LedgerService
    dht: Dht
    trades: Trades
    blobs: Blobs
    compute: Executor
    checking: Executor
    """For replays of others' work: a worker of lower priority, so that training never waits for it."""
    library: ArtifactCache
    checks: Verifier
    pipeline: Pipeline
    report: EventLog
    incarnation: int
    tally: NodeStats
    devices: tuple[str, ...] = ("cpu",)
    """What native runs are computed on here."""
    run_index: RunIndex | None = None
    run16: bytes = bytes(16)
    checkpoints_held: dict[StageIndex, int] = field(default_factory=dict[StageIndex, int])
    """Per stage, the round of the newest canonical checkpoint on this disk."""

    @property
    def me(self) -> PeerId:
        """This node."""
        return self.secret.peer

    @property
    def run(self) -> Run | None:
        """The run as of the last finalised block."""
        return None if self.run_index is None else self.ledger.state.find_run(self.run_index)

    def peers_of_run(self) -> list[PeerId]:
        """Everybody the ledger or the network names for this run, connected ones first."""
        return self.library.peers_of(self.run)


TRADING_NICENESS = 12
"""Gives way to training a little; a partner waits for it, but not long."""
SERVING_NICENESS = 15
"""Between our own training and the checks: somebody waits for the text."""
CHECKING_NICENESS = 19
"""The least there is, below the 10 of our own training: a check never delays a step."""


@dataclass(frozen=True, slots=True)
class Executors:
    """Where arithmetic runs: our own training, and what gives way to it."""

    compute: Executor
    checking: Executor
    """Replays the work of others."""
    serving: Executor
    """For texts that are written with the model: a replay that takes seconds must not hold up a token."""
    trading: Executor
    """Packs and opens fragments: an inner step must not wait for an exchange."""
    devices: tuple[str, ...]
    """What our own training of native runs computes on."""

    def close(self) -> None:
        """End them; each waits a little for the job that still runs."""
        for worker in (self.compute, self.checking, self.serving, self.trading):
            worker.close()


def open_executors(threads: int, devices: tuple[str, ...]) -> Executors:
    """The workers of one node, none of them started; each computes with ``threads`` threads."""
    prepare = partial(_prepare_torch, threads)
    return Executors(
        compute=Executor(prepare=prepare),
        checking=Executor(niceness=CHECKING_NICENESS, prepare=prepare),
        serving=Executor(niceness=SERVING_NICENESS, prepare=prepare),
        trading=Executor(niceness=TRADING_NICENESS, prepare=prepare),
        devices=devices,
    )


def _prepare_torch(threads: int) -> None:
    """Once per worker: explicit threads give the same bits in every run on this machine."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
