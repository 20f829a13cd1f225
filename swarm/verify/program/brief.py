"""Leave out of an opening what both sides know, and put it back.

Core: pure functions.

A solver that opens an event repeats much of what its accuser has said: the start, and all events before the
first of which they say different things. Of the states after that event only the last counts, since the claim
covers no other; and most parts of a state stay as they were. All of these are left empty in what is sent.
"""

from typing import TypeVar

from swarm.errors import BadEncoding
from swarm.primitives.codec import replace
from swarm.types import NO_DIGEST
from swarm.verify.program.account import Account, first_difference
from swarm.verify.program.events import OpenAnchor, OpenCopy, OpenEnd, OpenMerge
from swarm.verify.program.opened import OpenStep

Opening = OpenStep | OpenAnchor | OpenEnd | OpenCopy | OpenMerge
"""Moves that open an event, between two states."""
OpeningT = TypeVar("OpeningT", bound=Opening)


def brief(move: OpeningT, other: Account) -> OpeningT:
    """Return an opening without what the other side's account has, and what an event leaves as it was."""
    account = move.account
    event, last = first_difference(account, other), len(account.states) - 1
    if event is None or not 0 <= event <= last:
        return move
    shown = {event, last}
    states = tuple(root if at in shown else b"" for at, root in enumerate(account.states))
    leaves = (*(b"" for _ in range(event)), *account.leaves[event:])
    pairs = zip(move.before, move.after, strict=True)
    after = tuple(b"" if one == was else one for was, one in pairs)
    told = replace(account, start=b"", leaves=leaves, states=states)
    return replace(move, account=told, after=after)


def whole(move: OpeningT, other: Account) -> OpeningT:
    """Return an opening with all that was left out of it; one that leaves out nothing as it is.

    Raises ``BadEncoding`` for one that leaves out what the other side has not said.
    """
    account = move.account
    if account.start:
        return move
    if len(account.states) != len(account.leaves) or len(move.after) != len(move.before):
        raise BadEncoding("an opening of unequal lists")
    event = next((at for at, root in enumerate(account.states) if root), len(account.states))
    if event > len(other.states) or other.kinds[:event] != account.kinds[:event]:
        raise BadEncoding("an opening without events that the other side has not")
    told = replace(
        account,
        start=other.start,
        leaves=(*other.leaves[:event], *account.leaves[event:]),
        states=(*other.states[:event], *(root or NO_DIGEST for root in account.states[event:])),
    )
    pairs = zip(move.before, move.after, strict=True)
    return replace(move, account=told, after=tuple(one or was for was, one in pairs))
