"""What the parts of a running node share.

Shell: references to every room; decides nothing.
"""

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from swarm.compute import Compute
from swarm.crypto import SecretKey
from swarm.dht.service import Dht
from swarm.gossip.blobs import Blobs
from swarm.gossip.service import Trades
from swarm.host.service import Host
from swarm.ledger.records import Run
from swarm.ledger.service import LedgerService
from swarm.node.audits import Sentence
from swarm.node.library import Library
from swarm.node.reports import Reports
from swarm.run_file import NodeConfig
from swarm.spec import Genesis
from swarm.store import Store
from swarm.training.service import Pipeline
from swarm.types import PeerId, RunIndex, StageIndex
from swarm.verify.service import Checks

SENTENCES_KEPT = 32
"""As many convictions as the ledger remembers of one run."""


@dataclass(slots=True)
class TradeNote:
    """One trade as the map shows it."""

    round: int
    fragment: int
    stage: int
    source: PeerId
    target: PeerId | None
    is_done: bool


@dataclass(slots=True)
class Tally:
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
    notes: list[TradeNote] = field(default_factory=list[TradeNote])
    sentences: deque[Sentence] = field(
        default_factory=lambda: deque[Sentence](maxlen=SENTENCES_KEPT)
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
class Context:
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
    compute: Compute
    checking: Compute
    """For replays of others' work: a worker of lower priority, so that training never waits for it."""
    library: Library
    checks: Checks
    pipeline: Pipeline
    report: Reports
    incarnation: int
    tally: Tally
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
