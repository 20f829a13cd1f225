"""Go on after this machine has moved to another network, with connections from where it is now.

Shell: looks at the interfaces every other second. Rule H38; ``whereabouts`` decides what a move is.

A connection from an address that the machine has no more would be missed after 15 to 30 s, and who could reach
it before says nothing of now.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from swarm.host.listen import outward_hosts
from swarm.host.whereabouts import Move, Whereabouts

LOOK_S = 2.0


class MovingHost(Protocol):
    """The part of a host that this needs; ``Host`` has it."""

    async def leave(self, hosts: Sequence[str]) -> None:
        """Let go of what belongs to these addresses of this machine, which it has no more."""
        ...


async def keep_roaming(
    host: MovingHost,
    moved: Callable[[Move], None],
    hosts: Callable[[], Sequence[str]] = outward_hosts,
) -> None:
    """Notice moves until cancelled; ``moved`` is told of each, ``hosts`` returns the addresses of now."""
    where = Whereabouts(hosts())
    while True:
        await trio.sleep(LOOK_S)
        move = where.look(hosts())
        if move is not None:
            moved(move)
            await host.leave(move.gone)
