"""Keep, serve and fetch the lists of what seats sent, and find in them who sent something else.

Shell: two tables in memory and two on the disk; every wait has an end.

    log of a window, ours or replayed --note--> messages by the segment of their sender
    final block --run--> segments on the ledger --SentLists.get--> find_lie --> EdgeFraud --> ledger
                                                '--nobody serves it for a round--> DemandEntry --> ledger
    final block --show--> demands of lists that are here --> ShowEntry --> ledger

A list is small and its root is on the ledger, so it is served to everybody: an auditor needs no stake for it.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from swarm.errors import (
    BadConfig,
    BadEncoding,
    Corrupt,
    DiskFull,
    InvalidStatement,
    PeerFault,
    Unreachable,
)
from swarm.events import EventKind
from swarm.gossip.trade.service import TradeLinks
from swarm.ledger.check_statements import check_seat
from swarm.ledger.demands import ShowEntry
from swarm.ledger.describe_checks import EDGE_TEXTS, SIGNED_TEXTS
from swarm.ledger.edges import EdgeFraud, EdgeMessage
from swarm.ledger.state.accusations import Demand
from swarm.ledger.state.records import SegmentPhase, SegmentRecord
from swarm.ledger.state.state import State
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.crypto import peer_name
from swarm.primitives.edges import SentEntry, open_place, sent_root
from swarm.store import ITEMS_MAX, Store
from swarm.types import NO_DIGEST, Digest, PeerId, RoundIndex, RunIndex, StageIndex
from swarm.verify.answers import SegmentKey, key_of
from swarm.verify.changes import where
from swarm.verify.demands import answers_due, demand_due
from swarm.verify.edge_notes import EdgeNotes, packed, unpacked
from swarm.verify.edges import SENT_BYTES_MAX, SentList, decode_list, encode_list, find_lie
from swarm.verify.log_store import is_needed
from swarm.verify.ports import EventPort, LedgerPort

SENT_PROTOCOL = "/swarm/sent/1"
REQUEST_BYTES_MAX = 64
SERVED_MAX = 8
SERVED_PER_PEER_MAX = 2
ASK_TIMEOUT_S = 20.0
"""Seconds for a list of up to 2 MB; most have some ten thousand bytes."""
TABLE = "sent_lists"
OTHERS_BYTES_MAX = 64 << 20
"""Bytes of lists of others that are kept in memory; the oldest are dropped first."""
COMPARED_AT_ONCE = 4
OTHERS_ASKED = 2
"""Peers of the round that are asked for a list besides those that must have it, others at each try."""
TRY_AGAIN_BLOCKS = 3
"""Blocks between two tries to get a list that nobody served, or to hand in what is not final."""


class SentRequest(Message, frozen=True):
    """Request for the list of a segment."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """A list as it is sent, which takes a fraction of the memory of its entries, under its root."""

    root: Digest
    raw: bytes


class SentLists:
    """Lists of our own segments, and those of others that were fetched."""

    def __init__(self, host: TradeLinks, ledger: LedgerPort, store: Store) -> None:
        """Load our own lists from the disk and serve them; raises ``Corrupt`` if they are damaged."""
        self._host, self._ledger, self._store = host, ledger, store
        self._own: dict[SegmentKey, _Kept] = {}
        self._others: OrderedDict[SegmentKey, _Kept] = OrderedDict()
        self._others_bytes = 0
        self._load()
        host.serve(
            SENT_PROTOCOL,
            self._serve,
            request_limit=REQUEST_BYTES_MAX,
            concurrency=SERVED_MAX,
            per_peer=SERVED_PER_PEER_MAX,
        )

    async def keep(self, key: SegmentKey, entries: Sequence[SentEntry]) -> None:
        """Store the list of a segment of our own, durably; raises ``BadConfig`` when the disk is full."""
        kept = _Kept(sent_root(entries), encode_list(entries))
        try:
            await self._store.write_soon([(TABLE, packed(key), kept.raw)])
        except DiskFull as error:
            raise BadConfig(str(error), hint=error.hint) from None
        self._own[key] = kept

    async def get(self, record: SegmentRecord, peers: Sequence[PeerId]) -> tuple[SentEntry, ...]:
        """Return the list that a segment's commit names, from here or from one of ``peers``.

        Raises ``Unreachable`` if none of them serves it.
        """
        known = self._known(record)
        if known is not None:
            return decode(SentList, known, limit=SENT_BYTES_MAX).entries
        request = encode(SentRequest(*key_of(record)))
        for peer in peers:
            if peer == self._host.peer:
                continue
            try:
                raw = await self._host.call(
                    peer,
                    SENT_PROTOCOL,
                    request,
                    timeout_s=ASK_TIMEOUT_S,
                    reply_limit=SENT_BYTES_MAX,
                )
                entries = await trio.to_thread.run_sync(decode_list, raw, record.sent_root)
            except PeerFault as fault:
                self._host.blame(peer, fault)
            except Unreachable:
                pass
            else:
                self._remember(key_of(record), _Kept(record.sent_root, raw))
                return entries
        raise Unreachable(f"no peer serves the list of what {where(record)} sent")

    def known(self, record: SegmentRecord) -> tuple[SentEntry, ...]:
        """Return the list that a segment's commit names, which is here."""
        raw = self._known(record)
        assert raw is not None, "it is here"
        return decode(SentList, raw, limit=SENT_BYTES_MAX).entries

    def has(self, record: SegmentRecord) -> bool:
        """Return True if the list that a segment's commit names is here."""
        return self._known(record) is not None

    def adopt(self, record: SegmentRecord, raw: bytes) -> None:
        """Keep and serve the encoded list that a segment's commit names; its caller has checked it."""
        if self._known(record) is None:
            self._remember(key_of(record), _Kept(record.sent_root, raw))

    async def tidy(self, state: State) -> None:
        """Remove the lists of segments that the ledger has forgotten, or will never have."""
        stale = [key for key in self._own if not is_needed(state, key, is_own=True)]
        if stale:
            try:
                await self._store.write_soon([(TABLE, packed(key), None) for key in stale])
            except DiskFull as error:
                raise BadConfig(str(error), hint=error.hint) from None
        for key in stale:
            self._own.pop(key, None)

    def _known(self, record: SegmentRecord) -> bytes | None:
        if record.sent_root == NO_DIGEST:
            return encode_list(())
        key = key_of(record)
        for table in (self._own, self._others):
            kept = table.get(key)
            if kept is not None and kept.root == record.sent_root:
                return kept.raw
        return None

    def _remember(self, key: SegmentKey, kept: _Kept) -> None:
        old = self._others.pop(key, None)
        self._others[key] = kept
        self._others_bytes += len(kept.raw) - (len(old.raw) if old is not None else 0)
        while self._others_bytes > OTHERS_BYTES_MAX:
            _, dropped = self._others.popitem(last=False)
            self._others_bytes -= len(dropped.raw)

    async def _serve(self, _peer: PeerId, raw: bytes) -> bytes:
        """Serve the list of a committed segment: before the commit it would bind a seat that begins again."""
        asked = decode(SentRequest, raw, limit=REQUEST_BYTES_MAX)
        check_seat(asked.run, asked.round, asked.stage, asked.seat)
        key = (asked.run, asked.round, asked.stage, asked.seat)
        record = self._ledger.state.segment(*key)
        raw_list = None if record is None else self._known(record)
        if raw_list is None:
            raise Unreachable("this list is not here")
        return raw_list

    def _load(self) -> None:
        after = b""
        while rows := self._store.items(TABLE, after=after, limit=ITEMS_MAX):
            for name, raw in rows:
                try:
                    entries = decode(SentList, raw, limit=SENT_BYTES_MAX).entries
                except BadEncoding as error:
                    raise Corrupt(f"a list of what this node sent is damaged: {error}") from None
                self._own[unpacked(name)] = _Kept(sent_root(entries), raw)
            after = rows[-1][0]


class EdgeWatch:
    """Comparison of what other seats signed for us, and for those we check, with their lists."""

    def __init__(
        self, host: TradeLinks, ledger: LedgerPort, store: Store, report: EventPort
    ) -> None:
        """Load lists and messages from the disk; raises ``Corrupt`` if they are damaged."""
        self.compared = 0
        """Messages that were found in the list of their sender."""
        self.lists, self.notes = SentLists(host, ledger, store), EdgeNotes(store)
        self._me, self._ledger, self._report = host.peer, ledger, report
        self._proofs: dict[SegmentKey, EdgeFraud] = {}
        self._tried: dict[SegmentKey, int] = {}
        self._shown: dict[tuple[SegmentKey, int], int] = {}

    async def note(self, messages: Iterable[EdgeMessage]) -> None:
        """Keep messages until their senders' segments are on the ledger."""
        await self.notes.add(messages)

    async def run(self) -> None:
        """Compare after every final block, and demand what nobody serves, until cancelled."""
        height = self._ledger.state.height
        while True:
            state = await self._ledger.wait_height(height + 1)
            height = state.height
            due = await self._due(state)
            async with trio.open_nursery() as nursery:
                for record in due[:COMPARED_AT_ONCE]:
                    nursery.start_soon(self._compare, record)

    async def show(self) -> None:
        """Answer, after every final block, the demands of lists that are here, until cancelled."""
        height = self._ledger.state.height
        while True:
            state = await self._ledger.wait_height(height + 1)
            height = state.height
            due = answers_due(state, self._me, self.lists.has)
            self._shown = {
                (key_of(record), number): self._shown.get((key_of(record), number), -1)
                for record, number in due
            }
            for record, number in due:
                await self._show(record, number)

    async def _show(self, record: SegmentRecord, number: int) -> None:
        key, height = (key_of(record), number), self._ledger.state.height
        before = self._shown[key]
        if before >= 0 and height - before < TRY_AGAIN_BLOCKS:
            return
        self._shown[key] = height
        demand, entries = record.demands[number], self.lists.known(record)
        opening = await trio.to_thread.run_sync(open_place, entries, demand.place)
        if opening is None:
            return
        if record.peer == self._me and before < 0:
            self._tell_demanded(record, demand)
        with suppress(InvalidStatement):  # another's answer was first; else it is tried again
            await self._ledger.submit(ShowEntry(*key_of(record), number, opening))

    def _tell_demanded(self, record: SegmentRecord, demand: Demand) -> None:
        who = peer_name(demand.peer)
        text = (
            f"{who} says that nobody serves it the list of what {where(record)} sent: an entry is shown on the"
            " ledger; can peers reach this node?"
        )
        fields = {"round": record.round, "stage": record.stage, "seat": record.seat}
        self._report(EventKind.WARNING, text, **fields)

    async def _due(self, state: State) -> list[SegmentRecord]:
        """Return the segments to compare now; forget those that are convicted, forgotten or never came."""
        found = list[SegmentRecord]()
        for key in self.notes.segments():
            record = state.segment(*key)
            is_over = record is not None and record.phase is SegmentPhase.GUILTY
            if (
                is_over
                or not is_needed(state, key, is_own=True)
                or (record and record.peer == self._me)
            ):
                await self._forget(key)
            elif record is not None:
                tried = self._tried.get(key, -TRY_AGAIN_BLOCKS)
                if state.height - tried >= TRY_AGAIN_BLOCKS:
                    found.append(record)
        return sorted(found, key=lambda record: self._tried.get(key_of(record), -1))

    async def _compare(self, record: SegmentRecord) -> None:
        key = key_of(record)
        self._tried[key] = self._ledger.state.height
        proof = self._proofs.get(key)
        if proof is None:
            try:
                entries = await self.lists.get(record, self._holders(record))
            except Unreachable:
                await self._demand(key)
                return
            messages = self.notes.of(key)
            proof = await trio.to_thread.run_sync(find_lie, messages, record.incarnation, entries)
            if proof is None:
                self.compared += len(messages)
                await self._forget(key)
                return
            self._proofs[key] = proof
            self._tell(record, proof)
        with suppress(
            InvalidStatement
        ):  # it is on its way, or another's was first; else it is tried again
            await self._ledger.submit(proof)

    def _holders(self, record: SegmentRecord) -> tuple[PeerId, ...]:
        """Return the peers to ask for a list: its solver, who checks it, two of its round, others each time."""
        state = self._ledger.state
        info = state.round_info(record.run, record.round)
        seats = [seat.peer for row in info.seats for seat in row] if info is not None else []
        others = [peer for peer in dict.fromkeys(seats) if peer != self._me]
        first = state.height % len(others) if others else 0
        others = (others[first:] + others[:first])[:OTHERS_ASKED]
        return tuple(
            dict.fromkeys((record.peer, *(check.peer for check in record.checks), *others))
        )

    async def _demand(self, key: SegmentKey) -> None:
        """Demand a list that nobody serves, if it is time to."""
        state = self._ledger.state
        record = state.segment(*key)
        body = None if record is None else demand_due(state, record, self._me, self.notes.of(key))
        if record is None or body is None:
            return
        what = SIGNED_TEXTS[type(body.message)]
        text = (
            f"nobody serves the list of what {where(record)} sent: the ledger asks its solver to"
            f" show in it {what} that this node received"
        )
        fields = {"round": record.round, "stage": record.stage, "seat": record.seat}
        self._report(EventKind.WARNING, text, **fields)
        with suppress(InvalidStatement):  # others were first; else it is tried again
            await self._ledger.submit(body)

    def _tell(self, record: SegmentRecord, proof: EdgeFraud) -> None:
        text = (
            f"{where(record)} is false: {EDGE_TEXTS[type(proof.message)]}; the proof is on its way"
        )
        fields = {"round": record.round, "stage": record.stage, "seat": record.seat}
        self._report(EventKind.WARNING, text, **fields)

    async def _forget(self, key: SegmentKey) -> None:
        await self.notes.forget(key)
        self._proofs.pop(key, None)
        self._tried.pop(key, None)
