"""Money around a judged segment: paid, given back, taken and shared; and who may not come back.

Core: handlers on a draft. Every unit taken goes to somebody or is burned.
"""

from collections.abc import Sequence

from swarm.codec import replace
from swarm.ledger.check_records import Accusation
from swarm.ledger.draft import Draft
from swarm.ledger.records import (
    RunPhase,
    SegmentRecord,
)
from swarm.ledger.seats import evicted
from swarm.types import Amount, PeerId

ACCUSER_PERCENT = 40
"""Of a cheat's stake to whoever found it; the rest is burned, so that reporting oneself always loses."""

JUDGES_PERCENT = 10
"""Of a cheat's stake, shared by the validators that voted guilty."""

FALSE_WITNESS_PERCENT = 10
"""Of the stake of who accused falsely, or agreed with what was proven false."""


def pay(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Pay what the record holds to the solver, once."""
    if record.is_paid:
        return record
    draft.credit(record.peer, record.held)
    work = draft.contribution(record.run, record.peer)
    earned = Amount(work.earned + record.held)
    draft.put_contribution(record.run, record.peer, replace(work, earned=earned))
    return replace(record, held=Amount(0), is_paid=True)


def void(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Give the reward back to the run: from the record, or what is there if it was paid already."""
    if record.is_paid:
        balance = draft.live_account(record.peer).balance
        back = min(balance, record.reward)
        draft.debit(record.peer, back)
        work = draft.contribution(record.run, record.peer)
        earned = Amount(work.earned - back)
        draft.put_contribution(record.run, record.peer, replace(work, earned=earned))
    else:
        back = record.held
    run = draft.run(record.run)
    if run.phase is RunPhase.SETTLED:
        draft.credit(run.owner, back)
    else:
        draft.put_run(replace(run, escrow=Amount(run.escrow + back)))
    return replace(record, held=Amount(0), is_paid=False)


def return_bonds(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Give back what was put up with every accusation; none is left."""
    for accusation in record.accusations:
        draft.credit(accusation.peer, accusation.bond)
    return replace(record, accusations=())


def count(draft: Draft, record: SegmentRecord, peer: PeerId, what: str) -> None:
    """Add one to a peer's ``verified``, ``failed``, ``silent``, ``checked`` or ``missed``."""
    work = draft.contribution(record.run, peer)
    number: int = getattr(work, what)
    draft.put_contribution(record.run, peer, replace(work, **{what: number + 1}))


def punish_solver(
    draft: Draft, record: SegmentRecord, accuser: PeerId, judges: Sequence[PeerId]
) -> None:
    """Take the whole stake of a proven cheat and share it out."""
    taken = draft.take_stake(record.peer, 100)
    to_accuser = taken * ACCUSER_PERCENT // 100
    to_judge = taken * JUDGES_PERCENT // 100 // len(judges) if judges else 0
    draft.credit(accuser, to_accuser)
    for judge in judges:
        draft.credit(judge, to_judge)
    draft.burn(taken - to_accuser - to_judge * len(judges))


def punish_approver(draft: Draft, peer: PeerId) -> None:
    """Burn a part of the stake of a verifier that agreed with what was proven false."""
    draft.burn(draft.take_stake(peer, FALSE_WITNESS_PERCENT))


def punish_accuser(draft: Draft, record: SegmentRecord, false: Accusation) -> None:
    """A false accuser pays the solver: a reporter its bond, a drawn verifier a part of its stake."""
    if false.is_report:
        draft.credit(record.peer, false.bond)
    elif is_exact(draft, record):
        draft.credit(record.peer, draft.take_stake(false.peer, FALSE_WITNESS_PERCENT))


def evict(draft: Draft, record: SegmentRecord) -> None:
    """Take the seat of a cheat away and bar its peer; an owner, who may have to fill it, stays."""
    run = draft.run(record.run)
    if record.peer != run.owner:
        work = draft.contribution(record.run, record.peer)
        draft.put_contribution(record.run, record.peer, replace(work, is_barred=True))
    draft.put_run(evicted(run, record.peer, record.stage, record.seat))


def is_exact(draft: Draft, record: SegmentRecord) -> bool:
    """Whether honest machines agree on every bit of this run, so that a difference may cost a stake."""
    return draft.run(record.run).spec.is_exact
