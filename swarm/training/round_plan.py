"""What every seat of a run reads at a round boundary, and the routes that follow from it.

Core: frozen; everything is a function of finalised ledger state, so all who have it agree.
"""

from dataclasses import dataclass

from swarm.spec import RunSpec
from swarm.training.routing import path, quota
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex


@dataclass(frozen=True, slots=True)
class RosterSeat:
    """One seat of a stage's roster; ``weight`` is the tokens of its last finalised commit."""

    index: int
    peer: PeerId
    weight: int
    joined_round: int = 0
    """The round it joined in: for a few rounds its partners take nothing from it."""
    lag: int = 0
    """Rounds by which its last commit is older than it could be: its partners weigh it by its age."""
    trails: bool = False
    """Its last commit has far fewer tokens than is usual in its stage: its partners take nothing from it."""


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """One round of one run."""

    chain: Digest
    run: RunIndex
    run_digest: Digest
    spec: RunSpec
    round: RoundIndex
    beacon: Digest
    rosters: tuple[tuple[RosterSeat, ...], ...]
    consensus: int = -1
    """Which round of consensus this is, at the end of the run; -1: a round of training."""

    @property
    def is_consensus(self) -> bool:
        """Whether replicas only become one in this round."""
        return self.consensus >= 0

    @property
    def steps_max(self) -> int:
        """Optimizer steps of one segment, at most."""
        return 0 if self.is_consensus else self.spec.inner_steps_max

    def candidates(
        self, *, origin: int, step: int, microbatch: int, stage: StageIndex
    ) -> tuple[RosterSeat, ...]:
        """Who may compute a micro-batch at ``stage``: the drawn replica first, then its siblings."""
        rosters = tuple(
            tuple((seat.index, seat.weight) for seat in roster) for roster in self.rosters
        )
        per_step = self.spec.microbatches_per_step
        where = (self.beacon, self.run_digest, self.round, step, microbatch)
        routes = path(*where, rosters, origin, per_step)
        by_index = {seat.index: seat for seat in self.rosters[stage]}
        return tuple(by_index[index] for index in routes[stage - 1])

    def seat(self, stage: int, index: int) -> RosterSeat | None:
        """The seat ``index`` of ``stage`` this round, or None."""
        if not 0 <= stage < len(self.rosters):
            return None
        return next((seat for seat in self.rosters[stage] if seat.index == index), None)

    def quota(self, stage: StageIndex) -> int:
        """Micro-batches that one replica of ``stage`` is expected to answer per step."""
        return quota(self.rosters, stage, self.spec.microbatches_per_step)
