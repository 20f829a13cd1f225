"""A run of some stages with a posted checkpoint, and everybody who may hold it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from swarm.config.spec import NANO, CheckSpec, RunSpec
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.records import Checkpoint, Run, SegmentPhase
from swarm.ledger.state.state import State, audit_supply
from swarm.ledger.state.storage import Storage
from swarm.ledger.storage_statements import StorageProof, StorageStatement, StoreReceipt
from swarm.ledger.transactions import Join, PostCheckpoint
from swarm.ledger.transition.runs import boundary_height
from swarm.ledger.transition.storage import prove_storage
from swarm.primitives.codec import encode
from swarm.primitives.commitments import tensor_hash
from swarm.primitives.crypto import SecretKey
from swarm.primitives.merkle import merkle_proof, merkle_root
from swarm.primitives.state_parts import PHI
from swarm.testing.ledger import (
    CheckedSegment,
    InMemoryLedger,
    end_components,
    make_segment,
    small_run_spec,
)
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex

EPOCH = 40
SPEC = small_run_spec(
    round_blocks=20, rounds=60, checkpoint_rounds=2, checks=CheckSpec(NANO, 10, 100)
)
FIRST = RoundIndex(4)
"""Round of the checkpoint: the owner has yielded what others carry by then."""
PHI_BYTES = 20_000
"""Bytes of invented slow weights: some 20 leaves."""
STAGE = StageIndex(0)
"""Stage whose checkpoint is looked at."""


@dataclass
class Kept:
    """A ledger on which every stage has posted a checkpoint."""

    spec: RunSpec = SPEC
    joiners: int = 5
    volunteers: int = 0
    escrow: int = 1_000_000
    ledger: InMemoryLedger = field(init=False)
    index: RunIndex = field(init=False)
    round: RoundIndex = FIRST
    made: dict[tuple[int, int, int], CheckedSegment] = field(
        default_factory=dict[tuple[int, int, int], CheckedSegment]
    )
    sizes: tuple[int, ...] = (PHI_BYTES, PHI_BYTES)
    """Bytes of the weights of each stage."""
    weights: dict[tuple[int, int], bytes] = field(default_factory=dict[tuple[int, int], bytes])

    def __post_init__(self) -> None:
        accounts = 1 + self.joiners
        self.ledger = InMemoryLedger(accounts, 1, epoch_blocks=EPOCH, unbonding_epochs=4)
        run = self.ledger.open_run(self.spec, escrow=self.escrow)
        self.index = run.index
        paid = [self.ledger.sign(key, Join(run.index)) for key in self.ledger.keys[1:accounts]]
        free = self.ledger.keys[accounts : accounts + self.volunteers]
        self.ledger.block(*paid, *(self.ledger.sign(key, Join(run.index), fee=0) for key in free))
        self.train_to(FIRST)
        self.post(FIRST)

    @property
    def state(self) -> State:
        return self.ledger.state

    @property
    def run(self) -> Run:
        return self.state.run(self.index)

    @property
    def checkpoint(self) -> Checkpoint:
        return next(c for c in self.run.checkpoints[STAGE] if c.round == self.round)

    @property
    def storage(self) -> Storage:
        found = self.state.storage(self.index, STAGE, self.round)
        assert found is not None
        return found

    @property
    def peers(self) -> list[PeerId]:
        return [holder.peer for holder in self.storage.holders]

    def train_to(self, round_: int) -> None:
        """Reach the boundary of a round; every seat commits the rounds before it."""
        for number in range(1, round_ + 1):
            self.to_height(boundary_height(self.run, number))
            if all(made[0] != number - 1 for made in self.made):
                self.tick(*self._commits(number - 1))

    def tick(self, *transactions: bytes) -> None:
        """Make a block; every solver shows its segment when it must."""
        sealed = [r for r in self.state.live_segments() if r.phase is SegmentPhase.SEALED]
        made = [self.made[r.round, r.stage, r.seat].reveal() for r in sealed]
        self.ledger.block(*transactions, *(self.ledger.sign(self.ledger.keys[0], m) for m in made))

    def _commits(self, round_: int) -> list[bytes]:
        info = next(info for info in self.run.rounds if info.round == round_)
        signed = list[bytes]()
        for seat in (seat for roster in info.seats for seat in roster):
            where = round_, seat.stage, seat.index
            end_root = merkle_root(self._ends(where))
            self.made[where] = make_segment(
                self.ledger, self.run, *where, num_steps=5, tokens=5_000, end_root=end_root
            )
            key = self.ledger.key_of(seat.peer)
            signed.append(self.ledger.sign(key, self.made[where].commit))
        return signed

    def post(self, round_: int) -> None:
        """Every drawn seat posts the checkpoint of a boundary."""
        info = next(info for info in self.run.rounds if info.round == round_)
        for stage, index in enumerate(info.drawn):
            if index < 0:
                continue  # nobody of the stage was able to
            seat = next(seat for seat in info.seats[stage] if seat.index == index)
            parts = self._ends((round_ - 1, stage, index))
            self.weights[stage, round_] = self._phi((round_ - 1, stage, index))
            body = PostCheckpoint(
                run=self.index,
                round=RoundIndex(round_),
                stage=StageIndex(stage),
                seat=index,
                phi_root=parts[PHI],
                phi_bytes=self.sizes[stage],
                proof=merkle_proof(parts, PHI),
            )
            self.tick(self.ledger.sign(self.ledger.key_of(seat.peer), body))

    def _phi(self, where: tuple[int, int, int]) -> bytes:
        """Return the slow weights at the end of a segment: some finite numbers."""
        dice = np.random.default_rng(where)
        return dice.standard_normal(self.sizes[where[1]] // 4).astype("<f4").tobytes()

    def _ends(self, where: tuple[int, int, int]) -> list[Digest]:
        parts, data = end_components(encode(where)), self._phi(where)
        parts[PHI] = tensor_hash("float32", (len(data) // 4,), data)
        return parts

    def receipt(self, peer: PeerId) -> StoreReceipt:
        return StoreReceipt(self.index, self.round, STAGE, peer)

    def proof(self, peer: PeerId) -> StorageProof:
        data = memoryview(self.weights[STAGE, self.round])
        return prove_storage(self.checkpoint, self.storage, self.receipt(peer), data)

    def submit(self, body: StorageStatement, key: SecretKey | None = None) -> None:
        """One statement in one block, signed by who must; the supply is counted after it."""
        self.tick(self.ledger.sign(key or self.ledger.key_of(body.holder), body))
        assert audit_supply(self.state) == self.state.supply

    def refused(self, body: StorageStatement, key: SecretKey | None = None) -> Reason:
        root = self.state.root
        try:
            self.submit(body, key)
        except InvalidStatement as error:
            assert self.state.root == root
            return error.reason
        raise AssertionError("it was accepted")

    def draw(self) -> list[PeerId]:
        """Let the holders be drawn."""
        self._wait(lambda: bool(self.storage.holders))
        return self.peers

    def hold(self) -> list[PeerId]:
        """Let the holders be drawn, and all of them say that they hold it."""
        for peer in self.draw():
            self.submit(self.receipt(peer))
        return self.peers

    def ask(self) -> None:
        """Let the next epoch begin."""
        before = self.storage.asked
        self._wait(lambda: self.storage.asked != before)

    def _wait(self, is_over: Callable[[], bool]) -> None:
        for _ in range(2 * EPOCH):
            if is_over():
                return
            self.tick()
        raise AssertionError(f"nothing has come about until block {self.state.height}")

    def to_height(self, height: int) -> None:
        while self.state.height < height:
            self.tick()

    def to_round(self, round_: int) -> None:
        self.to_height(boundary_height(self.run, round_))

    def seated(self, stage: int) -> set[PeerId]:
        return {seat.peer for seat in self.run.seats[stage]}
