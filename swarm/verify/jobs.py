"""Run the long jobs: replay a window that this node checks, or is a witness of, or sits on a panel about.

Shell: retries until done; the caller cancels a job when the ledger waits for it no longer.
"""

import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

import trio

from swarm.errors import BadConfig, SwarmError, Unreachable
from swarm.events import EventKind
from swarm.ledger.state.records import SegmentPhase, SegmentRecord
from swarm.primitives.codec import encode
from swarm.primitives.commitments import SALT_BYTES, WindowResult
from swarm.training.record.window import WindowKey
from swarm.types import Digest, PeerId
from swarm.verify.answers import (
    ForcedKey,
    OwnAnswer,
    SegmentKey,
    Sought,
    find_verdict,
    is_late,
    seat_of,
)
from swarm.verify.changes import where
from swarm.verify.log_store import LogStore
from swarm.verify.logs import Logs
from swarm.verify.manifest import WindowManifest
from swarm.verify.ports import EventPort, LedgerPort

TRY_AGAIN_S = 2.0
"""Seconds between two tries to get a log that no peer served."""


@dataclass(slots=True)
class _Inbox:
    """Peers that have answered one job, and the event that wakes it."""

    peers: set[PeerId] = field(default_factory=set[PeerId])
    """Peers that have answered, if only to say that they have no log."""
    event: trio.Event = field(default_factory=trio.Event)

    def add(self, peer: PeerId) -> None:
        """Note that a peer has answered."""
        self.peers.add(peer)
        self.event.set()

    async def wait(self) -> None:
        """Wait until a peer has answered, or it is time to try again."""
        with trio.move_on_after(TRY_AGAIN_S):
            await self.event.wait()
        self.event = trio.Event()


class _Results(dict[Digest, WindowResult]):
    """Results of the logs of one window, by root."""


class Jobs:
    """Checks under way, and what was found as a member of panels."""

    def __init__(
        self, me: PeerId, ledger: LedgerPort, log_store: LogStore, logs: Logs, report: EventPort
    ) -> None:
        self.verdicts: dict[WindowKey, bool] = {}
        """Verdicts on doubted windows: True if this node rejects."""
        self.forced: dict[ForcedKey, tuple[bytes, ...]] = {}
        """Proofs that verifiers approved errors of ours, by window and place of the check."""
        self._found: dict[WindowKey, OwnAnswer] = {}
        """Answers of panels, until they are on the disk."""
        self._me, self._ledger, self._log_store, self._logs = me, ledger, log_store, logs
        self._report = report
        self._warned: set[WindowKey] = set()

    def forget(self, live: Collection[SegmentKey]) -> None:
        """Drop the data of segments that are not in ``live``."""
        for key in [key for key in self.verdicts if seat_of(key) not in live]:
            del self.verdicts[key]
            self._found.pop(key, None)
        for one in [one for one in self.forced if seat_of(one[0]) not in live]:
            del self.forced[one]
        self._warned = {key for key in self._warned if seat_of(key) in live}

    async def check(self, key: WindowKey) -> None:
        """Replay the first log of a window that can be had, and store the answer on the disk."""
        await self._ask_until(key, self._answer)

    async def prove_forced(self, key: WindowKey, place: int) -> None:
        """Find what shows that a verifier approved an error that we made on purpose, if we did."""
        try:
            found = await self._logs.false_elements(key, place)
        except (Unreachable, BadConfig) as error:
            sought = self._find(key)
            if sought is not None:
                self._warn(key, sought.record, error)
            await trio.sleep(TRY_AGAIN_S)
            return
        self.forced[key, place] = tuple(map(encode, found))

    async def hold(self, key: WindowKey) -> None:
        """Get a sound log of a contested window, as a witness, and keep it for who was not served."""
        await self._ask_until(key, lambda sought: self._logs.hold(sought, sought.sources(self._me)))

    async def _ask_until(
        self, key: WindowKey, is_done: Callable[[Sought], Awaitable[bool]]
    ) -> None:
        """Ask all possible holders of a window for its log until something is done with it."""
        sought, answered = self._find(key), _Inbox()
        if sought is None:
            return
        async with trio.open_nursery() as nursery:
            for peer in sought.sources(self._me):
                nursery.start_soon(self._logs.keep_asking, peer, sought, answered.add)
            while not await is_done(sought):
                await answered.wait()
            nursery.cancel_scope.cancel()

    async def sit(self, key: WindowKey) -> None:
        """Find an answer as a member of a panel, from every log that can be had, and store it on the disk."""
        if key not in self._found:
            self.verdicts.pop(key, None)
            await self._hear(key)
        answer, sought = self._found.get(key), self._find(key)
        if answer is not None and sought is not None and await self._keep(answer, sought.record):
            del self._found[key]

    async def _hear(self, key: WindowKey) -> None:
        """Ask all possible holders of a window, and replay every log, until there is a verdict."""
        results, answered, begun = _Results(), _Inbox(), set[PeerId | Digest]()
        mine = self._log_store.answers.get(key)
        if mine is not None:
            results[mine.root] = mine.result
        async with trio.open_nursery() as nursery:
            while key not in self.verdicts:
                sought = self._find(key)
                if sought is None or sought.record.phase is not SegmentPhase.DOUBTED:
                    break
                for peer in sought.witnesses(self._me):
                    if peer not in begun:
                        begun.add(peer)
                        nursery.start_soon(self._logs.keep_asking, peer, sought, answered.add)
                for manifest in self._log_store.manifests(key):
                    if manifest.root not in begun | results.keys():
                        begun.add(manifest.root)
                        nursery.start_soon(self._claim, manifest, sought, results, answered)
                self._note(sought, results, answered)
                if key not in self.verdicts:
                    await answered.wait()
            nursery.cancel_scope.cancel()

    def _verdict(self, sought: Sought, results: _Results, answered: _Inbox) -> bool | None:
        key, record = sought.key, sought.record
        roots = {manifest.root for manifest in self._log_store.manifests(key)}
        is_all = answered.peers >= set(sought.witnesses(self._me)) and results.keys() >= roots
        is_complete = is_all or is_late(record, sought.run.spec, self._ledger.state.height)
        found = tuple(result.claim for result in results.values())
        return find_verdict(record, key.window, found, is_complete=is_complete)

    def _note(self, sought: Sought, results: _Results, answered: _Inbox) -> None:
        """Note the answer of a member of a panel: a log that is rejected, if there is one."""
        verdict, key = self._verdict(sought, results, answered), sought.key
        if verdict is None:
            return
        said = sought.record.claims[key.window]
        root = next(root for root, one in results.items() if (one.claim != said) is verdict)
        salt, window_id = secrets.token_bytes(SALT_BYTES), (*seat_of(key), key.window)
        self._found[key] = OwnAnswer(*window_id, salt, results[root], root)
        self.verdicts[key] = verdict

    async def _claim(
        self,
        manifest: WindowManifest,
        sought: Sought,
        results: _Results,
        answered: _Inbox,
    ) -> None:
        """Replay one log for a panel, as often as it takes to get it."""
        while True:
            answer = await self._try(manifest, sought, sought.witnesses(self._me), urgent=True)
            if answer is not None:
                results[manifest.root] = answer
                answered.event.set()
                return
            await trio.sleep(TRY_AGAIN_S)

    async def _answer(self, sought: Sought) -> bool:
        """Replay the first log that can be had; return True if an answer is on the disk."""
        key = sought.key
        for manifest in self._log_store.manifests(key):
            if sought.run.spec.checks.spots:
                return await self._look(sought, manifest)
            answer = await self._try(manifest, sought, sought.sources(self._me), urgent=False)
            if answer is not None:
                salt, window_id = secrets.token_bytes(SALT_BYTES), (*seat_of(key), key.window)
                mine = OwnAnswer(*window_id, salt, answer, manifest.root)
                return await self._keep(mine, sought.record)
        return False

    async def _look(self, sought: Sought, manifest: WindowManifest) -> bool:
        """Check a window at elements; return True if an answer is on the disk, and before it what proves it."""
        key, salt = sought.key, secrets.token_bytes(SALT_BYTES)
        try:
            found = await self._logs.look(sought)
            if found.proof is not None:
                await self._log_store.keep_proof(key, encode(found.proof))
        except (Unreachable, BadConfig) as error:
            self._warn(key, sought.record, error)
            return False
        answer = OwnAnswer(
            *seat_of(key),
            window=key.window,
            salt=salt,
            result=found.result,
            root=manifest.root,
            statement=encode(found.statement),
            is_false=found.proof is not None,
        )
        return await self._keep(answer, sought.record)

    async def _keep(self, answer: OwnAnswer, record: SegmentRecord) -> bool:
        try:
            await self._log_store.keep_answer(answer)
        except BadConfig as error:
            self._warn(answer.key, record, error)
            return False
        return True

    async def _try(
        self, manifest: WindowManifest, sought: Sought, peers: Sequence[PeerId], *, urgent: bool
    ) -> WindowResult | None:
        try:
            return (await self._logs.replay(manifest, sought, peers, urgent=urgent)).result
        except (Unreachable, BadConfig) as error:
            self._warn(sought.key, sought.record, error)
            return None

    def _warn(self, key: WindowKey, record: SegmentRecord, error: SwarmError) -> None:
        """Warn once for each window that cannot be replayed yet: it is tried again."""
        if key not in self._warned:
            self._warned.add(key)
            text = f"window {key.window} of {where(record)} cannot be replayed yet: {error}"
            self._report(EventKind.WARNING, text)

    def _find(self, key: WindowKey) -> Sought | None:
        state = self._ledger.state
        record, run = state.segment(*seat_of(key)), state.find_run(key.run)
        return None if record is None or run is None else Sought(key, record, run)
