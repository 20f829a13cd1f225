"""How long a window stays on this disk.

Core: a function of final state.
"""

from swarm.ledger.phases import COMMIT_ROUNDS
from swarm.ledger.runs import boundary_height
from swarm.ledger.state import State
from swarm.verify.answers import SeatPlace


def is_needed(state: State, place: SeatPlace, *, is_own: bool) -> bool:
    """Whether anybody may still ask for a segment's windows, leaves or answers.

    That is as long as the ledger has its record. A segment of our own may not have been committed yet; a run
    that this state does not know is one it has not come to.
    """
    run, round_, stage, seat = place
    if state.segment(run, round_, stage, seat) is not None:
        return True
    known = state.find_run(run)
    if known is None:
        return True
    return is_own and state.height < boundary_height(known, round_ + COMMIT_ROUNDS + 1)
