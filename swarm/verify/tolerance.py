"""Check a window of a run without exact numerics: how far from its solver's end another machine ends.

Core: pure functions.

Two honest machines differ in the last bits of such a run. The log of a window holds the state at its end, too,
whose root is under the solver's commit: it was fixed before anybody was drawn. A replay starts from the
solver's own state and takes all that others signed as it is (teacher forcing), so that differences cannot grow
from window to window.

    distance = the greatest, over the six tensors of the state, of
               |end of the replay - end in the log| / |end in the log - start|

A window is accepted if that is at most the bound of its run, and rejected as a whole otherwise. What are no
floats must be equal. Runs of which no bound separates honest machines from the smallest lie are not checked
(``config/tolerance.py``).

Source: docs/spec/verification.md section 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from swarm.config.tolerance import bound_at
from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn, PeerFault
from swarm.gossip.trade.messages import Codec
from swarm.ledger.transition.sampling import num_windows
from swarm.primitives.commitments import REFUSED, WindowResult, hash_of
from swarm.primitives.edges import SentEntry, SentKind
from swarm.primitives.state_parts import number_component, tokens_component
from swarm.training.data.dataset import TokenSource
from swarm.training.devices.engine import Engine
from swarm.training.model.operators import are_finite
from swarm.training.plan import RoundPlan
from swarm.training.record.segment import ShardState, snapshots_component
from swarm.training.record.window import (
    SnapshotTaken,
    StepTaken,
    Uncounted,
    WindowData,
)
from swarm.types import NO_DIGEST, Digest
from swarm.verify.edges import check_list
from swarm.verify.log_rules import check_incarnation, check_place
from swarm.verify.replay import Committed, Replay
from swarm.verify.transcript import state_root

LEAST_WAY = 1e-4
"""Part of its own length by which a tensor moves in a window, at least: below it rounding is what differs."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Answer to the log of a window in a run without exact numerics."""

    result: WindowResult
    """Statement of the solver about the window, without its leaves, if it is accepted; else ``REFUSED``."""
    distance: float
    """Infinite for a log that no honest seat writes."""
    bound: float
    """Distance up to which the window is accepted."""


def compare(
    committed: Committed,
    plan: RoundPlan,
    data: WindowData,
    tokens: TokenSource,
    anchors: Mapping[Digest, Tensor],
    base_W: Tensor | None = None,
    engine: Engine | None = None,
) -> Comparison:
    """Replay a window, and compare where it ends with the end in its log; arguments as ``replay.answer``.

    Without an ``engine`` this machine's CPU computes. The run must have a bound.
    """
    bound = bound_at(plan.spec, data.start.step)
    try:
        result = stated(committed, plan, data)
        machine = Replay(plan, data, tokens, anchors, base_W, engine=engine, is_forced=True)
        machine.run()
        assert data.end is not None, "what is stated has an end"
        distance = distance_of(data.start, data.end, machine.shard.state())
    except PeerFault:
        return Comparison(REFUSED, inf, bound)
    return Comparison(result if distance <= bound else REFUSED, distance, bound)


def stated(committed: Committed, plan: RoundPlan, data: WindowData) -> WindowResult:
    """Return what a solver says of a window by its log: the states around it, and its tokens.

    It has no leaves: no two machines have the same. Raises ``PeerFault`` for a log that is not of this segment.
    """
    check_place(plan, data, committed.num_steps)
    check_list(committed.sent, num_windows(committed.num_steps, plan.spec.checks.window_steps))
    check_incarnation(data, committed.incarnation)
    check_listed(data, committed.sent)
    if data.end is None:
        raise BadEncoding("a log without the state at its end")
    if [x.numel() for x in data.end.tensors] != [x.numel() for x in data.start.tensors]:
        raise BadEncoding("a state of tensors of other lengths at the end")
    start_root = state_root(parts_of(data.start))
    if data.key.window == 0 and start_root != committed.start_root:
        raise BrokenPromise("a segment that begins with another state than its commit")
    counted = data.end.tokens_total - data.start.tokens_total
    return WindowResult(NO_DIGEST, start_root, state_root(parts_of(data.end)), counted)


def parts_of(state: ShardState) -> tuple[Digest, ...]:
    """Return the hashes of the ten parts of a state, as ``Shard.components`` does."""
    params_P, m_P, v_A, phi_P, momentum_P = state.tensors
    return (
        *map(hash_of, (params_P, m_P, v_A)),
        number_component(state.step),
        *map(hash_of, (phi_P, momentum_P, state.residual_R)),
        state.anchor_root,
        tokens_component(state.tokens_total, state.tokens_at_sync),
        snapshots_component(state.snapshots, state.trades_over),
    )


def check_listed(data: WindowData, entries: Sequence[SentEntry]) -> None:
    """Raise ``OutOfTurn`` unless the list has of a window what its log computes, as far as bits do not matter.

    The activations that a gradient answers are those of the list. Whether the seat computed them, nobody can
    tell who has other bits.
    """
    mine = [entry for entry in entries if entry.window == data.key.window]
    sent = {entry.place[1:]: entry for entry in mine if entry.kind == SentKind.MICROBATCH}
    computed = [
        one
        for event in data.events
        if isinstance(event, StepTaken | Uncounted)
        for one in event.microbatches
    ]
    if {one.microbatch_id for one in computed} != sent.keys():
        raise OutOfTurn("another list of micro-batches than the log computes")
    for one in computed:
        if one.reply is not None and one.reply.activations != sent[one.microbatch_id].up:
            raise OutOfTurn("a gradient for other activations than the list has")
    copied = {event.exchange for event in data.events if isinstance(event, SnapshotTaken)}
    for entry in mine:
        if entry.kind == SentKind.MICROBATCH:
            continue
        _, exchange, codec, last = entry.place
        if exchange not in copied or codec not in set(Codec) or last or entry.down:
            raise OutOfTurn("a fragment in the list that this window does not copy")


def distance_of(start: ShardState, end: ShardState, mine: ShardState) -> float:
    """Return the greatest distance over the tensors of a state; infinite if anything else of it differs."""
    if _numbers(end) != _numbers(mine) or not are_finite(*end.tensors, end.residual_R):
        return inf
    return max(distances(start, end, mine).values())


def distances(start: ShardState, end: ShardState, mine: ShardState) -> dict[str, float]:
    """Return the distance of each tensor of a state, and of the fragments on their way together."""
    names = ("params", "m", "v", "phi", "momentum", "residual")
    states = ((*state.tensors, state.residual_R) for state in (start, end, mine))
    parts = dict(zip(names, zip(*states, strict=True), strict=True))
    found = {name: _ratio(*part) for name, part in parts.items()}
    if end.snapshots:
        theirs, ours = (torch.cat([x for _, _, x in one.snapshots]) for one in (end, mine))
        off, length = _norm(ours, theirs), _norm(theirs)
        # A copy has no way of its own: that of the weights it was copied from is the measure.
        found["copied"] = _over(off, max(_norm(end.params_P, start.params_P), LEAST_WAY * length))
    return found


def _ratio(start: Tensor, end: Tensor, mine: Tensor) -> float:
    return _over(_norm(mine, end), max(_norm(end, start), LEAST_WAY * _norm(end)))


def _over(off: float, way: float) -> float:
    return off / way if way else (inf if off else 0.0)


def _norm(a: Tensor, b: Tensor | None = None) -> float:
    return float(torch.linalg.vector_norm(a if b is None else a - b, dtype=torch.float64))


def _numbers(state: ShardState) -> tuple[object, ...]:
    """Return everything of a state that is no float."""
    return (
        state.step,
        state.anchor_root,
        state.tokens_total,
        state.tokens_at_sync,
        state.trades_over,
        [(exchange, tokens, x.shape) for exchange, tokens, x in state.snapshots],
        state.residual_R.shape,
    )
