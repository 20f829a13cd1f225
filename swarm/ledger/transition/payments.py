"""Move the money around a judged segment: pay solvers and verifiers, void, forfeit bonds, take stakes.

Core: handlers on a draft.

A commit takes the reward of its solver and the pay of its verifiers out of the escrow and holds both in its
record, so that a verdict is never owed what is not there. Every unit taken is credited to an account or burned.
What a peer earns while it has less than the stake of a solver is added to its stake.
"""

from collections.abc import Sequence

from swarm.config.spec import RunSpec
from swarm.ledger.state.accusations import Accusation
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.draws import Contest
from swarm.ledger.state.records import Check, CheckPhase, Contribution, RunPhase, SegmentRecord
from swarm.ledger.transition.phases import open_contest
from swarm.ledger.transition.prices import (
    request_bond,
    silence_fine,
    solver_stake,
    witness_pay,
)
from swarm.ledger.transition.seats import evicted, with_void
from swarm.primitives.codec import replace
from swarm.types import Amount, Height, PeerId

ACCUSER_PERCENT = 40
"""Percent of a convicted solver's stake for its accuser; the rest is burned: self-reporting loses."""

FALSE_WITNESS_PERCENT = 10
"""Percent of the stake of a verifier that accused falsely, or agreed with a window proven false."""

STRIKES_MAX = 3
"""Silent segments for which a peer is evicted."""

VERIFIED_PER_STRIKE = 4
"""Verified segments that make up for one silent one."""


def pay(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Pay what the record holds to the solver, once: into its stake up to S, and into its balance above."""
    if record.is_paid:
        return record
    work = draft.contribution(record.run, record.peer)
    if record.height <= work.fault_height or work.absent:
        return void(draft, record)
    credit_work(draft, draft.run(record.run).spec, record.peer, record.held)
    earned = Amount(work.earned + record.held)
    draft.put_contribution(record.run, record.peer, replace(work, earned=earned))
    return replace(record, held=Amount(0), is_paid=True)


def credit_work(draft: Draft, spec: RunSpec, peer: PeerId, amount: int) -> None:
    """Give a peer what it has earned in a run: into its stake up to S, and into its balance above."""
    account = draft.live_account(peer)
    wanted = solver_stake(draft.globals.params, spec)
    locked = min(amount, max(wanted - account.stake, 0))
    if locked or account.locked:
        stake = Amount(account.stake + locked)
        bound = 0 if stake >= wanted else account.locked + locked
        draft.put_account(peer, replace(account, stake=stake, locked=Amount(bound)))
    draft.credit(peer, amount - locked)


def void(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Return the reward to the run: from the record or, if it was paid, from what the solver's balance has."""
    if record.is_paid:
        balance = draft.live_account(record.peer).balance
        back = min(balance, record.reward)
        draft.debit(record.peer, back)
        work = draft.contribution(record.run, record.peer)
        earned = Amount(work.earned - back)
        draft.put_contribution(record.run, record.peer, replace(work, earned=earned))
    else:
        back = record.held
    _return_to_run(draft, record, back)
    return replace(record, held=Amount(0), is_paid=False)


def release(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Return to the run what is left of the pay of verifiers."""
    _return_to_run(draft, record, record.reserved)
    return replace(record, reserved=Amount(0))


def with_check(record: SegmentRecord, changed: Check) -> SegmentRecord:
    """Return the record with the check of a peer, in the place of its earlier one or behind the others.

    The place of a check never changes: answers name it.
    """
    checks = tuple(changed if check.peer == changed.peer else check for check in record.checks)
    is_new = all(check.peer != changed.peer for check in record.checks)
    return replace(record, checks=(*checks, changed) if is_new else checks)


def pay_check(draft: Draft, record: SegmentRecord, check: Check) -> SegmentRecord:
    """Pay a drawn verifier for a window, and return its bond."""
    earned = min(record.check_pay, record.reserved)
    draft.credit(check.peer, earned + check.bond)
    record = replace(record, reserved=Amount(record.reserved - earned))
    return with_check(record, replace(check, bond=Amount(0)))


def forfeit(draft: Draft, record: SegmentRecord, check: Check) -> SegmentRecord:
    """Give the bond of a report that accused nothing to the solver."""
    draft.credit(record.peer, check.bond)
    return with_check(record, replace(check, bond=Amount(0)))


def lose_bond(draft: Draft, record: SegmentRecord, check: Check) -> SegmentRecord:
    """Burn the bond of a check that was asked for and not finished.

    The solver does not get it: one that serves its friends only would live on the bonds of all others.
    """
    draft.burn(check.bond)
    return with_check(record, replace(check, bond=Amount(0)))


def fine_silence(
    draft: Draft, record: SegmentRecord, *, kept: int = 0, demander: PeerId | None = None
) -> SegmentRecord:
    """Return the bonds of those that asked a silent solver, and fine it, in exact runs, more than it hoped for.

    Those that had answered blind have worked, and get as much as their bond out of the fine. So does a verifier
    whose complaint was sustained, with as much as it risked, and its witnesses after it. Who demanded an entry
    that nobody showed gets the part of an accuser. The rest is burned: nobody gains by asking and not
    answering. Without a request or a demand there is no fine. ``kept`` is pay that could not be taken back.
    """
    params, spec = draft.globals.params, draft.run(record.run).spec
    owed = request_bond(params, record)
    asked, case = [check for check in record.checks if check.bond], open_contest(record)
    is_fined = spec.is_exact and (asked or case is not None or demander is not None)
    fine = silence_fine(params, spec, record) + kept if is_fined else 0
    left = _collect(draft, record.peer, fine)
    part = left * ACCUSER_PERCENT // 100
    for check in asked:
        paid = min(owed, left) if check.phase is CheckPhase.SEALED else 0
        left -= paid
        draft.credit(check.peer, check.bond + paid)
        record = with_check(record, replace(check, bond=Amount(0)))
    if case is not None:
        paid = min(case.bond, left)
        draft.credit(record.checks[case.check].peer, case.bond + paid)
        left = pay_witnesses(draft, left - paid, case.refused)
        record = with_contest(record, replace(case, is_open=False, bond=Amount(0)))
    if demander is not None:
        draft.credit(demander, min(part, left))
        left -= min(part, left)
    draft.burn(left)
    return record


def pay_witnesses(draft: Draft, amount: int, witnesses: Sequence[PeerId]) -> int:
    """Pay each witness twice its fee out of an amount, as far as it goes; return what is left."""
    for witness in witnesses:
        paid = min(witness_pay(draft.globals.params), amount)
        draft.credit(witness, paid)
        amount -= paid
    return amount


def with_contest(record: SegmentRecord, changed: Contest) -> SegmentRecord:
    """Return the record with its last complaint changed."""
    return replace(record, contests=(*record.contests[:-1], changed))


def return_bonds(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Return the bonds of all accusations, and remove the accusations from the record."""
    for accusation in record.accusations:
        draft.credit(accusation.peer, accusation.bond)
    return replace(record, accusations=())


def return_demands(draft: Draft, record: SegmentRecord) -> SegmentRecord:
    """Return the bonds of all demands that are open: nothing is waited for any more."""
    for demand in record.demands:
        draft.credit(demand.peer, demand.bond)
    return replace(record, demands=tuple(replace(d, bond=Amount(0)) for d in record.demands))


def count(draft: Draft, record: SegmentRecord, peer: PeerId, what: str) -> None:
    """Add one to a peer's ``verified``, ``failed``, ``silent``, ``checked``, ``missed`` or ``refuted``."""
    work = draft.contribution(record.run, peer)
    number: int = getattr(work, what)
    draft.put_contribution(record.run, peer, replace(work, **{what: number + 1}))


def punish_solver(draft: Draft, record: SegmentRecord, accuser: PeerId | None) -> None:
    """Take the whole stake of a convicted solver and share it out; without an accuser its part is burned."""
    taken = draft.take_stake(record.peer, 100)
    to_accuser = taken * ACCUSER_PERCENT // 100 if accuser is not None else 0
    if accuser is not None:
        draft.credit(accuser, to_accuser)
    draft.burn(taken - to_accuser)


def punish_approver(draft: Draft, peer: PeerId) -> None:
    """Burn a part of the stake of a verifier that agreed with a window proven false."""
    draft.burn(draft.take_stake(peer, FALSE_WITNESS_PERCENT))


def punish_accuser(draft: Draft, record: SegmentRecord, false: Accusation) -> None:
    """Make a false accuser pay the solver: its bond, and if it was drawn, a part of its stake that doubles
    with each refuted accusation.
    """
    taken = int(false.bond)
    if not false.is_report:
        num_refuted = draft.contribution(record.run, false.peer).refuted
        taken += draft.take_stake(false.peer, FALSE_WITNESS_PERCENT << min(num_refuted, 4))
    draft.credit(record.peer, Amount(taken))
    count(draft, record, false.peer, "refuted")


def strikes(work: Contribution) -> int:
    """Return the silent segments of a peer that no verified ones make up for."""
    return work.silent - work.verified // VERIFIED_PER_STRIKE


def evict(draft: Draft, record: SegmentRecord) -> None:
    """Remove a solver from its run; an owner, which may have to fill empty stages, loses only this seat."""
    run = draft.run(record.run)
    draft.put_run(evicted(run, record.peer, record.stage, record.seat))


def rest(draft: Draft, record: SegmentRecord) -> None:
    """Keep a peer with too many strikes from joining for an epoch per strike."""
    work = draft.contribution(record.run, record.peer)
    blocks = strikes(work) * draft.globals.params.epoch_blocks
    until = Height(draft.height + blocks)
    draft.put_contribution(record.run, record.peer, replace(work, rest_until=until))


def expel(draft: Draft, record: SegmentRecord) -> None:
    """Evict and bar a convicted solver, and void its shares, what it posted, and what waits to be paid."""
    evict(draft, record)
    void_checkpoints(draft, record)
    run = draft.run(record.run)
    held = draft.contribution(record.run, record.peer).shares
    draft.add_shares(record.run, record.peer, -held)
    work = draft.contribution(record.run, record.peer)
    is_barred = work.is_barred or record.peer != run.owner
    draft.put_contribution(
        record.run,
        record.peer,
        replace(work, failed=work.failed + 1, fault_height=draft.height, is_barred=is_barred),
    )


def void_checkpoints(draft: Draft, record: SegmentRecord) -> None:
    """Let nothing that a solver has posted in its run be a start or an anchor any more."""
    run = draft.run(record.run)
    for stage in range(len(run.checkpoints)):
        run = with_void(run, stage, lambda c: c.peer == record.peer)
    draft.put_run(run)


def is_exact(draft: Draft, record: SegmentRecord) -> bool:
    """Return True if honest machines agree on every bit of this run, so that a difference may cost a stake."""
    return draft.run(record.run).spec.is_exact


def _collect(draft: Draft, peer: PeerId, amount: int) -> int:
    """Take an amount from a peer's balance, and what is missing from its stake; return what it had."""
    ready = min(draft.live_account(peer).balance, amount)
    draft.debit(peer, ready)
    return ready + draft.take(peer, amount - ready)


def _return_to_run(draft: Draft, record: SegmentRecord, amount: int) -> None:
    run = draft.run(record.run)
    if run.phase is RunPhase.SETTLED:
        draft.credit(run.owner, amount)
    elif amount:
        draft.put_run(replace(run, escrow=Amount(run.escrow + amount)))
