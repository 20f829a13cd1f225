"""Bound how many free keys of one network a node lets into a run: keys cost nothing, addresses do.

Core: a machine without time; the shell says where a statement came from.

The ledger knows no addresses. So every validator counts by itself, for each epoch: the keys whose free joins
reached it from one network, by themselves or passed on by others. It puts no more than that into its
blocks. Who floods one validator from one network takes a few of the volunteers' places, not all.
"""

from collections import OrderedDict
from dataclasses import dataclass

from swarm.errors import InvalidStatement, Reason
from swarm.types import PeerId

DIRECT_MAX = 8
"""Keys of one network whose own free joins are taken in an epoch: a household, or a class room."""
PASSED_ON_MAX = 32
"""Keys whose free joins are taken in an epoch from peers of one network that pass them on."""
NETWORKS_MAX = 4_096
"""Networks that are counted; the one not heard of for longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Peer a statement came from, and its network (``host.addresses.network_of``): "" if not a public one."""

    peer: PeerId
    network: str


class FreeJoins:
    """Keys of which a free join was taken in this epoch, by network."""

    def __init__(self) -> None:
        self._epoch = -1
        self._keys = OrderedDict[tuple[str, bool], set[PeerId]]()

    def admit(self, sender: PeerId, origin: Origin, epoch: int) -> None:
        """Count a free join; raise ``InvalidStatement`` if its network has had its share of this epoch."""
        if not origin.network:
            return
        if epoch != self._epoch:
            self._epoch = epoch
            self._keys.clear()
        is_passed_on = sender != origin.peer
        keys = self._keys.setdefault((origin.network, is_passed_on), set())
        self._keys.move_to_end((origin.network, is_passed_on))
        if len(self._keys) > NETWORKS_MAX:
            self._keys.popitem(last=False)
        if sender not in keys:
            most = PASSED_ON_MAX if is_passed_on else DIRECT_MAX
            if len(keys) >= most:
                why = f"{most} free keys of network {origin.network} joined in this epoch"
                raise InvalidStatement(Reason.FULL, why)
            keys.add(sender)
