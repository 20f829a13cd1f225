"""Follow the chain: request newly final blocks from any peer, and answer such requests.

Shell: one request at a time to one peer, which holds it open until there is a new block. Who is far behind asks
for a snapshot first.
"""

import logging
from collections.abc import Callable

import trio

from swarm.errors import InvalidStatement, PeerFault, Unreachable, VerificationFailed
from swarm.host.service import Host
from swarm.ledger.blocks import block_digest, epoch_of
from swarm.ledger.chain import Head, voted_on
from swarm.ledger.consensus.validator import ValidatorRunner
from swarm.ledger.mempool import Mempool
from swarm.ledger.net.archive import Archive
from swarm.ledger.net.snapshots import Snapshots
from swarm.ledger.net.standing import Standings
from swarm.ledger.net.sync import (
    AHEAD_MAX,
    ASKS_MAX,
    NOTHING_YET,
    REPLY_BYTES_MAX,
    SYNC_PROTOCOL,
    WAIT_MS_MAX,
    FollowReply,
    FollowRequest,
    Sources,
    check_reply,
    compose_reply,
    parse_reply,
    parse_request,
)
from swarm.ledger.net.waiting import Waiter, WaitingPlaces
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import peer_name
from swarm.types import Height, PeerId

CONCURRENCY = 64
"""Followers answered at one time, those that wait for a block included."""
CALL_SLACK_S = 10.0
"""Seconds allowed on top of the wait: a megabyte over a slow uplink."""
PROBE_S = 1.0
"""Seconds for the answer of a peer that is asked whether the one that delivers is late."""
IDLE_S = 1.0
"""Seconds of rest when no peer is connected, or all have failed."""
STALL_S = 10.0
"""Seconds without a new block after which a validator requests blocks like every other node."""
SNAPSHOT_S = 30.0
"""Seconds between two looks for a snapshot while this node is behind."""
NEAR_BLOCKS = 16
"""Blocks from which on a reply is composed in a worker thread: reading a thousand takes a while."""

log = logging.getLogger("swarm.ledger")


class Follower:
    """Client and server of bulk sync."""

    def __init__(
        self,
        archive: Archive,
        pool: Mempool,
        host: Host,
        replica: ValidatorRunner | None,
        snapshots: Snapshots,
        *,
        uses_snapshots: bool,
        report: Callable[[str], None] = log.warning,
        tell: Callable[[str], None] = log.info,
    ) -> None:
        self._archive, self._pool, self._host, self._replica = archive, pool, host, replica
        self._snapshots, self._uses_snapshots = snapshots, uses_snapshots
        self._standings, self._genesis = Standings(lambda: archive.head.state), b""
        self._report, self._tell = report, tell
        self._sources = Sources(sum(host.peer))
        self._looked_at = -SNAPSHOT_S
        self._lacks = False
        """True if a peer has said in this turn that it does not have the next block any more."""
        self._is_stuck = False
        """True if peers have said so in the last turn, and none had anything better to say."""
        self._places = WaitingPlaces()
        self._held = dict[PeerId, trio.CancelScope]()
        self._waits_at: PeerId | None = None
        """Peer that may hold our request now: while it does, we hold none of its requests."""
        self.num_bytes = 0
        self.is_near = False
        """True if the last answer had few new blocks, so that all but the very last ones are here."""
        host.serve(SYNC_PROTOCOL, self._answer, request_limit=64, concurrency=CONCURRENCY)

    async def run(self) -> None:
        """Keep up with the network until cancelled."""
        is_first = True
        while True:
            if self._replica is not None and self._replica.is_voting and not is_first:
                await self._until_needed(self._replica)
            is_first = False
            if not await self._catch_up():
                await trio.sleep(IDLE_S)

    async def _until_needed(self, replica: ValidatorRunner) -> None:
        """Wait until this validator is behind, or no block comes: otherwise it follows by voting."""
        height = -1
        while height < self._archive.head.state.height:
            height = self._archive.head.state.height
            with trio.move_on_after(STALL_S):
                await replica.is_behind.wait()
                break
        replica.is_behind = trio.Event()

    async def _catch_up(self) -> bool:
        """Ask peers in turn until one has nothing new; return True if one answered so."""
        await self._look_for_snapshot()
        self._lacks, has_answered = False, False
        order, probed = self.candidates(), self._sources.probed(self._host.connected())
        if probed is not None:
            await self._probe(probed)
        for peer in order:
            for _ in range(ASKS_MAX):
                num_blocks, is_full = await self._ask(peer, waits=self._waits)
                if num_blocks is None:
                    break
                has_answered = True
                if num_blocks:
                    self._sources.delivered(peer)
                    continue
                if self._replica is not None:
                    self._replica.synced.set()
                if is_full:
                    break
                self._sources.failed(peer, trio.current_time())
                return True
            else:
                return True
        self._is_stuck = self._lacks and not has_answered
        return False

    async def _probe(self, peer: PeerId) -> None:
        """Go over to a peer that has blocks which the one that delivers has not sent."""
        with trio.move_on_after(PROBE_S) as scope:
            num_blocks, _ = await self._ask(peer, waits=False)
            if num_blocks:
                self._sources.delivered(peer)
        if scope.cancelled_caught:
            self._sources.failed(peer, trio.current_time())

    def candidates(self) -> list[PeerId]:
        """Return the peers to ask in this turn, best first."""
        voters = frozenset(voter.peer for voter in self._archive.head.state.validators)
        now = trio.current_time()
        return self._sources.order(self._host.connected(), self._host.known(), voters, now)

    async def _look_for_snapshot(self) -> None:
        """Go on from a snapshot if this node is far behind, or nobody has the next block."""
        now = trio.current_time()
        if self.is_near or now < self._looked_at + SNAPSHOT_S:
            return
        peers = [p for p in self.candidates() if self._is_stuck or self._host.is_connected(p)]
        if not peers:
            return
        self._looked_at = now
        height = self._archive.head.state.height
        if not self._uses_snapshots:
            if self._is_stuck:
                self._report(
                    f"no peer that answers has block {height + 1} any more, and archive = true wants all blocks"
                )
        elif await self._snapshots.join(peers, is_far=self._is_stuck):
            self._tell(
                f"joined at block {self._archive.head.state.height}, from a snapshot that its validators signed"
            )
        self._is_stuck = False

    @property
    def _waits(self) -> bool:
        """True if peers are to hold our requests until there is a new block."""
        replica = self._replica
        return replica is None or not (replica.is_voting or not replica.synced.is_set())

    async def _ask(self, peer: PeerId, *, waits: bool) -> tuple[int | None, bool]:
        """Fetch and append blocks from ``peer``; return the number of new ones, None if it failed to answer.

        The flag is True if it holds too many requests to wait there.
        """
        head = self._archive.head
        height = head.state.height
        try:
            data, reply = await self._fetch(peer, height + 1, WAIT_MS_MAX if waits else 0)
            blocks = check_reply(
                reply,
                parent=head.digest,
                height=height,
                epoch=head.state.next_epoch,
                chain=head.state.chain,
                validators=head.state.validators,
            )
        except Unreachable:
            self._sources.failed(peer, trio.current_time())
            return None, False
        except PeerFault as fault:
            await self._look_for_fork(peer, head)
            self._host.blame(peer, fault)
            self._sources.failed(peer, trio.current_time())
            return None, False
        self.num_bytes += len(data)
        if not blocks and reply.first > height + 1:
            self._lacks, self.is_near = True, False
            self._sources.failed(peer, trio.current_time())
            return None, False
        if reply.is_full:
            self._sources.full(peer, trio.current_time())
        self.is_near = len(blocks) < NEAR_BLOCKS
        if reply.certificate is None:
            return 0, reply.is_full
        try:
            appended = await self._archive.append(blocks, reply.certificate, known=self._pool.known)
        except (PeerFault, InvalidStatement) as error:
            raise VerificationFailed(
                f"more than two thirds of the power signed a bad block: {error}",
                hint="swarm ledger verify",
            ) from None
        return len(appended), False

    async def _fetch(self, peer: PeerId, height: int, wait_ms: int) -> tuple[bytes, FollowReply]:
        """Ask a peer for blocks; raise ``Unreachable``, or ``PeerFault`` if the reply is malformed."""
        self._waits_at = peer if wait_ms else None
        try:
            data = await self._host.call(
                peer,
                SYNC_PROTOCOL,
                encode(FollowRequest(Height(height), wait_ms)),
                timeout_s=WAIT_MS_MAX / 1000 + CALL_SLACK_S,
                reply_limit=REPLY_BYTES_MAX,
            )
        finally:
            self._waits_at = None
        return data, parse_reply(data)

    async def _look_for_fork(self, peer: PeerId, head: Head) -> None:
        """Ask a peer whose blocks do not follow ours for its block at our height.

        Raises ``VerificationFailed`` if it is another one, and proved final as ours is; the proof is kept.
        """
        height = head.state.height
        epoch_blocks = self._archive.genesis.epoch_blocks
        try:
            _, reply = await self._fetch(peer, max(height, 1), 0)
            if not reply.blocks or reply.certificate is None:
                return
            blocks = check_reply(
                reply,
                parent=reply.blocks[0].header.parent,
                height=Height(height - 1),
                epoch=epoch_of(epoch_blocks, height),
                chain=head.state.chain,
                validators=voted_on(head.state),
            )
        except (Unreachable, PeerFault):
            return
        rival = block_digest(blocks[0].header)
        if rival == head.digest:
            return
        headers = [*(block.header for block in blocks), *reply.headers]
        self._archive.keep_fork(headers, reply.certificate)
        raise VerificationFailed(
            f"two final blocks at height {height}: {head.digest.hex()[:12]} here and {rival.hex()[:12]} at"
            f" {peer_name(peer)}, each signed by more than two thirds of the power",
            hint="swarm ledger verify   (it shows who signed both)",
        )

    async def _answer(self, peer: PeerId, request: bytes) -> bytes:
        asked = parse_request(request)
        height = asked.from_height
        if height == 0:
            self._genesis = self._genesis or encode(self._archive.genesis)
            return self._genesis
        nothing = replace(NOTHING_YET, first=self._archive.first)
        if height < self._archive.first:
            return encode(nothing)
        if (
            height > self._archive.head.state.height
            and asked.wait_ms
            and not await self._wait(peer, height, asked.wait_ms / 1000)
        ):
            return encode(replace(nothing, is_full=True))
        behind = self._archive.head.state.height - height
        if behind < 0:
            return encode(nothing)
        if behind < NEAR_BLOCKS:
            return self._compose(height)
        return await self._host.work_for(peer, self._compose, height)

    async def _wait(self, peer: PeerId, height: Height, wait_s: float) -> bool:
        """Wait for a block on behalf of a follower; return False if there is no place for it any more."""
        state = self._archive.head.state
        if peer == self._waits_at or height > state.height + AHEAD_MAX:
            return False
        waiter = Waiter(peer, self._host.origin(peer), self._standings.has_any(peer))
        may_wait, put_out = self._places.enter(waiter)
        if put_out is not None:
            self._held.pop(put_out).cancel()
        if not may_wait:
            return False
        with trio.move_on_after(wait_s) as scope:
            self._held[peer] = scope
            try:
                await self._archive.wait_height(height)
            finally:
                was_kept = self._held.get(peer) is scope
                if was_kept:
                    del self._held[peer]
                    self._places.leave(peer)
        return was_kept

    def _compose(self, height: int) -> bytes:
        epoch_blocks = self._archive.genesis.epoch_blocks
        reply = compose_reply(Height(height), self._archive.block_at, epoch_blocks)
        return encode(replace(reply, first=self._archive.first))
