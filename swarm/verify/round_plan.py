"""Build the round plan that training reads, from the state that the ledger froze at the round's boundary.

Core: pure functions of final state. Training and replay must read the same plan.
"""

from swarm.ledger.state.records import RoundInfo, Run, RunHead, Seat
from swarm.ledger.state.state import Reader
from swarm.ledger.transition.seats import lag_of
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.training.terms import is_trailing
from swarm.types import Digest, RoundIndex


def round_plan(run: Run | RunHead, info: RoundInfo, chain: Digest) -> RoundPlan:
    """Return the plan of a round that training reads."""
    return RoundPlan(
        chain=chain,
        run=run.index,
        run_digest=run.spec_digest,
        spec=run.spec,
        round=info.round,
        beacon=info.beacon,
        rosters=tuple(_roster(seats, info.round) for seats in info.seats),
        consensus=info.consensus,
    )


def past_plan(reader: Reader, run: Run, round_: RoundIndex) -> RoundPlan | None:
    """Return the plan of a round whose segments can still be checked; None before and after that."""
    info = reader.round_info(run.index, round_)
    return None if info is None else round_plan(run, info, reader.globals.chain)


def _roster(seats: tuple[Seat, ...], round_: RoundIndex) -> tuple[RosterSeat, ...]:
    """Return the roster of one stage; its seats are marked as trailing by comparison with each other."""
    tokens = [seat.last_tokens for seat in seats]
    return tuple(
        RosterSeat(
            index=seat.index,
            peer=seat.peer,
            weight=seat.last_tokens,
            joined_round=seat.joined_round,
            lag=lag_of(seat, round_),
            trails=is_trailing(seat.last_tokens, tokens),
            is_on_trial=seat.is_on_trial,
        )
        for seat in seats
    )
