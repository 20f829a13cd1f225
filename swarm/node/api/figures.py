"""Compute the figures that more than one screen shows, and forget those of peers that are gone.

Core: pure functions of the directory's map and the ledger's state. ``schema`` has the definitions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarm.dht.directory import PeerView
from swarm.ledger.describe_checks import replayed_steps
from swarm.ledger.state.records import Run, RunPhase, SegmentPhase
from swarm.ledger.state.state import State
from swarm.node.api.health import STANDSTILL_S, Verdict

GONE = "unreachable"
"""The directory's state of a peer that is neither connected nor heard of."""
_BUSY = frozenset({"syncing", "verifying", "preparing"})

_RESTING = {
    Verdict.ENDED: "finished",
    Verdict.PAUSED: "paused",
    Verdict.STALLED: "stalled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Figures of one peer that may be shown now."""

    state: str
    reason: str
    condition: str
    gone_s: int | None
    has_figures: bool
    """True if its loss and round may be shown: it is connected, and reported lately."""
    has_rate: bool
    """True if its rate may be shown: its steps and the ledger move, too."""


def standing_of(
    seen: PeerView,
    run: Run | None,
    *,
    is_barred: bool,
    is_me: bool,
    is_moving: bool,
    still_s: float,
) -> Standing:
    """Return the state of a peer that is shown.

    ``still_s`` is how long its steps have stood still, ``is_moving`` whether the ledger moves. A peer that says
    it trains while they do not is shown as stalled.
    """
    silent_s = 0.0 if is_me else seen.age_s
    is_gone = not is_me and seen.state == GONE
    is_silent = silent_s >= STANDSTILL_S
    is_training = run is not None and run.phase is RunPhase.TRAINING
    trains = is_training and seen.announcement is not None and seen.announcement.state == "training"
    is_still = trains and (still_s >= STANDSTILL_S or not is_moving)
    state, reason, condition = _state_in(run, seen.state), seen.reason, "ok"
    if is_gone:
        condition, reason = "gone", f"gone for {silent_s:.0f} s"
    elif is_silent:
        state = "silent" if seen.announcement else state
        condition, reason = "slow", f"silent for {silent_s:.0f} s"
    elif is_still:
        state, condition = "stalled", "slow"
        reason = f"no step for {still_s:.0f} s" if is_moving else "the ledger stands still"
    elif seen.state == "slow":
        condition = "slow"
    elif state in _BUSY:
        condition = "busy"
    has_figures = not (is_gone or is_silent)
    return Standing(
        state=state,
        reason=reason,
        condition="out" if is_barred else condition,
        gone_s=int(silent_s) if is_gone else None,
        has_figures=has_figures,
        has_rate=has_figures and trains and not is_still and not is_barred,
    )


def _state_in(run: Run | None, reported: str) -> str:
    """Return the activity of a peer with a seat: a peer claims ``training`` as long as it has one."""
    if run is None or reported != "training":
        return reported
    return {
        RunPhase.OPEN: "ready",
        RunPhase.PAUSED: "paused",
        RunPhase.COOLING: "final averaging",
        RunPhase.FINISHED: "done",
        RunPhase.SETTLED: "done",
    }.get(run.phase, reported)


def swarm_rate(rates: Iterable[int | None]) -> int | None:
    """Return the sum of the rates that are known; None if none is."""
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None


def mean_loss(losses: Iterable[float | None]) -> float | None:
    """Return the mean of the losses that are known; None if none is."""
    known = [loss for loss in losses if loss is not None]
    return sum(known) / len(known) if known else None


def empty_stages(run: Run, gone: frozenset[bytes]) -> tuple[int, ...]:
    """Return the stages without a seat, or with seats of peers that are ``gone`` only."""
    return tuple(
        stage for stage, roster in enumerate(run.seats) if all(seat.peer in gone for seat in roster)
    )


def closed_round(run: Run) -> int | None:
    """Return the newest round of training that is over; None in the first one."""
    if not run.rounds:
        return None
    closed = min(run.rounds[-1].round, run.end_round) - 1
    return closed if closed >= 0 else None


def replayed_share(state: State, run: Run) -> tuple[int, int]:
    """Return (steps that another peer replayed, all steps) of what passed its check and is on record."""
    passed = {SegmentPhase.VERIFIED, SegmentPhase.WITHIN}
    live = [one for one in state.live_segments() if one.run == run.index and one.phase in passed]
    replayed = sum(replayed_steps(one, run.spec.checks.window_steps) for one in live)
    return replayed, sum(one.num_steps for one in live)


def node_state(verdict: Verdict, run: Run | None, *, is_seated: bool, solves: bool) -> str:
    """Return this node's activity in one to three words; ``training`` only while its tokens rise."""
    if run is None:
        return "syncing"
    if verdict in _RESTING:
        return _RESTING[verdict]
    if not is_seated:
        return "waiting for a seat" if solves else "following"
    if verdict is Verdict.WAITING:
        return "ready" if run.phase is RunPhase.OPEN else "preparing"
    return "final averaging" if run.phase is RunPhase.COOLING else "training"


def names_missing(voters: Sequence[tuple[bytes, str]], heard: frozenset[bytes]) -> tuple[str, ...]:
    """Return the names of the validators that are not ``heard``, in the order of the ledger."""
    return tuple(name for peer, name in voters if peer not in heard)
