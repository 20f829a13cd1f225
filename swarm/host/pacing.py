"""Charge what a connection costs this node to where it comes from, and let it wait when that is too much.

Shell: knows connections and who has standing; ``host/paces.py`` decides.

    handshake, frames and questions of a connection --processor seconds--> account of its origin
        origin overdrawn: its next handshake, frame or question waits, unread, and TCP holds up the rest

Not charged: peers with standing, as long as they answer and break no rule; a process of this machine, which
takes what it likes in any case; and answers to our own questions, but for those in very small frames.
"""

from collections.abc import Callable

import trio
from libp2p.peer.id import ID

from swarm.errors import BadEncoding, Unreachable
from swarm.host.closing import Untyped, host_under
from swarm.host.meter import Meter
from swarm.host.paces import ALL_SEATS_SHARE, SEATS_SHARE, Paces, Standing, Work
from swarm.host.peer_ids import peer_of
from swarm.host.places import group_of
from swarm.types import PeerId

_SEAT = "seat "
"""Begin of the account that the seats on trial of an origin share; its strangers have the origin alone."""
PAYER_S = 2.0
"""Seconds for which it is remembered who pays for a connection."""


class Pacing:
    """Accounts of those that are connected to this node."""

    def __init__(self, is_trusted: Callable[[PeerId, float], bool]) -> None:
        """Pace nobody yet; ``is_trusted(peer, now)`` is False for who was silent or broke a rule of late."""
        self._is_trusted = is_trusted
        self._standing: Callable[[PeerId], Standing] | None = None
        self._strangers, self._seats = Paces(), Paces(SEATS_SHARE, ALL_SEATS_SHARE)

    def judge_by(self, standing: Callable[[PeerId], Standing]) -> None:
        """Pace strangers from now on; ``standing`` says who is none."""
        self._standing = standing

    def standing(self, peer: PeerId) -> Standing:
        """Return what a peer counts for now; everybody is a stranger before anybody is judged."""
        if self._standing is None or not self._is_trusted(peer, trio.current_time()):
            return Standing.STRANGER
        return self._standing(peer)

    def has_standing(self, peer_id: ID) -> bool:
        """Return True if a peer is a member for now; False for a key that is none of ours."""
        try:
            return self.standing(peer_of(peer_id)) is Standing.MEMBER
        except BadEncoding:
            return False

    def payer_at(self, remote_host: str, own_host: str) -> str:
        """Return the account of an address of which no key is known yet; "" for none."""
        if self._standing is None or not remote_host or remote_host == own_host:
            return ""
        return group_of(remote_host)

    def payer(self, muxed_conn: Untyped) -> str:
        """Return the account that a connection is charged to; "" for none."""
        if self._standing is None:
            return ""
        now = trio.current_time()
        known: tuple[str, float] = getattr(muxed_conn, "swarm_payer", ("", 0.0))
        if now < known[1]:
            return known[0]
        found = self._find_payer(muxed_conn)
        muxed_conn.swarm_payer = (found, now + PAYER_S)
        return found

    def _find_payer(self, muxed_conn: Untyped) -> str:
        remote = muxed_conn.get_remote_address()
        at = self.payer_at(remote[0] if remote else "", host_under(muxed_conn.secured_conn))
        if not at:
            return ""
        try:
            peer = peer_of(muxed_conn.peer_id)
        except BadEncoding:
            return at
        match self.standing(peer):
            case Standing.MEMBER:
                return ""
            case Standing.NOVICE:
                return f"{_SEAT}{at}"
            case Standing.STRANGER:
                return at

    def _accounts(self, payer: str) -> Paces:
        return self._seats if payer.startswith(_SEAT) else self._strangers

    def owes(self, muxed_conn: Untyped) -> bool:
        """Return True if who pays for a connection owes so much that it waits."""
        payer = self.payer(muxed_conn)
        return bool(payer) and not self._accounts(payer).is_free(payer, trio.current_time())

    def spend(self, payer: str, cost_s: float) -> None:
        """Charge work that was done."""
        if payer:
            self._accounts(payer).spend(payer, cost_s, trio.current_time())

    async def turn(self, payer: str, work: Work) -> None:
        """Wait until it is the turn of work for an account; raise ``Unreachable`` if too much of it waits."""
        if not payer or self._accounts(payer).is_free(payer, trio.current_time()):
            return
        turn = self._accounts(payer).begin(payer, work, trio.current_time())
        if turn is None:
            raise Unreachable("too much was done for peers of this address: try again later")
        door_s = 0.0
        try:
            await trio.sleep(turn.wait_s)
        finally:
            door_s = self._accounts(payer).start(payer, turn, trio.current_time())
        await trio.sleep(door_s)

    def meter(self, payer: str) -> Meter:
        """Return a meter that charges an account with each step as it ends."""
        return Meter(lambda cost_s: self.spend(payer, cost_s))

    def meter_of(self, muxed_conn: Untyped) -> Meter:
        """Return a meter that charges whoever pays for a connection at the time."""
        return Meter(lambda cost_s: self.spend(self.payer(muxed_conn), cost_s))

    def learn(self, payer: str, work: Work, cost_s: float) -> None:
        """Note what work has cost, which was charged, for the turns of what comes after it."""
        if payer:
            self._accounts(payer).end(payer, work, cost_s, trio.current_time())
