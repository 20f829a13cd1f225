"""Check other peers' segments, reveal our own, audit, report and be heard: the entry point of verification.

Shell: carries out the duties from ``duties`` after every final block; decides nothing.

    final state --next_duties--> Submit       --> ledger
                                 CheckWindow  --> logs: fetch, replay --> answer, on the disk --> Submit
                                 FindMove     --> hearings: fetch, replay --> move --> Submit
"""

import math
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from swarm.errors import BadConfig, InvalidStatement, Reason, UsageError
from swarm.events import EventKind
from swarm.executor import ExecutorPort
from swarm.gossip.trade.service import TradeLinks
from swarm.ledger.check_statements import RevealSegment
from swarm.ledger.describe_checks import CHECK_KINDS
from swarm.ledger.state.records import CheckPhase, Run
from swarm.ledger.state.state import State
from swarm.ledger.transition.phases import open_checks
from swarm.primitives.commitments import SALT_BYTES
from swarm.primitives.crypto import SecretKey
from swarm.primitives.edges import SentEntry
from swarm.store import Store
from swarm.training.record.window import WindowData, WindowKey
from swarm.types import Digest, Height
from swarm.verify.answers import OwnAnswer, SegmentKey, key_of, seat_of
from swarm.verify.audit import AuditEvidence, AuditResult
from swarm.verify.audit_fetch import adopt, gather, inspect
from swarm.verify.background import BackgroundAudits
from swarm.verify.changes import OpenSegments, find_changes
from swarm.verify.draws import Draws
from swarm.verify.duties import (
    DutyStep,
    FindMove,
    HoldWindow,
    ProveForced,
    SitWindow,
    StepKey,
    Submit,
    VerifierView,
    next_duties,
)
from swarm.verify.edges import edges_in
from swarm.verify.evidence import Evidence
from swarm.verify.hearings import Hearings
from swarm.verify.jobs import Jobs
from swarm.verify.log_store import LogStore, ShownBlobs
from swarm.verify.logs import Logs
from swarm.verify.ports import ArtifactPort, BlobsPort, EventPort, LedgerPort
from swarm.verify.replay_process import FileReplays, Material, ReplayPort
from swarm.verify.sent_lists import EdgeWatch

CHECKS_AT_ONCE = 2
"""Windows that this node promises to replay at a time: two fit into a round on a machine that also trains."""
AT_ONCE: Mapping[type[DutyStep], int] = {HoldWindow: 2, SitWindow: 2}
"""Doubted and contested windows fetched at a time; the next waits for one of them."""
POLL_S = 2.0
"""Seconds after which the state is checked, even without a new block."""
JUMP_BLOCKS = 16
"""Blocks that the state moves at once only while the node catches up: nothing is done until it has."""
TIDY_BLOCKS = 20
"""Blocks between two searches of the disk for data that can no longer be requested."""

ANSWERED = frozenset(
    {CheckPhase.AGREED, CheckPhase.DIFFERED, CheckPhase.JACKPOT, CheckPhase.FOOLED}
)
"""Phases of checks that were answered and revealed."""
QUIET = frozenset({Reason.DUPLICATE, Reason.WRONG_PHASE, Reason.FULL, Reason.UNKNOWN_SEGMENT})
"""Refusals that are not reported: heights differ, or the statement is already on its way."""


class Started(Protocol):
    """Argument ``task_status`` of ``nursery.start``."""

    def started(self, value: None, /) -> None:
        """Report that the checks are running."""


@dataclass(slots=True)
class VerifierCounts:
    """Counters of this node since it started."""

    done: int = 0
    """Windows of others that were replayed, answered and revealed."""
    agreed: int = 0
    differed: int = 0
    missed: int = 0
    """Windows that were requested and not answered or not revealed in time."""
    jackpots: int = 0
    """Errors that others had made on purpose, and this node found."""
    convicted: int = 0
    """Segments of any peer that were proven false."""


class Verifier:
    """Verification service of one node; ``run`` carries out its duties until cancelled."""

    def __init__(
        self,
        *,
        host: TradeLinks,
        secret: SecretKey,
        chain: Digest,
        ledger: LedgerPort,
        blobs: BlobsPort,
        store: Store,
        compute: ExecutorPort,
        artifacts: ArtifactPort,
        report: EventPort,
        checks_at_once: int = CHECKS_AT_ONCE,
        audit_rate: float = 0.0,
        replays: ReplayPort | None = None,
    ) -> None:
        """Load what is stored on the disk and serve it.

        Args:
            host, secret: Links to the other peers; key of this node.
            chain, ledger: Digest of the genesis; final state, and the way to submit statements.
            blobs, store: Store of the logs; database of manifests, answers and reveals.
            compute: Executor with a worker of its own: training cannot wait for a replay of up to a minute.
            artifacts, report: Source of training tokens and anchors; receiver of events.
            checks_at_once, audit_rate: Windows replayed at a time, 0 for none; share of segments to audit.
            replays: Implementation of the replay; None for ``FileReplays``.

        Raises:
            Corrupt: If the stored data is damaged.
        """
        self.counts = VerifierCounts()
        self.log_store = LogStore(store, blobs, secret, chain)
        """Store of every log, answer and reveal on this disk."""
        self._me, self._ledger, self._report = secret.peer, ledger, report
        self._checks_at_once = checks_at_once
        self._draws = Draws(secret, chain)
        self.edges = EdgeWatch(host, ledger, store, report)
        """Comparison of what others signed with the lists that their commits name."""
        self._logs = Logs(
            host=host,
            secret=secret,
            ledger=ledger,
            blobs=blobs,
            log_store=self.log_store,
            shelf=ShownBlobs(store, blobs),
            compute=compute,
            artifacts=artifacts,
            replays=replays or FileReplays(),
            watch=self.edges,
            report=report,
        )
        where = (secret.peer, ledger, self.log_store, self._logs)
        self._work, self._hearings = Jobs(*where, report), Hearings(*where, compute, report)
        self._jobs: dict[DutyStep, trio.CancelScope] = {}
        self._sent: dict[StepKey, Height] = {}
        self._refused: set[StepKey] = set()
        self._background = BackgroundAudits(self, secret.peer, report, audit_rate)
        self._watch = OpenSegments()
        self._height, self._looked_at = ledger.state.height, -1
        self._tidied, self._due = Height(0), trio.Event()

    @property
    def jobs(self) -> Sequence[DutyStep]:
        """Windows being fetched or replayed now."""
        return tuple(self._jobs)

    async def run(self, *, task_status: Started = trio.TASK_STATUS_IGNORED) -> None:
        """Do what the ledger expects of this node until cancelled; start it when the ledger has caught up.

        Raises ``Corrupt`` when the disk fails.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wake)
            nursery.start_soon(self.edges.run)
            nursery.start_soon(self.edges.show)
            nursery.start_soon(self._logs.spots.run)
            nursery.start_soon(self._background.run)
            task_status.started(None)
            while True:
                self._due = trio.Event()
                await self._do_due(nursery)
                with trio.move_on_after(POLL_S):
                    await self._due.wait()

    async def keep_window(self, run: Run, data: WindowData) -> None:
        """Store a window of our own and serve it; raises ``BadConfig`` when the disk or the quota is full."""
        await self.log_store.keep_own(run, data)
        await self.edges.note(await trio.to_thread.run_sync(list, edges_in(data)))

    async def keep_reveal(self, body: RevealSegment, sent: Sequence[SentEntry]) -> None:
        """Store the reveal of a segment of our own and what it sent, before its commit is submitted.

        Raises ``BadConfig`` when the disk is full.
        """
        await self.edges.lists.keep((body.run, body.round, body.stage, body.seat), sent)
        await self.log_store.keep_reveal(body)

    def has_closed(self, key: SegmentKey) -> bool:
        """Return True if a segment of our own was closed, and may be committed, before this start or in it."""
        return key in self.log_store.reveals

    async def audit(self, key: WindowKey) -> AuditResult:
        """Fetch and replay any window on the ledger, and compare it with what its solver has revealed.

        It takes as long as fetching and replaying take. A log that cannot be replayed is named in the result.

        Args:
            key: Window to audit.

        Returns:
            The verdict, with the evidence if a log was replayed.

        Raises:
            UsageError: If the ledger has no such window, or its run cannot be checked.
        """
        return await inspect(self._me, self._ledger, self.log_store, self._logs, key)

    async def gather(self, evidence: AuditEvidence) -> Material:
        """Return everything that the replay of an audited log reads: what evidence for strangers is made of.

        Raises ``UsageError`` if the ledger has no such window any more, ``Unreachable`` if something cannot be
        had, and ``BadConfig`` if the disk cannot take it.
        """
        return await gather(self._me, self._ledger, self._logs, evidence)

    async def adopt(self, evidence: Evidence) -> None:
        """Keep and serve what came in proved evidence: this node's moves in a dispute are made from it.

        Raises ``UsageError`` if the ledger has no such window any more, ``BadConfig`` if the disk or the quota
        is full.
        """
        await adopt(self._ledger, self._logs, evidence)

    async def report(self, found: AuditResult | WindowKey) -> Digest:
        """Accuse the solver of a window on the ledger blindly, at the risk of a bond; ``run`` shows the answer.

        Args:
            found: Result of an audit, or a window, which is audited first.

        Returns:
            The name of the submitted statement.

        Raises:
            UsageError: If there is nothing to report, or a check of ours waits to be shown.
            BadConfig: If the disk is full.
            InvalidStatement: As the ledger's ``submit`` does.
        """
        if isinstance(found, WindowKey):
            found = await self.audit(found)
        answer = found.accusation(secrets.token_bytes(SALT_BYTES))
        if answer is None:
            raise UsageError(f"nothing to report: {found.text}")
        answer = await self._kept(answer)
        return await self._ledger.submit(answer.reported(self._me))

    async def _kept(self, answer: OwnAnswer) -> OwnAnswer:
        """Store an answer to report and return it, or the same one as stored before.

        What a check of ours or an earlier report is committed to must stay as it is, salt included: it could
        not be shown any more, and would cost the bond.
        """
        known = self.log_store.answers.get(answer.key)
        if known is not None and known.claim == answer.claim and not known.statement:
            return known
        record = self._ledger.state.segment(*seat_of(answer.key))
        if record is not None and any(check.peer == self._me for check in open_checks(record)):
            raise UsageError(
                "this node's own check of the segment is not over", hint="report it afterwards"
            )
        await self.log_store.keep_answer(answer)
        return answer

    # --- duties ---

    async def _wake(self) -> None:
        """Wake ``run`` when a block is final."""
        height = self._ledger.state.height
        while True:
            height = (await self._ledger.wait_height(height + 1)).height
            self._due.set()

    async def _do_due(self, nursery: trio.Nursery) -> None:
        state = self._ledger.state
        moved, self._height = state.height - self._height, state.height
        if moved > JUMP_BLOCKS:
            return
        if state.height != self._looked_at:
            self._looked_at = state.height
            self._report_changes(state)
            await self._logs.accuse_contradictions()
        steps = next_duties(self._known(state))
        for step in [step for step in steps if isinstance(step, Submit)]:
            await self._submit(step)
        self._set_to_work(nursery, [step for step in steps if not isinstance(step, Submit)])
        self._forget_old()
        if state.height - self._tidied >= TIDY_BLOCKS:
            self._tidied = state.height
            await self._tidy(state)

    async def _tidy(self, state: State) -> None:
        try:
            await self.log_store.tidy(state)
            await self.edges.lists.tidy(state)
        except BadConfig as error:
            self._report(
                EventKind.WARNING, f"logs that no verifier asks for stay on this disk: {error}"
            )

    def _known(self, state: State) -> VerifierView:
        return VerifierView(
            state=state,
            segments=self._watch.open,
            me=self._me,
            draws=self._draws.of,
            witness=self._draws.witness,
            panel=self._draws.panel,
            holds=self._logs.holds,
            answers=self.log_store.answers,
            reveals=self.log_store.reveals,
            moves=self._hearings.moves,
            proofs=self.log_store.proofs,
            forced=self._work.forced,
            sent=self._sent,
            checks_max=self._checks_at_once,
        )

    async def _submit(self, step: Submit) -> None:
        self._sent[step.key] = self._ledger.state.height
        try:
            await self._ledger.submit(step.body)
        except InvalidStatement as refusal:
            if refusal.reason not in QUIET and step.key not in self._refused:
                self._refused.add(step.key)
                kind, key = CHECK_KINDS[type(step.body)], step.key[1]
                where = f"segment {key.round}/{key.stage}/{key.seat}"
                self._report(EventKind.WARNING, f"{kind} about {where} not accepted: {refusal}")

    def _set_to_work(self, nursery: trio.Nursery, wanted: Sequence[DutyStep]) -> None:
        """Start the jobs that are due; cancel those that are too late or decided by others."""
        for step, scope in self._jobs.items():
            if step not in wanted:
                scope.cancel()
        fetched = Counter(type(step) for step in self._jobs)
        for step in wanted:
            if step in self._jobs or fetched[type(step)] >= AT_ONCE.get(type(step), math.inf):
                continue
            fetched[type(step)] += 1
            self._jobs[step] = trio.move_on_after(math.inf)
            nursery.start_soon(self._carry, step, self._jobs[step])

    async def _carry(self, step: DutyStep, scope: trio.CancelScope) -> None:
        try:
            with scope:
                if isinstance(step, FindMove):
                    await self._hearings.find(step.move)
                elif isinstance(step, HoldWindow):
                    await self._work.hold(step.key)
                elif isinstance(step, ProveForced):
                    await self._work.prove_forced(step.key, step.place)
                elif isinstance(step, SitWindow):
                    await self._work.sit(step.key)
                elif not isinstance(step, Submit):
                    await self._work.check(step.key)
        finally:
            self._jobs.pop(step, None)
        self._due.set()

    def _report_changes(self, state: State) -> None:
        """Report what has happened since the last call; what happened before the first one is old."""
        before, after = self._watch.look(state)
        self._background.note(before, after)
        for one in find_changes(before, after, self._me):
            self.counts.done += one.ending in ANSWERED
            self.counts.jackpots += one.ending is CheckPhase.JACKPOT
            self.counts.agreed += one.ending is CheckPhase.AGREED
            self.counts.differed += one.ending is CheckPhase.DIFFERED
            self.counts.missed += one.ending is CheckPhase.MISSED
            self.counts.convicted += one.kind is EventKind.CONVICTED
            self._report(one.kind, one.text, **one.fields)

    def _forget_old(self) -> None:
        live = {key_of(record) for record in self._watch.open}
        stale = [key for key in self._sent if seat_of(key[1]) not in live]
        for key in stale:
            self._sent.pop(key)
            self._refused.discard(key)
        self._work.forget(live)
        self._logs.forget(live)
        self._hearings.forget(live)
