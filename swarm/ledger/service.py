"""Serve the ledger to the rest of the node: the final state, and submission of statements.

Shell: the entry point of the ledger package. Composes archive, follower, snapshots, relay and, on a validator,
the replica.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from swarm.config.spec import Genesis
from swarm.errors import Unreachable
from swarm.gossip.news.service import News
from swarm.host.service import Host
from swarm.ledger.blocks import Block, Certificate
from swarm.ledger.consensus.memory import VoteMemory
from swarm.ledger.consensus.timers import TimerParams
from swarm.ledger.consensus.validator import ValidatorRunner
from swarm.ledger.mempool import Mempool
from swarm.ledger.net.archive import Archive, FinalBlock
from swarm.ledger.net.follower import Follower
from swarm.ledger.net.relay import Relay
from swarm.ledger.net.snapshots import Snapshots
from swarm.ledger.net.standing import Standings
from swarm.ledger.snapshot import oldest_kept, oldest_needed
from swarm.ledger.state.state import State
from swarm.ledger.transactions import Body
from swarm.ledger.transition.validators import INDEPENDENT_MIN
from swarm.primitives.crypto import SecretKey
from swarm.store import Store
from swarm.types import Digest, Height

TAIL_MAX = 1000
"""Blocks that one ``tail`` returns at most."""


TIDY_S = 10.0
"""Seconds between two looks at which old blocks are to be fetched or deleted."""

DELTA_S = 2.0
"""Seconds a vote takes between two validators, at most, by assumption: half the globe and a busy machine."""


log = logging.getLogger("swarm.ledger")


class Started(Protocol):
    """Interface of the ``task_status`` that ``nursery.start`` passes in."""

    def started(self, value: None, /) -> None:
        """Report that the ledger serves."""


@dataclass(frozen=True, slots=True)
class LedgerStats:
    """Consensus and traffic counts since the start of this node."""

    finality_s: float | None
    """Mean seconds from a block's first sight to its finality, over the last 64 blocks; None for a follower."""
    views_skipped: int
    """Views without a block since genesis, final ones only."""
    sent_bytes: int
    sent_frames: int
    received_sync_bytes: int
    evidence: int
    """Number of validators' equivocations caught: two conflicting votes signed in one view."""
    pooled: int


class LedgerService:
    """Ledger of one node. Made by ``open``; ``run`` serves it until cancelled."""

    def __init__(
        self,
        archive: Archive,
        pool: Mempool,
        replica: ValidatorRunner | None,
        follower: Follower,
        relay: Relay,
        snapshots: Snapshots,
        *,
        keeps_all: bool = False,
    ) -> None:
        self._archive, self._pool, self._replica = archive, pool, replica
        self._follower, self._relay, self._snapshots = follower, relay, snapshots
        self._keeps_all = keeps_all

    @classmethod
    def open(
        cls,
        store: Store,
        genesis: Genesis,
        secret: SecretKey,
        host: Host,
        *,
        news: News,
        validate: bool,
        delta_s: float = DELTA_S,
        memory: VoteMemory | None = None,
        keeps_all: bool = False,
        report: Callable[[str], None] = log.warning,
        tell: Callable[[str], None] = log.info,
    ) -> "LedgerService":
        """Load the chain from disk and offer it to peers.

        Args:
            store: Database of this node.
            genesis: The record that defines the network.
            secret: Key that signs this node's statements and votes.
            host: Connections to peers.
            news: News of this node, as which transactions travel; the caller runs it.
            validate: Vote in the epochs for which this node is chosen.
            delta_s: Seconds of a vote between two validators at most: a guess, which grows while none is final.
            memory: What this node remembers of its votes outside of the database; None in a simulation.
            keeps_all: Begin with block 1, and delete no block.
            report: Called with what the owner of this node must know.
            tell: Called with what it may like to know.

        Raises:
            Corrupt: The disk holds anything but one valid chain, or the vote log is damaged.
            UsageError: The disk holds the chain of another network.
            BadEncoding: The genesis is out of bounds.
        """
        archive, pool = Archive.open(store, genesis), Mempool()
        if keeps_all and archive.first > 1:
            report(
                f"this home has no blocks before {archive.first}: archive = true keeps those after it"
            )
        replica = None
        if validate:
            pace = TimerParams(genesis.block_interval_ms / 1000, delta_s)
            replica = ValidatorRunner(archive, pool, secret, host, pace, memory, report)
        relay, snapshots = Relay(archive, pool, secret, host, news), Snapshots(archive, host)
        host.pacing.judge_by(Standings(lambda: archive.head.state).of)
        follower = Follower(
            archive,
            pool,
            host,
            replica,
            snapshots,
            uses_snapshots=not keeps_all,
            report=report,
            tell=tell,
        )
        if replica is not None:
            replica.accuse, replica.remind = relay.try_submit, relay.remind
        return cls(archive, pool, replica, follower, relay, snapshots, keeps_all=keeps_all)

    async def run(
        self,
        *,
        task_status: Started = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Vote, follow and relay until cancelled.

        Raises ``VerificationFailed`` if more than a third of the validators' power is proved dishonest,
        ``Corrupt`` or ``DiskFull`` if the disk fails: nothing is signed after that.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._relay.run)
            nursery.start_soon(self._follower.run)
            nursery.start_soon(self._tidy)
            if self._replica is not None:
                nursery.start_soon(self._replica.run)
            task_status.started(None)

    async def _tidy(self) -> None:
        """Fetch what old blocks are needed behind a snapshot, and delete what is kept no longer."""
        while True:
            await trio.sleep(TIDY_S)
            state, needed = self.state, oldest_needed(self.state)
            if self.first > needed and self.is_caught_up:
                await self._snapshots.fill(self._follower.candidates(), needed)
            if not self.keeps_all:
                await self._archive.forget_before(oldest_kept(state))

    @property
    def keeps_all(self) -> bool:
        """True if no block is deleted here.

        Its owner wants it so; or it validates, or offers to, on a trusted launcher's network, where nobody else
        may have kept what proves the launcher right or wrong.
        """
        is_alone = len(self.state.validators) < INDEPENDENT_MIN
        return self._keeps_all or (is_alone and self._replica is not None)

    @property
    def first(self) -> Height:
        """Height from which on all blocks are here: 1, or a later one where the node began or what it kept."""
        return self._archive.first

    @property
    def genesis(self) -> Genesis:
        """The genesis of the network, which stands for block 0."""
        return self._archive.genesis

    @property
    def state(self) -> State:
        """The latest final state."""
        return self._archive.head.state

    @property
    def height(self) -> Height:
        """The latest final height."""
        return self._archive.head.state.height

    @property
    def is_caught_up(self) -> bool:
        """True if a peer has shown, since the start, that all blocks but the very last ones are here."""
        return self._follower.is_near

    @property
    def is_validator(self) -> bool:
        """True if this node votes."""
        return self._replica is not None and self._replica.is_voting

    @property
    def is_silent(self) -> bool:
        """True if this node is a validator of this epoch, and does not vote: it may have forgotten votes."""
        return self._replica is not None and self._replica.is_silent

    @property
    def finality_s(self) -> float | None:
        """Mean seconds from a block's first sight to its finality; None for a follower and before a block."""
        samples = self.finality_samples
        return sum(samples) / len(samples) if samples else None

    @property
    def finality_samples(self) -> tuple[float, ...]:
        """Seconds from a block's first sight to its finality, of the last 64 blocks; empty for a follower."""
        return () if self._replica is None else self._replica.finality_samples

    @property
    def stats(self) -> LedgerStats:
        """Consensus and traffic counts since the start of this node."""
        senders = [self._relay.traffic, *([self._replica.traffic] if self._replica else [])]
        return LedgerStats(
            finality_s=self.finality_s,
            views_skipped=self.state.globals.num_skipped,
            sent_bytes=sum(num_bytes for num_bytes, _ in senders),
            sent_frames=sum(num_frames for _, num_frames in senders),
            received_sync_bytes=self._follower.num_bytes + self._snapshots.num_bytes,
            evidence=self._replica.num_evidence if self._replica else 0,
            pooled=len(self._pool),
        )

    async def wait_height(self, height: int) -> State:
        """Wait until the final height is ``height`` or more; return the final state."""
        return await self._archive.wait_height(height)

    def subscribe(self) -> trio.MemoryReceiveChannel[FinalBlock]:
        """Return a channel of final blocks; a slow reader misses some and finds the state in the next."""
        return self._archive.subscribe()

    async def submit(self, body: Body) -> Digest:
        """Sign a statement of this node and send it to the validators; return the transaction's digest.

        Raises ``InvalidStatement`` if it cannot be valid now, is under way already, or if too many are.
        """
        return self._relay.submit(body)

    async def submit_final(self, body: Body, timeout_s: float) -> Height:
        """Submit a statement and wait for it; return the height of the final block that holds it.

        Args:
            body: The statement to sign.
            timeout_s: Seconds to wait for a final block.

        Raises:
            InvalidStatement: As in ``submit``, or no block took it before it expired.
            Unreachable: The time is over; the statement may still become final.
        """
        name = self._relay.submit(body)
        with trio.move_on_after(timeout_s):
            return await self._relay.wait_final(name)
        raise Unreachable(f"the ledger did not take the transaction within {timeout_s:.0f} s")

    def block_at(self, height: Height) -> tuple[Block, Certificate | None] | None:
        """Return a final block and its own finalization if it has one; None if there is no such block."""
        return self._archive.block_at(height)

    def tail(self, count: int) -> list[Block]:
        """Return the last final blocks, newest first."""
        lowest = max(self.height - min(count, TAIL_MAX), 0)
        found = (self.block_at(Height(at)) for at in range(self.height, lowest, -1))
        return [link[0] for link in found if link is not None]
