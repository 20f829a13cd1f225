"""Answer questions about a run from the ledger: whole models, checks, convictions, lasting anchors.

Core: pure functions of final states; rows of plain values out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from swarm.ledger.describe_checks import guilty_row, phase_counts, segment_row, verdicts_row
from swarm.ledger.state.records import (
    CheckPhase,
    Checkpoint,
    Conviction,
    Run,
    RunPhase,
    Seat,
    SegmentRecord,
)
from swarm.ledger.state.state import State
from swarm.ledger.transactions import TAKES_MOST
from swarm.ledger.transition.market import price_of, taking_ask, threat
from swarm.ledger.transition.prices import solver_stake
from swarm.ledger.transition.runs import boundary_height, standing_of
from swarm.ledger.transition.seats import TRIAL_SEGMENTS, seats_of, will_be_seated
from swarm.primitives.crypto import peer_name
from swarm.types import Digest, PeerId, RunIndex

LATE_MAX = 1
"""Checkpoints by which a seat may be late: so many before the canonical one are listed as long as it can be
asked for (``runs.checkpoints_kept``)."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Weights of all stages at one round."""

    round: int
    """Round number; 0 is the initialisation."""
    roots: tuple[Digest, ...]


def common_rounds(run: Run) -> list[int]:
    """Return the rounds of which every stage still has a checkpoint, newest first."""
    rounds = [
        {int(kept.round) for kept in run.standing(stage)} for stage in range(len(run.checkpoints))
    ]
    return sorted(set.intersection(*rounds), reverse=True)


def boundaries(run: Run) -> list[Boundary]:
    """Return the weights of all stages at these rounds, newest first."""
    found = list[Boundary]()
    for round_ in common_rounds(run):
        kept = (next(c for c in stage if c.round == round_) for stage in run.checkpoints)
        found.append(Boundary(round_, tuple(checkpoint.phi_root for checkpoint in kept)))
    return found


RECENT_MAX = 64
"""Segments listed: six seats, from the commit of a round to its verdict four rounds later, and more."""


@dataclass(frozen=True, slots=True)
class ConvictionView:
    """Conviction, with the details that only the blocks around it tell."""

    found: Conviction
    accuser: PeerId | None
    """Peer whose replay differed first; None if that was before this node watched."""
    stake_taken: int | None
    """Stake that was taken; None if the verdict was before this node watched."""


def new_convictions(before: State | None, after: State, run: RunIndex) -> list[ConvictionView]:
    """Return the convictions since ``before``; all that the ledger still lists if that is None."""
    known = () if before is None else before.verdicts(run).convictions
    fresh = [found for found in after.verdicts(run).convictions if found not in known]
    convictions = list[ConvictionView]()
    charged = set[PeerId]()
    for found in fresh:
        taken = None
        if before is not None:
            taken = 0 if found.peer in charged else _stake(before, found) - _stake(after, found)
        charged.add(found.peer)
        convictions.append(ConvictionView(found, _accuser(before, after, run, found), taken))
    return convictions


def conviction_row(conviction: ConvictionView) -> dict[str, object]:
    """Return one conviction, as JSON."""
    found, accuser, taken = conviction.found, conviction.accuser, conviction.stake_taken
    where = f"segment {found.round}/{found.stage}/{found.seat}"
    text = f"{where} of {peer_name(found.peer)} was proven false"
    text += f" by {peer_name(accuser)}" if accuser is not None else ""
    text += f"; its stake of {taken:,} was taken" if taken else ""
    return {
        **guilty_row(found),
        "accuser": None if accuser is None else peer_name(accuser),
        "stake_taken": taken,
        "text": text,
    }


def run_checks(state: State, run: Run) -> dict[str, int]:
    """Return the number of a run's segments by phase: judged ones since it began, the others as of now."""
    counts = {**phase_counts(state, run.index), **verdicts_row(state.verdicts(run.index))}
    return {phase: count for phase, count in counts.items() if count}


def recent_rows(state: State, run: Run) -> list[dict[str, object]]:
    """Return rows of the segments whose checks can still change, newest first."""
    records = [record for record in state.live_segments() if record.run == run.index]
    window_steps = run.spec.checks.window_steps
    return [segment_row(record, window_steps) for record in _newest(records)]


def _newest(records: Sequence[SegmentRecord]) -> list[SegmentRecord]:
    ordered = sorted(records, key=lambda r: (-r.height, r.stage, r.seat))
    return ordered[:RECENT_MAX]


def _stake(state: State, found: Conviction) -> int:
    account = state.account(found.peer)
    return account.stake + sum(part.amount for part in account.unbonding)


def _accuser(before: State | None, after: State, run: RunIndex, found: Conviction) -> PeerId | None:
    """Return the rewarded peer: who proved a lie, or the first blind answer that differed, or a reporter."""
    segment_id = (run, found.round, found.stage, found.seat)
    now = after.segment(*segment_id)
    if now is not None and now.proved_by:
        return PeerId(now.proved_by)
    if now is None or not now.judged:
        return None
    window = now.judged[-1]
    blind = [
        (check.commit_height, check.peer)
        for check in now.checks
        if check.window == window and check.phase is CheckPhase.DIFFERED
    ]
    if blind:
        return min(blind)[1]
    old = None if before is None else before.segment(*segment_id)
    reports = () if old is None else old.accusations
    return next((one.peer for one in reports if one.window == window), None)


def lasting(checkpoints: Sequence[Checkpoint], height: int) -> list[Checkpoint]:
    """Return the anchors for a segment that opens at the boundary at ``height``, the canonical one first.

    ``checkpoints`` are those of its stage as the ledger lists them, newest first. A checkpoint that became
    final after the boundary is listed longer still, and comes last: not every seat had it when the segment
    opened.
    """
    settled = [kept for kept in checkpoints if kept.height <= height]
    later = [kept for kept in checkpoints if kept.height > height]
    return [*settled[: 1 + LATE_MAX], *later]


def is_lasting(
    checkpoints: Sequence[Checkpoint], height: int, anchor_root: Digest, initial_root: Digest
) -> bool:
    """Return True if ``anchor_root`` is available until all replays of a segment opened at ``height`` are done.

    The initial weights are: every node can compute them.
    """
    roots = {kept.phi_root for kept in lasting(checkpoints, height)}
    return anchor_root == initial_root or anchor_root in roots


def seat_outlook(state: State, run: Run, peer: PeerId, ask: int = TAKES_MOST) -> str:
    """Return the prospects of a peer: its seats, or its position in the queue and the next boundary.

    ``ask`` is the least pay that it wants: one above what the run pays at most is not on the ledger.
    """
    seats = seats_of(run, peer)
    if seats:
        return _seated_outlook(state, run, seats)
    for position, waiter in enumerate(run.waiting, start=1):
        if waiter.peer == peer:
            return _queue_outlook(state, run, peer, position)
    if ask > run.spec.price_max:
        most = f"{run.spec.price_max:,}, the most that this run pays"
        return f"your ask {ask:,} is above {most}: you wait; swarm ask PRICE changes it"
    rest_until = state.contribution(run.index, peer).rest_until
    if rest_until > state.height:
        blocks = rest_until - state.height
        return f"silent too often: it may ask for a seat again in {blocks} blocks"
    return "not in this run"


def _seated_outlook(state: State, run: Run, seats: Sequence[Seat]) -> str:
    """Return where a peer sits, and its trial or what threatens its seats, if there is any."""
    peer = seats[0].peer
    where = "seated at " + ", ".join(f"{seat.stage}/{seat.index}" for seat in seats)
    trial = trial_text(state, run, peer)
    if trial:
        return f"{where}, {trial}"
    lower = threat(run, peer, partial(standing_of, state, run))
    if lower is None:
        return where
    lost = f"your ask {seats[0].ask:,} is the highest, and a peer waits that asks {lower:,}"
    return f"{where}; {lost}: swarm ask {lower} keeps the seat"


def is_seated_safely(state: State, run: Run, peer: PeerId) -> bool:
    """Return True if a seated peer is on trial in no seat, and no cheaper peer waits for one of its seats."""
    is_threatened = threat(run, peer, partial(standing_of, state, run)) is not None
    return not is_threatened and not trial_text(state, run, peer)


def trial_text(state: State, run: Run, peer: PeerId) -> str:
    """Return how far the trial of a volunteer is; empty if no seat of it is on trial."""
    if not any(seat.is_on_trial for seat in seats_of(run, peer)):
        return ""
    good = standing_of(state, run, peer).num_good
    judged = "verified" if run.spec.is_exact else "committed"
    return (
        f"on trial as a volunteer: {good} of {TRIAL_SEGMENTS} segments {judged};"
        " until then it is paid, but partners take nothing from it"
    )


def _queue_outlook(state: State, run: Run, peer: PeerId, position: int) -> str:
    """Return what a peer in the queue can expect, and what it lacks."""
    if run.phase not in {RunPhase.OPEN, RunPhase.TRAINING}:
        return f"the run is {run.phase}"
    place, blocks = (
        f"number {position} in the queue",
        boundary_height(run, run.next_round) - state.height,
    )
    if will_be_seated(run, peer, partial(standing_of, state, run)):
        return f"{place}, a seat in {blocks} blocks"
    wanted = solver_stake(state.params, run.spec)
    if state.account(peer).stake < wanted:
        lacks = f"for peers without a stake of {wanted:,}"
        return f"{place}, every seat {lacks} is taken; next chance in {blocks} blocks"
    ask, price, takes = run.waiting[position - 1].ask, price_of(run), taking_ask(run)
    why = f"your ask {ask:,} is above the clearing price {price:,}: you wait; " * (ask > price)
    helps = takes is not None and takes < ask
    what = f"; an ask of {takes:,} or less takes one in time: swarm ask {takes}" if helps else ""
    return f"{why}{place}, every seat is taken{what}; next chance in {blocks} blocks"
