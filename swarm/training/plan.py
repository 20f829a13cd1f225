"""Plan one round of a run: ledger facts that every seat reads at the boundary, and routes of micro-batches.

Core: frozen; everything is a function of finalised ledger state, so all peers agree.

Each micro-batch takes a route through random replicas of each stage. For each stage the slots (step,
micro-batch, origin) are dealt to the stage's seats so that every run of consecutive slots is shared in
proportion to the weights, in random order: with equal weights and as many seats as origins, each micro-batch
sees a permutation of the stage, and no seat is idle. If a step has fewer slots than seats, or no multiple of
their number, several steps are dealt together, so that no seat gets fewer slots by a round's draw. The seats
after the primary are the other replicas of the stage in a random order, asked when it is dead or late.

Source: docs/spec/protocol.md section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from statistics import median_low

from swarm.config.spec import RunSpec
from swarm.errors import UsageError
from swarm.primitives.randomness import stream
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex

Roster = tuple[tuple[int, int], ...]
"""The seats of one stage: (seat index, tokens of its last finalised commit, 0 if none)."""

WEIGHT_UNIT = 4
"""Weight of a seat of median tokens; differences under a quarter do not matter."""
WEIGHT_CAP = 2
"""Limit of a seat's weight: twice the median, or half of it."""
_DRAW_BITS = 32
_SPARE_TURNS = WEIGHT_CAP * WEIGHT_CAP + 2
"""Beyond its share, a seat has at most w / min(w) + 1 times before the last slot's, and one for rounding."""


def weights_of(roster: Roster) -> tuple[int, ...]:
    """Return integer weights in [UNIT / CAP, UNIT * CAP], half-way between a seat's tokens and the median.

    Half-way, because a seat that got little work shows few tokens: following them fully would never let it
    recover. A seat without a commit has the weight of the median.
    """
    known = [tokens for _, tokens in roster if tokens > 0]
    if not known:
        return (WEIGHT_UNIT,) * len(roster)
    middle = median_low(known)
    weights = list[int]()
    for _, tokens in roster:
        seen = tokens if tokens > 0 else middle
        # round(UNIT * (1 + seen / middle) / 2), half up
        halfway = (WEIGHT_UNIT * (middle + seen) + middle) // (2 * middle)
        weights.append(min(max(halfway, WEIGHT_UNIT // WEIGHT_CAP), WEIGHT_UNIT * WEIGHT_CAP))
    return tuple(weights)


def path(
    beacon: Digest,
    run_digest: Digest,
    round_index: RoundIndex,
    step: int,
    microbatch: int,
    rosters: Sequence[Roster],
    origin: int,
    microbatches_per_step: int,
) -> tuple[tuple[int, ...], ...]:
    """Return, for every stage after the first, the primary seat index, then the others in order of fallback.

    ``origin`` is a seat index of stage 0; one that is not in the roster shares the first one's slots. An empty
    stage gives an empty tuple: the micro-batch cannot be computed. Raises ``UsageError`` for a micro-batch that
    no step has.
    """
    if not 0 <= microbatch < microbatches_per_step:
        raise UsageError(f"a step has {microbatches_per_step} micro-batches of an origin")
    origins = [seat for seat, _ in rosters[0]]
    index = microbatch * len(origins) + (origins.index(origin) if origin in origins else 0)
    step_slots = max(len(origins), 1) * microbatches_per_step
    routes = list[tuple[int, ...]]()
    for stage, roster in enumerate(rosters[1:], start=1):
        if not roster:
            routes.append(())
            continue
        steps = len(roster) // gcd(len(roster), step_slots)
        block, within = divmod(step, steps)
        slots = deal(beacon, run_digest, round_index, block, stage, roster, steps * step_slots)
        primary = slots[within * step_slots + index]
        replicas = [seat for seat, _ in roster if seat != primary]
        context = (run_digest, round_index, step, microbatch, stage, origin)
        routes.append((primary, *stream(beacon, "training.siblings", *context).shuffled(replicas)))
    return tuple(routes)


@lru_cache(maxsize=64)
def deal(
    beacon: Digest,
    run_digest: Digest,
    round_index: RoundIndex,
    block: int,
    stage: int,
    roster: Roster,
    slots: int,
) -> tuple[int, ...]:
    """Return the primary seat of each of the first ``slots`` slots of one block of steps, in order.

    A seat of weight w has the random times (j + u) / w for j = 0, 1, ...; slots are dealt in the order of time.
    So any run of slots is shared fairly, and asking for more slots does not change the first ones.
    """
    weights = weights_of(roster)
    times = list[tuple[int, int]]()
    for (seat, _), weight in zip(roster, weights, strict=True):
        rng = stream(beacon, "training.deal", run_digest, round_index, block, stage, seat)
        for turn in range(slots * weight // sum(weights) + _SPARE_TURNS):
            random_time = (turn << _DRAW_BITS) + rng.below(1 << _DRAW_BITS)
            times.append(((random_time << _DRAW_BITS) // weight, seat))
    return tuple(seat for _, seat in sorted(times)[:slots])


def quota(rosters: Sequence[Sequence[object]], stage: int, microbatches_per_step: int) -> int:
    """Return the micro-batches that one replica of ``stage`` is expected to answer per step, at least 1."""
    if stage == 0:
        return microbatches_per_step
    seats = max(len(rosters[stage]), 1)
    return max((2 * len(rosters[0]) * microbatches_per_step + seats) // (2 * seats), 1)


@dataclass(frozen=True, slots=True)
class RosterSeat:
    """One seat of a stage's roster; ``weight`` is the tokens of its last finalised commit."""

    index: int
    peer: PeerId
    weight: int
    joined_round: int = 0
    """The round it joined in; for a few rounds its partners receive nothing from it."""
    lag: int = 0
    """Rounds by which its last commit is older than it could be; partners weigh it by this age."""
    trails: bool = False
    """True if its last commit has far fewer tokens than usual in its stage; partners then receive nothing."""
    is_on_trial: bool = False
    """True if its peer has neither a stake nor enough work that stood; partners then receive nothing."""


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
    """Number of this round of final averaging, at the end of the run; -1 for a round of training."""

    @property
    def is_final_averaging(self) -> bool:
        """True if this is a round of final averaging, without training."""
        return self.consensus >= 0

    @property
    def exchanges(self) -> int:
        """Exchanges of this round; in one of final averaging every fragment is traded once."""
        outer = self.spec.outer
        return outer.fragments if self.is_final_averaging else outer.exchanges

    @property
    def steps_max(self) -> int:
        """Upper limit of the optimizer steps of one segment."""
        return 0 if self.is_final_averaging else self.spec.inner_steps_max

    def candidates(
        self, *, origin: int, step: int, microbatch: int, stage: StageIndex
    ) -> tuple[RosterSeat, ...]:
        """Return the seats that may compute a micro-batch at ``stage``: the primary, then its fallbacks."""
        rosters = tuple(
            tuple((seat.index, seat.weight) for seat in roster) for roster in self.rosters
        )
        per_step = self.spec.microbatches_per_step
        where = (self.beacon, self.run_digest, self.round, step, microbatch)
        routes = path(*where, rosters, origin, per_step)
        by_index = {seat.index: seat for seat in self.rosters[stage]}
        return tuple(by_index[index] for index in routes[stage - 1])

    def seat(self, stage: int, index: int) -> RosterSeat | None:
        """Return the seat ``index`` of ``stage`` this round, or None."""
        if not 0 <= stage < len(self.rosters):
            return None
        return next((seat for seat in self.rosters[stage] if seat.index == index), None)

    def quota(self, stage: StageIndex) -> int:
        """Return the micro-batches that one replica of ``stage`` is expected to answer per step."""
        return quota(self.rosters, stage, self.spec.microbatches_per_step)
