"""Say what a peer counts for by the ledger: stakes and work are scarce, keys are not.

Core: reads the state of the head; a table of those with a seat is made once for each block.

    votes, or has the stake of a solver or a validator                  member
    has a seat with a stake, by work that stood, or pays for the run    member
    has a seat as a volunteer on trial, and commits to what it trains   novice: seats of volunteers are few
    anybody else, with a stake of dust, too                             stranger
"""

from collections.abc import Callable

from swarm.host.paces import Standing
from swarm.ledger.state.records import RunPhase
from swarm.ledger.state.state import State
from swarm.ledger.transition.prices import solver_stake
from swarm.ledger.transition.seats import keeps_up
from swarm.types import PeerId


class Standings:
    """Standing of peers, by the newest state."""

    def __init__(self, state: Callable[[], State]) -> None:
        """``state`` returns that of the head."""
        self._state = state
        self._known: State | None = None
        self._named = dict[PeerId, Standing]()
        self._least_stake = 0

    def of(self, peer: PeerId) -> Standing:
        """Return the standing of a peer."""
        state = self._state()
        if state is not self._known:
            self._look(state)
        named = self._named.get(peer, Standing.STRANGER)
        if named is Standing.MEMBER or state.account(peer).stake >= self._least_stake:
            return Standing.MEMBER
        return named

    def has_any(self, peer: PeerId) -> bool:
        """Return True if a peer is no stranger."""
        return self.of(peer) is not Standing.STRANGER

    def _look(self, state: State) -> None:
        """Note who has a seat, who votes, and which stake is the least that counts."""
        self._known, params = state, state.globals.params
        runs = [run for run in state.runs() if run.phase is not RunPhase.SETTLED]
        stakes = [params.validator_stake, *(solver_stake(params, run.spec) for run in runs)]
        self._least_stake = max(min(stakes), 1)
        seats = [(seat, run.next_round) for run in runs for roster in run.seats for seat in roster]
        self._named = {
            seat.peer: Standing.NOVICE
            for seat, next_round in seats
            if seat.is_on_trial and keeps_up(seat, next_round)
        }
        members = [seat.peer for seat, _ in seats if not seat.is_on_trial]
        members += [*(run.owner for run in runs), *(voter.peer for voter in state.validators)]
        self._named |= dict.fromkeys(members, Standing.MEMBER)
