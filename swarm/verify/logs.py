"""Find, fetch and replay the logs of windows, and serve the manifests kept here.

Shell: asks the possible holders, blames peers for their faults; every wait has an end. One replay runs at a
time, urgent ones first.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import trio
from torch import Tensor

from swarm.errors import BadConfig, BrokenPromise, InvalidStatement, PeerFault, Unreachable
from swarm.events import EventKind
from swarm.executor import ExecutorPort
from swarm.gossip.trade.service import TradeLinks
from swarm.ledger.state.records import Run, SegmentRecord
from swarm.ledger.transition.forced import known_seed, seed_for
from swarm.ledger.transition.phases import open_checks, open_contest
from swarm.primitives.codec import encode
from swarm.primitives.commitments import REFUSED, WindowResult
from swarm.primitives.crypto import SecretKey, peer_name
from swarm.training.record.window import STATES_EVERY, WINDOW_BYTES_MAX, WindowKey
from swarm.types import Bytes, Digest, PeerId
from swarm.verify.answers import SegmentKey, Sought, seat_of
from swarm.verify.changes import where
from swarm.verify.court import window_of
from swarm.verify.free_audits import FreeAudits
from swarm.verify.log_store import LogStore, ShownBlobs
from swarm.verify.manifest import (
    MANIFESTS_MAX,
    REPLY_BYTES_MAX,
    REQUEST_BYTES_MAX,
    WINDOW_PROTOCOL,
    WindowFound,
    WindowManifest,
    WindowMissing,
    decode_reply,
    decode_request,
    request_of,
)
from swarm.verify.ports import ArtifactPort, BlobsPort, EventPort, LedgerPort
from swarm.verify.replay import Committed
from swarm.verify.replay_process import Log, Material, ReplayPort, read_filled
from swarm.verify.round_plan import past_plan
from swarm.verify.sent_lists import EdgeWatch
from swarm.verify.spots.checking import Spot, edges_in_opened
from swarm.verify.spots.proof import FalseTrace, TraceProof, trace_fraud
from swarm.verify.spots.service import OwnWindow, SpotChecks, SpotResult
from swarm.verify.spots.statement import SpotStatement
from swarm.verify.tolerance import Comparison


class RefusedLog(Unreachable):
    """A log that no honest solver writes was served: that counts as none."""


REFUSED_TEXT = "the log that its solver signed cannot be an honest one, and counts as not served"


class ReplayQueue:
    """Lock with two queues: who answers in a dispute waits for at most one replay that is not urgent."""

    def __init__(self) -> None:
        self._is_taken = False
        self._num_urgent = 0
        self._changed = trio.Event()

    @asynccontextmanager
    async def take(self, *, urgent: bool) -> AsyncGenerator[None]:
        """Hold the lock for the length of the block."""
        self._num_urgent += urgent
        try:
            while self._is_taken or (self._num_urgent and not urgent):
                await self._changed.wait()
            self._is_taken = True
        finally:
            self._num_urgent -= urgent
            self._notify()
        try:
            yield
        finally:
            self._is_taken = False
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


ASK_TIMEOUT_S = 10.0
"""Seconds for a reply of a few hundred bytes, over a link that may have to be dialled first."""
ASK_AGAIN_S = 3.0
"""Seconds between two requests to a peer: a solver may still be writing the log, a verifier fetching it."""
FETCH_PATIENCE_S = 20.0
"""Seconds without progress after which a fetch is given up for now; received chunks stay for the next try."""
FETCH_S_MAX = 900.0
"""Seconds for one fetch: the largest log at 2.5 Mbit/s. A slower peer counts as one that does not serve."""
ANCHORS_MAX = 2
"""Anchors of one log: the one the segment began with, and the one that replaced it at the boundary."""
SERVED_MAX = 16
SERVED_PER_PEER_MAX = 4


class Logs:
    """Client and server for the logs of windows."""

    def __init__(
        self,
        *,
        host: TradeLinks,
        secret: SecretKey,
        ledger: LedgerPort,
        blobs: BlobsPort,
        log_store: LogStore,
        shelf: ShownBlobs,
        compute: ExecutorPort,
        artifacts: ArtifactPort,
        replays: ReplayPort,
        watch: EdgeWatch,
        report: EventPort,
    ) -> None:
        self._watch = watch
        self._host, self._ledger, self._blobs, self._log_store = host, ledger, blobs, log_store
        self._compute, self._artifacts, self._replays = compute, artifacts, replays
        self._report = report
        self._turns = ReplayQueue()
        self._free_audits = FreeAudits()
        self._is_full_reported = False
        self._spotted: dict[WindowKey, SpotStatement] = {}
        self._refused: dict[WindowKey, set[Digest]] = {}
        """Logs that no honest solver writes, by root: they are replayed once."""
        self._sound: set[WindowKey] = set()
        """Windows of which a log was replayed, and is not refused."""
        self.spots = SpotChecks(
            host=host,
            secret=secret,
            ledger=ledger,
            blobs=blobs,
            shelf=shelf,
            compute=compute,
            turn=lambda: self._turns.take(urgent=False),
            own=self.own_window,
            spot=self._spot,
            admits=self._admits,
            is_drawn=self._is_drawn,
            forced=self._forced,
        )
        """Spot checks of windows, in runs that are checked so."""
        blobs.keep_back(self._is_kept_back)
        host.serve(
            WINDOW_PROTOCOL,
            self._serve,
            request_limit=REQUEST_BYTES_MAX,
            concurrency=SERVED_MAX,
            per_peer=SERVED_PER_PEER_MAX,
        )

    async def ask(self, peer: PeerId, sought: Sought) -> bool:
        """Ask one peer for the manifests of a window and keep them.

        Returns False if the peer did not answer, or if the disk could not take the manifests.
        """
        chain, key = self._ledger.state.chain, sought.key
        solver, run_digest = sought.record.peer, sought.run.spec_digest
        try:
            raw = await self._host.call(
                peer,
                WINDOW_PROTOCOL,
                encode(request_of(key)),
                timeout_s=ASK_TIMEOUT_S,
                reply_limit=REPLY_BYTES_MAX,
            )
            manifests = decode_reply(raw, key, solver, chain, run_digest)
        except PeerFault as fault:
            self._host.blame(peer, fault)
            return True
        except Unreachable:
            return False
        try:
            for manifest in manifests:
                await self._note(manifest, sought.record, peer)
        except BadConfig as error:
            self._warn_full(error)
            return False
        return True

    async def keep_asking(
        self, peer: PeerId, sought: Sought, on_answer: Callable[[PeerId], None]
    ) -> None:
        """Ask one peer repeatedly until cancelled; call ``on_answer`` with it after each answer."""
        while True:
            if await self.ask(peer, sought):
                on_answer(peer)
            await trio.sleep(ASK_AGAIN_S)

    def holds(self, key: WindowKey) -> bool | None:
        """Return True if a window was served to this node, False if not; None while it cannot tell.

        It was if a signed log and the list of its segment are here; in a run with exact numerics if that was
        replayed, too, and is not refused. In one that is checked at elements: if they were looked at.
        """
        if key in self._spotted:
            return True
        manifests, record = (
            self._log_store.manifests(key),
            self._ledger.state.segment(*seat_of(key)),
        )
        refused = self._refused.get(key, set[Digest]())
        here = [one for one in manifests if one.root not in refused and self._blobs.has(one.root)]
        if record is None or not here or not self._watch.lists.has(record):
            return False
        is_exact = self._ledger.state.run(key.run).spec.is_exact
        is_replayed = key in self._log_store.answers or key in self._sound
        return True if is_replayed or not is_exact else None

    async def hold(self, sought: Sought, holders: Sequence[PeerId]) -> bool:
        """Get a signed log of a window and the list of its segment; return True if they are here, and sound.

        In a run with exact numerics the log is replayed: one that is refused was not served.
        """
        spec = sought.run.spec
        if spec.is_exact and not spec.checks.spots:
            return await self._hold_sound(sought, holders)
        if spec.checks.spots:
            try:
                await self._check_spots(sought)
            except (Unreachable, BadConfig):
                return False
            return True
        try:
            await self._watch.lists.get(sought.record, holders)
        except Unreachable:
            return False
        for manifest in self._log_store.manifests(sought.key):
            try:
                await self._fetch(manifest, sought.record, holders)
            except (Unreachable, BadConfig):
                continue
            return True
        return False

    async def _hold_sound(self, sought: Sought, holders: Sequence[PeerId]) -> bool:
        for manifest in self._log_store.manifests(sought.key):
            try:
                await self.replay(manifest, sought, holders, urgent=True)
            except (Unreachable, BadConfig):
                continue
            return True
        return False

    def _check_sound(self, manifest: WindowManifest, sought: Sought, answer: WindowResult) -> None:
        """Raise ``RefusedLog``, and blame the solver, for a log that no honest one writes."""
        if answer != REFUSED:
            self._sound.add(sought.key)
            return
        self._refused.setdefault(sought.key, set()).add(manifest.root)
        self._host.blame(sought.record.peer, BrokenPromise(REFUSED_TEXT))
        raise RefusedLog(REFUSED_TEXT)

    def forget(self, live: Collection[SegmentKey]) -> None:
        """Drop what is known of the logs of segments that are not in ``live``."""
        self._sound = {key for key in self._sound if seat_of(key) in live}
        for key in [key for key in self._refused if seat_of(key) not in live]:
            del self._refused[key]

    async def replay(
        self,
        manifest: WindowManifest,
        sought: Sought,
        holders: Sequence[PeerId],
        *,
        urgent: bool,
    ) -> Comparison:
        """Fetch a signed log and replay it; in a run that is checked at elements, look at those instead.

        Args:
            manifest: Manifest of the log.
            sought: Window of the log, with its segment and run.
            holders: Peers to fetch the log from.
            urgent: True to go before all replays that are not urgent.

        Returns:
            The answer of the log. In a run without exact numerics it is ``REFUSED`` if no honest solver could
            have written it; in any other its distance is 0.

        Raises:
            RefusedLog: For such a log in a run with exact numerics: its solver is blamed, and served nothing.
            Unreachable: If the log, the list of what was sent, the text, an anchor or the weights below it are
                not available now.
            BadConfig: If the disk cannot take them.
        """
        if sought.run.spec.checks.spots:
            return Comparison(await self._check_spots(sought), 0.0, 0.0)
        if manifest.root in self._refused.get(sought.key, ()):
            raise RefusedLog(REFUSED_TEXT)
        material = await self.gather(manifest, sought, holders, urgent=urgent)
        log = material.log
        given = (log, material.tokens, material.anchors, material.base_W)
        try:
            async with self._turns.take(urgent=urgent):
                if sought.run.spec.is_exact:
                    answer = await self._compute.run(self._replays.answer, *given)
                    self._check_sound(manifest, sought, answer)
                    found = Comparison(answer, 0.0, 0.0)
                else:
                    found = await self._compute.run(self._replays.compare, *given)
                messages = await self._compute.run(self._replays.edges, log)
        except BrokenPromise as fault:
            raise await self._damaged(manifest, sought.record, fault) from None
        await self._watch.note(messages)
        return found

    async def gather(
        self,
        manifest: WindowManifest,
        sought: Sought,
        holders: Sequence[PeerId],
        *,
        urgent: bool = False,
    ) -> Material:
        """Fetch a signed log and all that its replay reads; arguments and errors are those of ``replay``."""
        record, run = sought.record, sought.run
        plan = past_plan(self._ledger.state, run, manifest.round)
        if plan is None:
            raise Unreachable(f"the ledger has forgotten round {manifest.round}")
        tokens = await self._artifacts.tokens(run)
        path = await self._fetch(manifest, record, holders)
        sent = await self._watch.lists.get(record, holders)
        committed = Committed(record.start_root, record.num_steps, record.incarnation, sent)
        log = Log(path, manifest, plan, committed)
        try:
            async with self._turns.take(urgent=urgent):
                named = await self._compute.run(self._replays.anchors, log)
        except BrokenPromise as fault:
            raise await self._damaged(manifest, record, fault) from None
        anchors = await self._anchors(named, run, manifest)
        base_W = await self._artifacts.base(run, manifest.stage)
        return Material(log, tokens, anchors, base_W)

    # --- runs that are checked at elements ---

    async def own_window(self, key: WindowKey) -> OwnWindow:
        """Return a committed window of our own, with all that its programs are computed from.

        Most logs have no start state: it is computed from the last one that has. Raises ``Unreachable`` if a
        log is not here, or the segment is not on the ledger.
        """
        first = key.window - key.window % STATES_EVERY
        materials = list[Material]()
        for window in range(first, key.window + 1):
            one, manifest = self._own(replace(key, window=window))
            materials.append(await self.gather(manifest, one, ()))
        sought, _ = self._own(key)
        window_there = window_of(self._ledger.state, sought.record, key.window)
        async with self._turns.take(urgent=False):
            log = await self._compute.run(read_filled, materials)
        last = materials[-1]
        spot = Spot(window_there, log.plan, key, last.log.committed, last.tokens)
        return OwnWindow(window_there, log, spot)

    def _own(self, key: WindowKey) -> tuple[Sought, WindowManifest]:
        """Return a committed window of our own and its manifest; raise ``Unreachable`` if it is none."""
        state = self._ledger.state
        record, run = state.segment(*seat_of(key)), state.find_run(key.run)
        manifests = self._log_store.manifests(key)
        if record is None or run is None or record.peer != self._host.peer or not manifests:
            raise Unreachable("no committed window of this node")
        return Sought(key, record, run), manifests[0]

    async def _spot(self, sought: Sought) -> Spot:
        """Return what the ledger and the run have of a window that is to be checked at elements."""
        record, run, state = sought.record, sought.run, self._ledger.state
        plan = past_plan(state, run, record.round)
        if plan is None:
            raise Unreachable(f"the ledger has forgotten round {record.round}")
        tokens = await self._artifacts.tokens(run)
        sent = await self._watch.lists.get(record, sought.sources(self._host.peer))
        committed = Committed(record.start_root, record.num_steps, record.incarnation, sent)
        window = window_of(state, record, sought.key.window)
        return Spot(window, plan, sought.key, committed, tokens)

    async def look(self, sought: Sought) -> SpotResult:
        """Check a window at elements; raise as ``SpotChecks.check`` does."""
        found = await self.spots.check(sought)
        await self._watch.note(edges_in_opened(found.opened))
        self._spotted[sought.key] = found.statement
        return found

    async def _check_spots(self, sought: Sought) -> WindowResult:
        """Check a window at elements; a lie that is found goes to the ledger, with its proof.

        Raises ``RefusedLog`` for a window that is proven false, and as ``look`` does.
        """
        found = await self.look(sought)
        if found.proof is not None:
            await self._accuse(sought.key, found.proof)
            raise RefusedLog("its solver has stated something false")
        return found.result

    async def false_elements(self, key: WindowKey, place: int) -> list[FalseTrace]:
        """Return what shows that a verifier approved what was false on purpose; empty if that was not false.

        ``place``: that of its check in the record. Raises ``Unreachable`` if the window is not here.
        """
        sought, _ = self._own(key)
        check = sought.record.checks[place]
        seed = known_seed(sought.record, sought.run.spec, check)
        if seed is None:
            return []
        found = await self.spots.false_elements(key, check.peer, seed, check.dice)
        return [one for one in found if one.statement.digest == check.said]

    async def accuse_contradictions(self) -> None:
        """Accuse every solver that has shown something else on the ledger than it stated to this node."""
        state = self._ledger.state
        for key, said in list(self._spotted.items()):
            record = state.segment(*seat_of(key))
            if record is None:
                del self._spotted[key]
            elif record.claims and record.claims[key.window] != said.claim:
                del self._spotted[key]
                await self._accuse(key, said)

    async def _accuse(self, key: WindowKey, proof: TraceProof) -> None:
        body = trace_fraud(key, proof)
        with suppress(InvalidStatement):  # another verifier was faster, or it is too late
            await self._ledger.submit(body)

    def _admits(self, peer: PeerId, key: WindowKey) -> bool:
        """Return True if a peer may ask for a spot check of a window of our own now."""
        try:
            sought, _ = self._own(key)
        except Unreachable:
            return False
        if sought.run.spec.checks.forced_nano and not sought.record.claims:
            # Who could compare what others are told would know without looking whether it is told the truth.
            case = open_contest(sought.record)
            is_heard = case is not None and case.window == key.window and self._has_stake(peer)
            return is_heard or self._is_drawn(peer, key)
        return self._has_stake(peer) or self._free_audits.admit(peer, key, trio.current_time())

    def _is_drawn(self, peer: PeerId, key: WindowKey) -> bool:
        """Return True if the ledger waits for a peer to check a window of ours."""
        record = self._ledger.state.segment(*seat_of(key))
        open_ = () if record is None else open_checks(record)
        return any((one.peer, one.window) == (peer, key.window) for one in open_)

    def _forced(self, peer: PeerId, key: WindowKey) -> Digest | None:
        """Return the seed of what a peer is to be told falsely of a window of ours; None for the truth."""
        state, shown = self._ledger.state, self._log_store.reveals.get(seat_of(key))
        record, run = state.segment(*seat_of(key)), state.find_run(key.run)
        if record is None or run is None or shown is None:
            return None
        for check in open_checks(record):
            if (check.peer, check.window) == (peer, key.window):
                return seed_for(record, run.spec, check, shown.salt)
        return None

    def _is_kept_back(self, root: Digest) -> bool:
        """Return True for a log of ours that nobody needs: some have gigabytes, and the state of a seat."""
        key = self._log_store.own_window(root)
        run = None if key is None else self._ledger.state.find_run(key.run)
        return run is not None and run.spec.checks.spots

    def _has_stake(self, peer: PeerId) -> bool:
        state = self._ledger.state
        is_validator = any(validator.peer == peer for validator in state.validators)
        return is_validator or state.account(peer).stake > 0

    async def adopt(
        self, manifest: WindowManifest, log: Bytes, sought: Sought, sent: Bytes
    ) -> None:
        """Keep and serve a log and its segment's list that came in a file, both checked by the caller.

        It is what a hearing about it follows from. Raises ``BadConfig`` if the disk or the quota
        is full.
        """
        await self._log_store.note(manifest, self._host.peer)
        if manifest in self._log_store.manifests(manifest.key):
            await self._blobs.add(log)
        self._watch.lists.adopt(sought.record, bytes(sent))

    async def _damaged(
        self, manifest: WindowManifest, record: SegmentRecord, fault: BrokenPromise
    ) -> Unreachable:
        """Remove a log that is not what its manifest names; return what to raise."""
        await self._blobs.remove(manifest.root)
        return Unreachable(f"{where(record)}: {fault}")

    async def _fetch(
        self, manifest: WindowManifest, record: SegmentRecord, holders: Sequence[PeerId]
    ) -> Path:
        if self._blobs.has(manifest.root):
            return self._blobs.path(manifest.root)
        if manifest.num_bytes > WINDOW_BYTES_MAX:
            raise Unreachable(f"the log of {where(record)} is longer than a checker takes")
        with trio.move_on_after(FETCH_S_MAX):
            return await self._blobs.fetch(
                manifest.root, manifest.num_bytes, lambda: holders, patience_s=FETCH_PATIENCE_S
            )
        raise Unreachable(f"no peer serves the log of {where(record)} fast enough")

    async def _anchors(
        self, named: frozenset[Digest], run: Run, manifest: WindowManifest
    ) -> dict[Digest, Tensor]:
        """Return the named anchors that are canonical; the replay refuses a log that needs another one."""
        anchors = dict[Digest, Tensor]()
        for root in sorted(named):
            is_canonical = self._artifacts.canonical(run, manifest.stage, root)
            if is_canonical and len(anchors) < ANCHORS_MAX:
                anchors[root] = await self._artifacts.anchor(run, manifest.stage, root)
        return anchors

    async def _note(self, manifest: WindowManifest, record: SegmentRecord, sender: PeerId) -> None:
        before = self._log_store.manifests(manifest.key)
        await self._log_store.note(manifest, sender)
        if len(before) == 1 and before[0].root != manifest.root:
            name, window = peer_name(record.peer), manifest.window
            self._report(
                EventKind.WARNING,
                f"{name} has signed two logs for window {window} of {where(record)}",
                round=manifest.round,
                stage=manifest.stage,
                seat=manifest.seat,
                window=window,
            )

    def _warn_full(self, error: BadConfig) -> None:
        """Warn once that the disk is full: it will not be better the next time."""
        if not self._is_full_reported:
            self._is_full_reported = True
            self._report(EventKind.WARNING, f"others' segments cannot be checked here: {error}")

    async def _serve(self, peer: PeerId, raw: bytes) -> bytes:
        """Serve the manifests of a committed segment's window: a few in an hour to peers without a stake.

        Before the commit a crash can make a seat begin its round again, and a peer that held its manifest of
        the first try could accuse the second.
        """
        key = decode_request(raw)
        is_committed = self._ledger.state.segment(*seat_of(key)) is not None
        is_stranger = not self._has_stake(peer)
        now = trio.current_time()
        if is_committed and is_stranger and not self._free_audits.admit(peer, key, now):
            raise Unreachable("peers without a stake get a few logs an hour here")
        manifests = self._log_store.manifests(key)[:MANIFESTS_MAX] if is_committed else ()
        return encode(WindowFound(manifests) if manifests else WindowMissing())
