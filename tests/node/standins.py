"""Stand-ins of what a controller and a verifier need of a node that trains, fetches and replays nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field

from swarm.config.schema import NodeConfig
from swarm.config.spec import Genesis
from swarm.errors import Unreachable
from swarm.ledger.service import LedgerService
from swarm.ledger.state.records import Checkpoint, Run
from swarm.node.context import NodeStats
from swarm.node.control.planner import (
    BeginRound,
    CloseRound,
    LeaveSeat,
    LocalSeat,
    TakeSeat,
    TradeFragment,
)
from swarm.primitives.crypto import SecretKey
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex
from swarm.verify.service import Verifier
from tests.ledger.services import MemoryHost


@dataclass
class LiveSeat:
    """A seat whose shard is trained elsewhere."""

    round_index: RoundIndex | None = None
    runner: None = None


class Seats:
    """Seats of a node that trains in another process: ready at once, and everything asked of them is done."""

    def __init__(self) -> None:
        self.live: dict[tuple[StageIndex, int], LiveSeat] = {}

    @property
    def commits(self) -> "Seats":
        return self

    async def resubmit(self, run: Run) -> None:
        """Nothing is on its way."""

    def tidy(self, run: Run) -> None:
        """Nothing is left."""

    def locals(self) -> tuple[LocalSeat, ...]:
        return tuple(
            LocalSeat(*key, one.round_index, is_ready=True)
            for key, one in sorted(self.live.items())
        )

    def take(self, duty: TakeSeat) -> None:
        self.live[duty.seat.stage, duty.seat.index] = LiveSeat()

    async def leave(self, duty: LeaveSeat) -> None:
        self.live.pop((duty.stage, duty.index), None)

    async def begin(self, duty: BeginRound) -> None:
        """Done."""

    async def close(self, duty: CloseRound) -> None:
        """Done."""

    async def trade(self, duty: TradeFragment) -> None:
        """Done."""

    def closed(self, stage: StageIndex, index: int, round_: RoundIndex) -> None:
        """Nothing is here to be posted."""

    def hashing_s(self) -> float:
        return 0.0

    def open_loss(self) -> float | None:
        return None

    def anchors(self) -> set[Digest] | None:
        return None


class NoArtifacts:
    """Artifacts that nobody serves."""

    async def keep_base(self, run: Run, stage: StageIndex) -> None:
        """There is none."""

    async def checkpoint(self, run: Run, stage: StageIndex, kept: Checkpoint) -> None:
        raise Unreachable("nobody has it")

    async def tokens(self, run: Run) -> object:
        raise Unreachable("nobody has them")

    async def anchor(self, run: Run, stage: StageIndex, root: Digest) -> object:
        raise Unreachable("nobody has it")

    async def base(self, run: Run, stage: StageIndex) -> None:
        """There is none."""

    def canonical(self, run: Run, stage: StageIndex, root: Digest) -> bool:
        return True


@dataclass
class Context:
    """What the controller reads of a node."""

    secret: SecretKey
    genesis: Genesis
    host: MemoryHost
    ledger: LedgerService
    checks: Verifier
    report: Callable[..., None]
    config: NodeConfig = field(default_factory=NodeConfig)
    artifacts: NoArtifacts = field(default_factory=NoArtifacts)
    stats: NodeStats = field(default_factory=NodeStats)
    checkpoints_held: dict[StageIndex, int] = field(default_factory=dict[StageIndex, int])

    @property
    def me(self) -> PeerId:
        return self.secret.peer

    @property
    def run(self) -> Run | None:
        return self.ledger.state.find_run(RunIndex(1))
