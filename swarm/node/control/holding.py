"""Plan what a node that is drawn to hold checkpoints of other stages has to fetch, to say and to show.

Core: a pure function of the final state and of what is on the disk; a restart derives the same.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from swarm.ledger.state.records import Checkpoint, Params, Run, RunPhase
from swarm.ledger.state.state import State
from swarm.ledger.state.storage import Holder, Storage, is_asked
from swarm.ledger.transition.storage import proof_end
from swarm.node.control.planner import guarded_stages
from swarm.primitives.randomness import stream
from swarm.types import Digest, Height, PeerId, StageIndex

SPREAD = 2
"""Holders begin within one half of the time for a proof: those of a large run would fill the first blocks."""


@dataclass(frozen=True, slots=True)
class FetchHeld:
    """Duty: fetch a checkpoint that this node was drawn to hold."""

    stage: StageIndex
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class SayHeld:
    """Duty: post the receipt for a checkpoint that is on this disk."""

    stage: StageIndex
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class ShowHeld:
    """Duty: post the leaves of a checkpoint that were drawn for this node."""

    stage: StageIndex
    checkpoint: Checkpoint
    storage: Storage


@dataclass(frozen=True, slots=True)
class RefuseHeld:
    """Duty to none: the checkpoint is more than this node may hold, and its receipt is left out."""

    stage: StageIndex
    checkpoint: Checkpoint


HoldingDuty = FetchHeld | SayHeld | ShowHeld | RefuseHeld


def plan_holding(
    state: State, run: Run, me: PeerId, has: Callable[[Digest], bool], bytes_max: int
) -> list[HoldingDuty]:
    """Return what is due about the checkpoints that ``me`` was drawn to hold, those first that are shown.

    Args:
        state: The final state.
        run: The run, as of that state.
        me: This node.
        has: Returns True for the root of weights that are on this disk.
        bytes_max: Most bytes to hold for others; stages that this node keeps anyway are not counted.
    """
    if run.phase is RunPhase.SETTLED:
        return []
    mine = {seat.stage for roster in run.seats for seat in roster if seat.peer == me}
    kept = mine | guarded_stages(mine, len(run.checkpoints))
    free = bytes_max - _bytes_here(run, kept, has)
    duties = list[HoldingDuty]()
    for stage in map(StageIndex, range(len(run.checkpoints))):
        for checkpoint in run.standing(stage):
            storage = state.storage(run.index, stage, checkpoint.round)
            holder = _holder(storage, me)
            if storage is None or holder is None:
                continue
            if has(checkpoint.phi_root):
                if not holder.receipt:
                    duties.append(SayHeld(stage, checkpoint))
                elif is_asked(storage, holder) and _is_time(state, run, stage, storage, me):
                    duties.append(ShowHeld(stage, checkpoint, storage))
            elif stage in kept:
                duties.append(FetchHeld(stage, checkpoint))
            elif checkpoint.phi_bytes <= free:
                free -= checkpoint.phi_bytes
                duties.append(FetchHeld(stage, checkpoint))
            else:
                duties.append(RefuseHeld(stage, checkpoint))
    return sorted(duties, key=lambda duty: not isinstance(duty, ShowHeld))


def show_height(params: Params, run: Run, stage: int, storage: Storage, me: PeerId) -> Height:
    """Return the height at which a holder shows its leaves: early in its time, not at once with all others."""
    blocks = max((proof_end(params, storage) - storage.asked) // SPREAD, 1)
    return Height(
        storage.asked + stream(storage.seed, "node.holding", run.index, stage, me).below(blocks)
    )


def _is_time(state: State, run: Run, stage: int, storage: Storage, me: PeerId) -> bool:
    is_open = state.height + 1 < proof_end(state.params, storage)
    return is_open and state.height >= show_height(state.params, run, stage, storage, me)


def _holder(storage: Storage | None, me: PeerId) -> Holder | None:
    holders = storage.holders if storage is not None else ()
    return next((holder for holder in holders if holder.peer == me), None)


def _bytes_here(run: Run, kept: Collection[int], has: Callable[[Digest], bool]) -> int:
    """Return the bytes of listed checkpoints on this disk whose stages this node does not keep for itself."""
    others = [
        c for stage, listed in enumerate(run.checkpoints) if stage not in kept for c in listed
    ]
    return sum(c.phi_bytes for c in others if has(c.phi_root))
