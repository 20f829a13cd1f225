"""Say in words whom a ledger trusts: its launcher, or so many validators that none of them decides alone.

Core: a function of a state.
"""

from swarm.ledger.state.state import State
from swarm.ledger.transition.validators import INDEPENDENT_MIN
from swarm.primitives.crypto import peer_name


def trust_text(state: State) -> str:
    """Return whom this ledger trusts, such as ``trusted launcher: 1 of 1 validators (hazy-otter-697)``.

    With fewer than ``INDEPENDENT_MIN`` validators whatever they sign is final, and the ledger ends with them.
    """
    voting = state.validators
    if len(voting) >= INDEPENDENT_MIN:
        greatest, total = max(v.power for v in voting), sum(v.power for v in voting)
        return (
            f"{len(voting)} validators, the greatest with {100 * greatest // total}% of the power"
        )
    names = ", ".join(peer_name(validator.peer) for validator in voting)
    waiting = sum(
        peer not in {validator.peer for validator in voting} for peer in state.council.candidates
    )
    more = f"; {waiting} more offer" if waiting else ""
    return f"trusted launcher: {len(voting)} of {len(voting)} validators ({names}){more}"
