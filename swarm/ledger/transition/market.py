"""Clear the market of a run: whose ask is seated, what a round pays, and when a cheaper peer takes a seat.

Core: functions from a run to a run.

A solver's *ask* is the least pay for 1,000 tokens that it works for, at most the ``price_max`` of the run. All
seats of a round are paid one price, the highest ask among those that count:

    counts          a seat of a peer with a stake that has committed, and does so still
    does not        the owner's, which pays itself; a volunteer's, whose key is free; one without a commit yet

So nobody sets a price who does not work for it under a stake: neither a queue full of asks, nor a crowd of
free keys, nor a seat that is only held. Without an ask that counts the price is the highest. A solver with a
stake is paid less than its ask at most until its first commit counts.

Where no seat is free, a cheaper peer takes the place of the dearest. Every such change costs the newcomer an
adoption and the stage a partner, so it is bounded: one in ``CLEARING_ROUNDS`` rounds, of a seat that was held
for ``TENURE_ROUNDS`` or has raised its ask since, for an ask that is lower by an eighth at least and has stood
in the queue for ``NOTICE_ROUNDS``. The peer that would lose its seat can lower its own ask meanwhile, and keep
it.

Source: docs/spec/ledger.md section 3.
"""

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.records import Run, Seat, Waiter
from swarm.ledger.transactions import TAKES_MOST
from swarm.ledger.transition.seats import (
    NEVER,
    Standings,
    is_proven,
    rounds_missed,
    seats_of,
    with_seat,
)
from swarm.primitives.codec import replace
from swarm.types import Height, PeerId, RoundIndex

CLEARING_ROUNDS = 4
"""Rounds between two boundaries at which a seat may change hands: an adoption and its trades take two."""

TENURE_ROUNDS = 8
"""Rounds that a seat is held at least, at the ask it was seated with."""

NOTICE_ROUNDS = 2
"""Rounds that a lower ask stands in the queue before it takes a seat: one to see it, one to answer it."""

MARGIN = 8
"""A lower ask takes a seat only if it is lower by one part in so many of the ask of that seat."""


def checked_ask(run: Run, ask: int) -> int:
    """Return an ask as a price.

    Raises ``InvalidStatement`` if it is above what the run pays at most: it would wait for ever.
    """
    if ask == TAKES_MOST:
        return run.spec.price_max
    if ask > run.spec.price_max:
        detail = f"{run.spec.price_max} for 1,000 tokens at most, and the ask is {ask}"
        raise InvalidStatement(Reason.PRICE, detail)
    return ask


def with_ask(run: Run, peer: PeerId, ask: int, height: Height) -> Run:
    """Return the run with another ask of a peer; one that waits goes to the end of those that ask the same.

    Raises ``InvalidStatement`` if it neither sits nor waits, and for the owner, which asks nothing.
    """
    if peer == run.owner:
        raise InvalidStatement(Reason.WRONG_PEER, "the owner is paid what the round pays")
    asks = [seat.ask for seat in seats_of(run, peer)]
    asks += [waiter.ask for waiter in run.waiting if waiter.peer == peer]
    if not asks:
        raise InvalidStatement(Reason.UNKNOWN_SEAT, "neither seated nor in the queue")
    if ask in asks:
        raise InvalidStatement(Reason.DUPLICATE, f"its ask is {ask} already")
    seats = tuple(
        tuple(replace(seat, ask=ask) if seat.peer == peer else seat for seat in roster)
        for roster in run.seats
    )
    moved = [replace(w, ask=ask, height=height) for w in run.waiting if w.peer == peer]
    others = [waiter for waiter in run.waiting if waiter.peer != peer]
    return replace(run, seats=seats, waiting=(*others, *moved))


def clearing_price(run: Run, round_: RoundIndex) -> int:
    """Return what 1,000 tokens of a round are paid, from the seats at its boundary."""
    asks = [s.ask for roster in run.seats for s in roster if _counts(run, s, round_)]
    return max(asks, default=run.spec.price_max)


def price_of(run: Run) -> int:
    """Return the price of the newest round; before the first, the highest."""
    return run.rounds[-1].price if run.rounds else run.spec.price_max


def taking_ask(run: Run) -> int | None:
    """Return the highest ask that would take the dearest seat in time; None where none would."""
    dearest = _dearest_ask(run)
    wanted = dearest * (MARGIN - 1) // MARGIN
    return wanted if wanted < dearest else None


def threat(run: Run, peer: PeerId, standing: Standings) -> int | None:
    """Return the lowest ask in the queue that would take a peer's seat in time; None if none would."""
    mine = [seat for seat in seats_of(run, peer) if not seat.is_volunteer and peer != run.owner]
    waiting = [waiter.ask for waiter in run.waiting if standing(waiter.peer).has_stake]
    if not mine or not waiting or mine[0].ask < _dearest_ask(run):
        return None
    return min(waiting) if _is_lower(min(waiting), mine[0].ask) else None


def undercut(run: Run, round_: RoundIndex, height: Height, standing: Standings) -> Run:
    """Return the run with its dearest seat given to the cheapest peer that waits, where the rules allow it.

    The peer that loses the seat is back in the queue, under its ask.
    """
    if round_ % CLEARING_ROUNDS:
        return run
    notice = NOTICE_ROUNDS * run.spec.round_blocks
    ready = [w for w in run.waiting if w.height + notice <= height and standing(w.peer).has_stake]
    held = [s for roster in run.seats for s in roster if _may_lose(run, s, round_)]
    if not ready or not held:
        return run
    cheapest = min(ready, key=lambda waiter: waiter.ask)
    dearest = max(held, key=lambda seat: (seat.ask, seat.joined_round, seat.stage, seat.index))
    if not _is_lower(cheapest.ask, dearest.ask):
        return run
    return _exchanged(run, dearest, cheapest, round_, height)


def _dearest_ask(run: Run) -> int:
    """Return the highest ask that holds a seat; 0 if only the owner and volunteers sit."""
    held = (s.ask for r in run.seats for s in r if not s.is_volunteer and s.peer != run.owner)
    return max(held, default=0)


def _is_lower(ask: int, than: int) -> bool:
    """Return True if an ask is lower by as much as it takes to get a seat."""
    return ask < than and ask * MARGIN <= than * (MARGIN - 1)


def _counts(run: Run, seat: Seat, round_: RoundIndex) -> bool:
    """Return True if the ask of a seat has a part in the price of a round."""
    works = seat.last_commit_round > NEVER and rounds_missed(seat, round_) <= 0
    return works and not seat.is_volunteer and seat.peer != run.owner


def _may_lose(run: Run, seat: Seat, round_: RoundIndex) -> bool:
    """Return True if a cheaper peer may take a seat: never the only one of its stage whose work has stood."""
    if seat.is_volunteer or seat.peer == run.owner:
        return False
    is_settled = round_ - seat.joined_round >= TENURE_ROUNDS or seat.ask > seat.seated_ask
    others = (other for other in run.seats[seat.stage] if other != seat)
    return is_settled and any(is_proven(run, other) for other in others)


def _exchanged(run: Run, lost: Seat, waiter: Waiter, round_: RoundIndex, height: Height) -> Run:
    roster = tuple(seat for seat in run.seats[lost.stage] if seat != lost)
    seats = tuple(roster if stage == lost.stage else r for stage, r in enumerate(run.seats))
    others = tuple(other for other in run.waiting if other != waiter)
    back = Waiter(lost.peer, height, is_volunteer=False, ask=lost.ask)
    run = replace(run, seats=seats, waiting=(*others, back))
    return with_seat(run, lost.stage, waiter.peer, round_, ask=waiter.ask)
