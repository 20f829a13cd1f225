"""Find the shard a seat starts from: its own, a replica's state, or a checkpoint.

Shell: reads what was saved, fetches what was not.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from torch import Tensor

from swarm.errors import Corrupt, Unreachable
from swarm.events import EventKind
from swarm.ledger.state.records import Run, RunPhase, Seat
from swarm.ledger.transition.rollbacks import is_adrift, is_set_back
from swarm.ledger.transition.seats import lag_of
from swarm.ledger.transition.starts import is_committed_end, may_not_begin_anew
from swarm.node.artifacts.checkpoints import newest
from swarm.node.ports import (
    HasBlobs,
    HasCompute,
    HasConfig,
    HasGenesis,
    HasHome,
    HasHost,
    HasLedger,
    HasMe,
    HasReport,
    HasRun,
    HasWeights,
)
from swarm.node.seat.adoption import adopt_from_replica, former_state, saved_shard
from swarm.node.seat.commits import state_root_of
from swarm.node.seat.compute import HasDevices, open_engine
from swarm.training.averaging.adoption import AdoptedState
from swarm.training.devices.engine import Engine
from swarm.training.record.restore import adopted_shard, resume_shard
from swarm.training.record.segment import Source
from swarm.training.shard import Shard
from swarm.training.terms import Catching, catching_up
from swarm.types import RoundIndex

LOST_ROUNDS = 3
"""Rounds to wait for those that hold the state of a trained stage, before it begins again from nothing."""


class StartingNode(
    HasMe,
    HasHome,
    HasConfig,
    HasRun,
    HasGenesis,
    HasHost,
    HasLedger,
    HasBlobs,
    HasWeights,
    HasCompute,
    HasDevices,
    HasReport,
    Protocol,
):
    """Parts of a node that find the shard of a seat."""


async def find_shard(context: StartingNode, run: Run, seat: Seat) -> tuple[Shard, str]:
    """Return our own saved shard if it is fresh and committed; else a replica's state; else the checkpoint's.

    A shard that is too far behind, was rolled back after fraud, or goes back to a segment that was not
    shown, is not fresh. A replica's state is taken with its second moments, a canonical checkpoint with none:
    docs/spec/protocol.md section 5. Where no replica is left, what this node had when it yielded the stage is
    newer than the checkpoint, maybe.

    The text names the source. Raises ``Unreachable`` if no shard can be had, and for some rounds rather than
    begin a stage again that has been trained.
    """
    base_W = await context.artifacts.base(run, seat.stage)
    newest_round = run.rounds[-1].round if run.rounds else RoundIndex(0)
    is_fresh = catching_up(lag_of(seat, newest_round)) is Catching.TRADE
    is_behind = is_set_back(run, seat, seat.stage, newest_round)
    goes_on = is_fresh and not is_behind and not is_adrift(seat, newest_round)
    if seat.last_commit_round >= 0 and goes_on:
        try:
            shard = await _saved(context, run, seat, base_W)
        except (Corrupt, Unreachable) as error:
            context.report(EventKind.WARNING, f"the saved shard cannot be used: {error}")
        else:
            if shard is not None:
                return shard, f"its own state of round {seat.last_commit_round}"
    if run.phase is RunPhase.COOLING:
        raise Unreachable("the replicas agree on their end, and this one has none to bring")
    phi_P, root, boundary = await newest(context, run, seat.stage)
    adoption = None if is_behind else await adopt_from_replica(context, run, seat.stage)
    if adoption is None and not is_behind:
        adoption = await _former(context, run, seat, boundary)
    if adoption is None and not boundary and not is_behind:
        check_lost(context, run, seat, newest_round)
    if adoption is None and not boundary and may_not_begin_anew(run, seat.stage, newest_round):
        raise Unreachable(f"nobody serves the checkpoint of stage {seat.stage} now")
    if adoption is not None:
        adopted, came_from = adoption
        build = partial(
            adopted_shard, run.spec, seat.stage, adopted, (phi_P, root), time.thread_time
        )
        return await _on_engine(context, run, seat, base_W, build), came_from
    begun = partial(Shard, run.spec, seat.stage, phi_P, time.thread_time)
    shard = await _on_engine(context, run, seat, base_W, begun)
    shard.source = Source(root if boundary else b"")
    return shard, f"the checkpoint of round {boundary}" if boundary else "the initial weights"


async def _former(
    context: StartingNode, run: Run, seat: Seat, boundary: int
) -> tuple[AdoptedState, str] | None:
    """Return what this node had in a former seat of the stage, if that is newer than the checkpoint."""
    is_known = partial(is_committed_end, context.ledger.state, run, seat.stage)
    found = await former_state(context, run, seat.stage, seat.index, is_known)
    if found is None or found[1] < boundary:
        return None
    return found[0], f"what it had in round {found[1]}, before it yielded the stage"


def check_lost(context: StartingNode, run: Run, seat: Seat, round_: int) -> None:
    """Say aloud that a trained stage begins again from the initial weights; raise for the first rounds.

    Those that hold its state may come back meanwhile.
    """
    rosters = [info.seats[seat.stage] for info in run.rounds]
    if not any(one.last_commit_round >= 0 for roster in rosters for one in roster):
        return  # it was never trained
    left = seat.joined_round + LOST_ROUNDS - round_
    if left > 0:
        raise Unreachable(
            f"nobody that is here has the state of stage {seat.stage}: in {left} rounds it begins again from"
            " its initial weights"
        )
    context.report(
        EventKind.WARNING,
        f"stage {seat.stage} begins again from its initial weights: what it had learned went with the peers"
        " that held it, before a checkpoint",
        stage=seat.stage,
    )


async def _saved(
    context: StartingNode, run: Run, seat: Seat, base_W: Tensor | None
) -> Shard | None:
    """Return the shard on this disk, if it is the one the ledger has the root of; else None."""
    saved = await saved_shard(context, run, seat.stage, seat.index)
    if saved is None:
        return None
    anchor_P = await context.artifacts.anchor(run, seat.stage, saved.anchor_root)
    resumed = partial(resume_shard, run.spec, saved, anchor_P, time.thread_time)
    shard = await _on_engine(context, run, seat, base_W, resumed)
    root = state_root_of(await context.compute.run(shard.components))
    if root == seat.last_end_root:
        return shard
    shard.engine.close()
    return None


async def _on_engine(
    context: StartingNode,
    run: Run,
    seat: Seat,
    base_W: Tensor | None,
    build: Callable[[Engine], Shard],
) -> Shard:
    """Build a shard on the devices of this node; raises ``DeviceLost`` if none answers."""
    engine = await context.compute.run(open_engine, context, run.spec, seat.stage, base_W)
    try:
        return await context.compute.run(build, engine)
    except BaseException:
        engine.close()  # also when cancelled, so that its processes end
        raise
