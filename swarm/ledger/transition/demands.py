"""Demand an entry of a list of what was sent, show it, and close segments of silent solvers.

Core: handlers on a draft. Raises ``InvalidStatement``.

    any but GUILTY, SILENT --demand--> shown, and it has what was signed: the demand is over
       |                       |-----> shown, and it has something else: GUILTY
       |                       '-----> nobody shows it in time: SILENT
       '--REVEALED, DISPUTED, DOUBTED: the time of a demand begins again until all is compared

Whoever has the list may show it, and does so for nothing: the bond of the demand pays for the bytes. So a
solver that serves its list once need not be there to answer. One whose list nobody has is silent, as if it had
not shown its windows.

Who gains? A demand of what the list has costs its sender the bond, and brings the solver no more than what is
left of that. A solver that answers with its own conviction loses all; that is silent, more than the lie has
earned. While windows are compared, silence ends nothing: a friend's demand would else save a liar from the
verdict. A peer has few demands of a segment, and needs a seat in its round or the stake of a solver for them,
so that a friend cannot have them all.

Source: rules L105 to L107.
"""

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.demands import (
    DemandEntry,
    ShowEntry,
    check_demand,
    fits,
    index_shown,
    new_demand,
)
from swarm.ledger.state.accusations import Demand
from swarm.ledger.state.draft import JUDGED, Draft
from swarm.ledger.state.records import SegmentPhase, SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.ledger.transition.disputes import close
from swarm.ledger.transition.frauds import convict_at_once
from swarm.ledger.transition.payments import (
    STRIKES_MAX,
    count,
    evict,
    fine_silence,
    rest,
    strikes,
    void,
)
from swarm.ledger.transition.phases import (
    demand_end,
    find_segment,
    is_reportable_at,
    open_demands,
)
from swarm.ledger.transition.prices import demand_bond, required_fee, solver_stake
from swarm.ledger.transition.rollbacks import set_adrift
from swarm.primitives.codec import encode, replace
from swarm.types import Amount, Height, PeerId, RoundIndex, RunIndex, StageIndex

DEMANDABLE = tuple(
    phase for phase in SegmentPhase if phase not in {SegmentPhase.GUILTY, SegmentPhase.SILENT}
)
"""Phases of a segment in which its list may be demanded."""

COMPARED = frozenset({SegmentPhase.REVEALED, SegmentPhase.DISPUTED, SegmentPhase.DOUBTED})
"""Phases in which a verdict may come that costs more than silence."""

DEMANDS_EACH_MAX = 2
"""Demands of one peer about one segment: filling the places of all others takes as many stakes."""

DEMANDS_OPEN_MAX = 16
"""Demands of one segment that wait at a time: any of them is enough to close that of a silent solver."""

DEMANDS_MAX = 256
"""Demands of one segment in all, about a hundred bytes of its record each."""


def may_demand(reader: Reader, record: SegmentRecord, peer: PeerId) -> bool:
    """Return True if a peer has a seat in the round of a segment, or the stake of a solver.

    So has whoever gets messages, and whoever checks.
    """
    if peer == record.peer:
        return False
    wanted = solver_stake(reader.globals.params, reader.run(record.run).spec)
    if reader.account(peer).stake >= wanted:
        return True
    info = reader.round_info(record.run, record.round)
    return info is not None and any(seat.peer == peer for row in info.seats for seat in row)


def demand_entry(draft: Draft, sender: PeerId, body: DemandEntry) -> None:
    """Accept a demand to show the list of a segment where its solver has signed something, with its bond."""
    record = find_segment(draft, body, *DEMANDABLE)
    run, height = draft.run(record.run), draft.height
    if not is_reportable_at(record, run.spec, height):
        raise InvalidStatement(Reason.EXPIRED, "its challenge window has passed")
    if not may_demand(draft, record, sender):
        raise InvalidStatement(Reason.WRONG_PEER, "neither a seat in its round nor a stake")
    _check_room(record, sender)
    check_demand(
        body,
        peer=record.peer,
        incarnation=record.incarnation,
        sent_root=record.sent_root,
        chain=draft.globals.chain,
        run_digest=run.spec_digest,
    )
    bond, end = demand_bond(draft.globals.params), demand_end(run.spec, height)
    new = new_demand(body, sender, bond, end)
    if any(_what(old) == _what(new) for old in record.demands):
        raise InvalidStatement(Reason.DUPLICATE, "it was demanded before")
    draft.debit(sender, bond)
    _wait(draft, replace(record, demands=(*record.demands, new)), end)


def _check_room(record: SegmentRecord, sender: PeerId) -> None:
    waiting, mine = open_demands(record), [d for d in record.demands if d.peer == sender]
    if len(mine) >= DEMANDS_EACH_MAX or any(demand.is_open for demand in mine):
        raise InvalidStatement(Reason.FULL, "one at a time, and two in all, of a peer")
    if len(waiting) >= DEMANDS_OPEN_MAX or len(record.demands) >= DEMANDS_MAX:
        raise InvalidStatement(Reason.FULL, f"{len(record.demands)} demands of this segment")


def _what(demand: Demand) -> tuple[object, ...]:
    """Return what is demanded: of one place there may be two, or a friend would be first with a true one."""
    return demand.place, demand.is_down, demand.said


def _wait(draft: Draft, record: SegmentRecord, end: Height) -> None:
    """Keep a record, and what its solver has at stake, until a demand ends."""
    if record.phase in JUDGED:
        record = replace(record, due=max(record.due, Height(end + 1)))
    draft.put_segment(record)
    draft.note_demand(record, end)
    draft.hold_unbonding(record.peer, Height(end + 1))


def show_entry(draft: Draft, body: ShowEntry) -> PeerId:
    """Accept what a list has at a place that was demanded; return the solver, whose list it is.

    The bond pays for the bytes; what is left of it is the solver's.
    """
    record = find_segment(draft, body, *DEMANDABLE)
    if body.demand >= len(record.demands):
        raise InvalidStatement(Reason.UNKNOWN_SEGMENT, f"no demand {body.demand} of it")
    demand = record.demands[body.demand]
    if not demand.is_open:
        raise InvalidStatement(Reason.DUPLICATE, "this demand is over")
    index = index_shown(record.sent_root, demand, body.opening)
    if index is None or not fits(demand, index, record.demands):
        convict_at_once(draft, demand.peer, record)
        return record.peer
    fee = min(required_fee(draft.globals.params, len(encode(body))), demand.bond)
    draft.credit(draft.leader, fee)
    draft.credit(record.peer, demand.bond - fee)
    demands = list(record.demands)
    demands[body.demand] = replace(demand, bond=Amount(0), index=index)
    draft.put_segment(replace(record, demands=tuple(demands)))
    return record.peer


def end_demands(draft: Draft, segment_id: tuple[RunIndex, RoundIndex, StageIndex, int]) -> None:
    """Close a segment as silent if its list was demanded and not shown in time.

    While its windows are compared or judged the time begins again.
    """
    record, height = draft.segment(*segment_id), draft.height
    late = [] if record is None else [d for d in open_demands(record) if d.end <= height]
    if record is None or not late:
        return
    if record.phase not in COMPARED:
        silence(draft, record, late[0].peer)
        return
    end = demand_end(draft.run(record.run).spec, height)
    later = tuple(replace(d, end=end) if d in late else d for d in record.demands)
    _wait(draft, replace(record, demands=later), end)


def silence(draft: Draft, record: SegmentRecord, demander: PeerId | None = None) -> None:
    """Close a segment as silent: void its pay, fine it, and evict its peer after some strikes.

    ``demander`` has demanded an entry of its list that nobody showed.
    """
    balance = draft.live_account(record.peer).balance
    kept = max(record.reward - balance, 0) if record.is_paid else 0
    record = fine_silence(draft, void(draft, record), kept=kept, demander=demander)
    count(draft, record, record.peer, "silent")
    if strikes(draft.contribution(record.run, record.peer)) >= STRIKES_MAX:
        evict(draft, record)
        rest(draft, record)
    set_adrift(draft, record)
    close(draft, replace(record, proved_by=demander or b""), SegmentPhase.SILENT)
