"""The rounds of which a whole model can be had: every stage still has its checkpoint.

Core: pure functions of a run as the ledger has it.
"""

from dataclasses import dataclass

from swarm.ledger.records import Run
from swarm.types import Digest


@dataclass(frozen=True, slots=True)
class Boundary:
    """The weights of all stages at one round."""

    round: int
    """0 is the initialisation."""
    roots: tuple[Digest, ...]


def common_rounds(run: Run) -> list[int]:
    """The boundaries of which every stage still has a checkpoint, newest first."""
    rounds = [
        {int(kept.round) for kept in run.standing(stage)} for stage in range(len(run.checkpoints))
    ]
    return sorted(set.intersection(*rounds), reverse=True)


def boundaries(run: Run) -> list[Boundary]:
    """Their weights, newest first."""
    found = list[Boundary]()
    for round_ in common_rounds(run):
        kept = (next(c for c in stage if c.round == round_) for stage in run.checkpoints)
        found.append(Boundary(round_, tuple(checkpoint.phi_root for checkpoint in kept)))
    return found
