"""Begin a chain with the state at the end of an epoch, and give such states to newcomers.

Shell: asks peers in turn, keeps what was proved, blames who sent something else. A try that fails leaves the
ledger as it was, and the next one, with another peer, goes on with the handoffs and parts that are here.

    asks for an offer --far ahead--> handoffs --validators known--> parts, from several peers --> adopted
      |  nobody is far ahead: blocks are followed one by one
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from swarm.errors import BrokenPromise, PeerFault, Pruned, Unreachable
from swarm.host.service import Host
from swarm.ledger.blocks import Block, epoch_of
from swarm.ledger.light import Handoff, KnownEpoch, advance
from swarm.ledger.net.archive import Archive, Boundary, read_handoffs
from swarm.ledger.snapshot import (
    EARLIER,
    EARLIER_BLOCKS_MAX,
    EARLIER_BYTES,
    EARLIER_BYTES_MAX,
    HANDOFFS,
    HANDOFFS_BYTES,
    HANDOFFS_BYTES_MAX,
    NO_OFFER,
    OFFER,
    OFFER_BYTES_MAX,
    PART,
    PART_BYTES_MAX,
    REQUEST_BYTES_MAX,
    SNAPSHOT_PROTOCOL,
    EarlierReply,
    HandoffsReply,
    Offer,
    SnapshotRequest,
    check_earlier,
    check_offer,
    check_part,
    compose_offer,
    compose_part,
    cut_state,
    join_state,
    parse_offer,
    parse_request,
)
from swarm.ledger.state.records import Entry
from swarm.primitives.codec import decode, encode
from swarm.primitives.merkle import MapPart
from swarm.types import NO_DIGEST, Digest, Height, PeerId

FAR_EPOCHS = 2
"""Epochs that a snapshot must be ahead: nearer than that, blocks are followed one by one."""
CALL_TIMEOUT_S = 20.0
"""Seconds for one reply: four megabytes over a slow uplink."""
CONCURRENCY = 8
"""Requests answered at one time: each may hold a few megabytes."""
WORKERS = 4
"""Peers from which parts are fetched at one time."""
TRY_S = 60.0
"""Seconds for a try with one peer; what came in that time counts in the next one."""
OFFERS_S = 5.0
"""Seconds in which offers come; whoever is slower has none."""
OFFERS_ASKED = 8
"""Peers asked for an offer in one try."""
CUTS_KEPT = 2
"""Snapshots served: a newcomer may have begun with the one before the newest."""

log = logging.getLogger("swarm.ledger")


@dataclass(frozen=True, slots=True)
class _Cut:
    boundary: Boundary
    offer: Offer
    parts: Sequence[MapPart[Entry]]


class Snapshots:
    """Client and server of snapshots of one node."""

    def __init__(self, archive: Archive, host: Host) -> None:
        self._archive, self._host = archive, host
        self._cuts = list[_Cut]()
        self._cutting = trio.Lock()
        self._path: tuple[KnownEpoch, tuple[Handoff, ...]] | None = None
        """Epoch that was reached, and the handoffs that lead there from the head."""
        self._parts = dict[Digest, MapPart[Entry]]()
        """Parts that were proved, of the offer tried last."""
        self.num_bytes = 0
        """Bytes received."""
        host.serve(
            SNAPSHOT_PROTOCOL,
            self._answer,
            request_limit=REQUEST_BYTES_MAX,
            concurrency=CONCURRENCY,
            per_peer=2,
        )

    # ---- client

    async def join(self, peers: Sequence[PeerId], *, is_far: bool = False) -> bool:
        """Go on from the snapshot of one of these peers if it is far ahead; return True if so.

        ``is_far``: any that is ahead will do, since nobody has the blocks in between.
        """
        for peer, offer in await self._offers(peers[:OFFERS_ASKED], is_far=is_far):
            found = list[tuple[Boundary, Sequence[Handoff]]]()
            try:
                with trio.move_on_after(TRY_S):
                    others = [other for other in peers if other != peer]
                    found.append(await self._fetched(offer, [peer, *others]))
            except Unreachable:
                continue
            except PeerFault as fault:
                self._host.blame(peer, fault)
                continue
            if found:
                await self._archive.adopt(*found[0])
                self._path, self._parts = None, {}
                return True
        return False

    async def _offers(self, peers: Sequence[PeerId], *, is_far: bool) -> list[tuple[PeerId, Offer]]:
        """Ask all at once; return those that are far ahead, the newest first: a stale one leads nowhere."""
        found = list[tuple[int, int, PeerId, Offer]]()

        async def ask(number: int, peer: PeerId) -> None:
            try:
                offer = parse_offer(await self._ask(peer, OFFER, 0, 0, OFFER_BYTES_MAX))
            except Unreachable:
                return
            except PeerFault as fault:
                self._host.blame(peer, fault)
                return
            if offer.boundary is not None and self._is_ahead(offer.boundary, is_far=is_far):
                found.append((-offer.boundary.height, number, peer, offer))

        with trio.move_on_after(OFFERS_S):
            async with trio.open_nursery() as nursery:
                for number, peer in enumerate(peers):
                    nursery.start_soon(ask, number, peer)
        return [(peer, offer) for *_, peer, offer in sorted(found, key=lambda one: one[:2])]

    def _is_ahead(self, boundary: Handoff, *, is_far: bool) -> bool:
        blocks = 1 if is_far else FAR_EPOCHS * self._archive.genesis.epoch_blocks
        return boundary.height >= self._archive.head.state.height + blocks

    async def _fetched(
        self, offer: Offer, peers: Sequence[PeerId]
    ) -> tuple[Boundary, Sequence[Handoff]]:
        """Return the snapshot that the first of these peers offers, proved, and its handoffs.

        Raises ``PeerFault`` if this peer sent something false, and ``Unreachable`` if something is missing.
        """
        boundary = offer.boundary
        assert boundary is not None, "it is ahead of us"
        known, handoffs = await self._lead(peers[0], boundary)
        check_offer(self._archive.genesis, known, offer)
        parts = await self._collect(offer, peers)
        return Boundary(boundary, join_state(self._archive.genesis, offer, parts)), handoffs

    async def _lead(self, peer: PeerId, boundary: Handoff) -> tuple[KnownEpoch, Sequence[Handoff]]:
        """Fetch and prove handoffs that lead from the head to the epoch of a boundary; return both.

        Raises ``PeerFault`` or ``Unreachable``. What was proved until then counts in the next try.
        """
        genesis, state = self._archive.genesis, self._archive.head.state
        known, path = self._path or (KnownEpoch(0, ()), ())
        epoch = epoch_of(genesis.epoch_blocks, boundary.height)
        if not state.next_epoch < known.epoch <= epoch:
            known, path = KnownEpoch(state.next_epoch, state.validators), ()
        while known.epoch < epoch:
            data = await self._ask(peer, HANDOFFS, boundary.height, known.epoch, HANDOFFS_BYTES_MAX)
            page = decode(HandoffsReply, data, limit=HANDOFFS_BYTES_MAX).handoffs
            if not page:
                raise BrokenPromise(f"no handoffs from epoch {known.epoch} to its snapshot")
            for handoff in page:  # each leads to a later epoch, or is refused: the loop ends
                known = advance(genesis, known, handoff)
                path = (*path, handoff)
                self._path = known, path
                await trio.lowlevel.checkpoint()
        return known, path

    async def _collect(self, offer: Offer, peers: Sequence[PeerId]) -> list[MapPart[Entry]]:
        """Fetch the parts of the first peer's offer, proved before; raise ``Unreachable`` if some fail."""
        names = {part.digest: i for i, part in enumerate(offer.parts) if part.digest != NO_DIGEST}
        self._parts = {name: part for name, part in self._parts.items() if name in names}
        missing = [i for name, i in names.items() if name not in self._parts]
        missing.reverse()
        async with trio.open_nursery() as nursery:
            for peer in peers[: min(WORKERS, len(missing))]:
                nursery.start_soon(self._fetch, peer, offer, peers[0], missing)
        for peer in peers[WORKERS:]:
            await self._fetch(peer, offer, peers[0], missing)
        if any(name not in self._parts for name in names):
            raise Unreachable("a snapshot of which nobody sends all parts")
        depth = (len(offer.parts) - 1).bit_length()
        return [
            self._parts.get(part.digest) or MapPart[Entry].build([], index=i, depth=depth)
            for i, part in enumerate(offer.parts)
        ]

    async def _fetch(self, peer: PeerId, offer: Offer, offerer: PeerId, missing: list[int]) -> None:
        """Fetch missing parts from one peer until there are none, or it fails.

        The names of parts of a single entry do not prove its place: if one is false, it may be the offer's.
        """
        assert offer.boundary is not None, "checked"
        height = offer.boundary.height
        while missing:
            number = missing.pop()
            name = offer.parts[number]
            try:
                data = await self._ask(peer, PART, height, number, PART_BYTES_MAX)
                part = check_part(offer, number, data)
            except (Unreachable, PeerFault) as error:
                missing.append(number)
                if isinstance(error, PeerFault) and (peer == offerer or not name.is_single):
                    self._host.blame(peer, error)
                return
            self._parts[name.digest] = part

    async def fill(self, peers: Sequence[PeerId], oldest: Height) -> None:
        """Fetch the blocks from ``oldest`` on that are missing before the first one, where peers have them."""
        for peer in peers:
            try:
                while self._archive.first > oldest:
                    first, parent = self._archive.first, self._archive.first_parent()
                    data = await self._ask(peer, EARLIER, first, 0, EARLIER_BYTES_MAX)
                    blocks = check_earlier(data, first, parent)
                    if not blocks:
                        break
                    await self._archive.prepend(blocks)
            except Unreachable:
                continue
            except PeerFault as fault:
                self._host.blame(peer, fault)

    async def _ask(
        self, peer: PeerId, subject: int, height: int, number: int, reply_limit: int
    ) -> bytes:
        data = await self._host.call(
            peer,
            SNAPSHOT_PROTOCOL,
            encode(SnapshotRequest(subject, Height(height), number)),
            timeout_s=CALL_TIMEOUT_S,
            reply_limit=reply_limit,
        )
        self.num_bytes += len(data)
        return data

    # ---- server

    async def _answer(self, peer: PeerId, request: bytes) -> bytes:
        asked = parse_request(request)
        if asked.subject == OFFER:
            cut = await self._newest()
            return encode(NO_OFFER if cut is None else cut.offer)
        if asked.subject == HANDOFFS:
            return await self._host.work_for(peer, self._handoffs, asked.number, asked.height)
        if asked.subject == PART:
            return await self._host.work_for(peer, self._part, asked.height, asked.number)
        return await self._host.work_for(peer, self._earlier, asked.height)

    async def _newest(self) -> _Cut | None:
        """Return the newest snapshot, cut; None if there is none."""
        async with self._cutting:
            boundary = await trio.to_thread.run_sync(self._archive.newest_boundary)
            if boundary is None:
                return None
            if not self._cuts or self._cuts[-1].boundary.height != boundary.height:
                parts = await trio.to_thread.run_sync(cut_state, boundary.state)
                offer = compose_offer(boundary.handoff, parts)
                self._cuts = [*self._cuts, _Cut(boundary, offer, parts)][-CUTS_KEPT:]
            return self._cuts[-1]

    def _handoffs(self, known: int, height: Height) -> bytes:
        epoch_blocks = self._archive.genesis.epoch_blocks
        upto = epoch_of(epoch_blocks, height)
        found, size = list[Handoff](), 0
        for handoff in read_handoffs(self._archive.store, epoch_blocks, known, upto):
            found.append(handoff)
            size += len(encode(handoff))
            if size >= HANDOFFS_BYTES:
                break
        return encode(HandoffsReply(tuple(found)))

    def _part(self, height: Height, number: int) -> bytes:
        cut = next((cut for cut in self._cuts if cut.boundary.height == height), None)
        if cut is None or number >= len(cut.parts):
            raise Pruned(f"no part {number} of a snapshot of height {height} here")
        return encode(compose_part(cut.parts[number]))

    def _earlier(self, below: Height) -> bytes:
        found, size, height = list[Block](), 0, below - 1
        while size < EARLIER_BYTES and len(found) < EARLIER_BLOCKS_MAX:
            link = self._archive.block_at(Height(height))
            if link is None:
                break
            found.append(link[0])
            size += len(encode(link[0]))
            height -= 1
        return encode(EarlierReply(tuple(found)))
