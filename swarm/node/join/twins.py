"""Stop a node whose key runs on another machine for longer, and warn the one that has it.

Shell: one task; a neighbour that both are connected to has told them of each other (rule H22).
"""

from collections.abc import Callable

from swarm.errors import BadIdentity
from swarm.events import EventKind
from swarm.host.clocks import lasting
from swarm.host.service import Host
from swarm.primitives.crypto import peer_name

TOLD_MAX = 64
"""Other processes that are remembered, so that each is named once."""


async def heed_twins(host: Host, report: Callable[[EventKind, str], None]) -> None:
    """Warn of each younger process with the key of this node; raise ``BadIdentity`` for an older one."""
    told, name = dict[bytes, None](), peer_name(host.peer)
    async for twin in host.twins:
        if twin.is_older:
            raise BadIdentity(
                f"another machine has run with the key of this node, {name}, for {lasting(twin.uptime_s)}:"
                " this one stops",
                hint="one key is for one machine; a new home has a new key: swarm join TICKET --home FOLDER",
            )
        if twin.session in told:
            continue
        told[twin.session] = None
        if len(told) > TOLD_MAX:
            del told[next(iter(told))]
        report(
            EventKind.WARNING,
            f"another machine was started with the key of this node, {name}, and is told to stop; if that was"
            " not you, somebody has a copy of the key: move what it has to a new one",
        )
