"""Derive from the ledger which lists this node demands, and which entries it shows.

Core: functions of the final state and of what is on the disk.

Who lies to its neighbours and serves its list to nobody is asked for it on the ledger. Which of its messages is
demanded is drawn by a beacon that comes after its commit, so it cannot know where it is looked at: first the
kind of message, since there are few fragments among many gradients, then the message. Whoever has the list of a
segment answers: its solver at once, others when half of the time is over.
"""

from collections.abc import Callable, Sequence

from swarm.ledger.demands import DemandEntry, demand_order, said_in
from swarm.ledger.edges import EdgeMessage, place_of
from swarm.ledger.state.records import SegmentRecord
from swarm.ledger.state.state import State
from swarm.ledger.transition.demands import (
    DEMANDABLE,
    DEMANDS_EACH_MAX,
    DEMANDS_MAX,
    DEMANDS_OPEN_MAX,
    may_demand,
)
from swarm.ledger.transition.phases import demand_end, is_reportable_at, open_demands
from swarm.ledger.transition.prices import demand_bond, sufficient_fee
from swarm.primitives.edges import GradientSent
from swarm.types import PeerId

WAITING_MAX = 2
"""Demands of this node that wait at a time: what it has at risk for the lists of others."""


def demanded_segments(state: State) -> list[SegmentRecord]:
    """Return the segments whose lists are demanded now, the most urgent first."""
    longest = max((demand_end(run.spec, 0) for run in state.runs()), default=0)
    found = dict[tuple[int, int, int, int], SegmentRecord]()
    for height in range(state.height + 1, state.height + longest + 1):
        for segment_id in state.due_queue(height).demands:
            record = state.segment(*segment_id)
            if record is not None and open_demands(record):
                found.setdefault(segment_id, record)
    return list(found.values())


def answers_due(
    state: State, me: PeerId, has: Callable[[SegmentRecord], bool]
) -> list[tuple[SegmentRecord, int]]:
    """Return the demands that this node answers now: the segment, and the number of the demand.

    ``has`` returns True if the list of a segment is here.
    """
    found = list[tuple[SegmentRecord, int]]()
    for record in demanded_segments(state):
        half = demand_end(state.run(record.run).spec, 0) // 2
        for number, demand in enumerate(record.demands):
            is_mine = record.peer == me or demand.end - state.height <= half
            if demand.is_open and demand.end > state.height + 1 and is_mine and has(record):
                found.append((record, number))
    return found


def demand_due(
    state: State, record: SegmentRecord, me: PeerId, messages: Sequence[EdgeMessage]
) -> DemandEntry | None:
    """Return the demand that is due about a segment whose list nobody serves; None if none is.

    ``messages`` are those of its solver that this node holds.
    """
    if not _may(state, record, me):
        return None
    known = {(demand.place, demand.is_down, demand.said) for demand in record.demands}
    left = [
        message
        for message in messages
        if message.incarnation == record.incarnation
        and (place_of(message), isinstance(message, GradientSent), said_in(message)) not in known
    ]
    if not left:
        return None
    beacon = record.draws[0].beacon
    kinds = {type(message).__name__.encode() for message in left}
    kind = min(kinds, key=lambda name: demand_order(beacon, me, name))
    mine = [message for message in left if type(message).__name__.encode() == kind]
    drawn = min(mine, key=lambda message: demand_order(beacon, me, message.signature))
    body = DemandEntry(record.run, record.round, record.stage, record.seat, drawn)
    cost = demand_bond(state.params) + sufficient_fee(state.params, body)
    return body if state.account(me).balance >= cost else None


def _may(state: State, record: SegmentRecord, me: PeerId) -> bool:
    """Return True if a round has passed since the commit, and the next block would take our demand."""
    spec, mine = state.run(record.run).spec, [d for d in record.demands if d.peer == me]
    if record.phase not in DEMANDABLE or not record.draws or not may_demand(state, record, me):
        return False
    is_early = state.height < record.height + spec.round_blocks
    if is_early or not is_reportable_at(record, spec, state.height + 1):
        return False
    if len(mine) >= DEMANDS_EACH_MAX or any(demand.is_open for demand in mine):
        return False
    if len(open_demands(record)) >= DEMANDS_OPEN_MAX or len(record.demands) >= DEMANDS_MAX:
        return False
    waiting = [d for other in demanded_segments(state) for d in open_demands(other) if d.peer == me]
    return len(waiting) < WAITING_MAX
