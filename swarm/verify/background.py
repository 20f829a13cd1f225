"""Audit a share of the segments of others, at a rate that this node chooses, and report the lies in them.

Shell: one audit at a time; what is audited is a function of what changed and of dice.

Sampled checks leave most windows to nobody. A node that looks at more of them, whenever it likes, is a risk
that no liar can compute: a segment that passed its check, or that nobody was drawn for, is still judged again
within its challenge window. Who finds a lie gets the part of an accuser, so an audit pays by what it finds, and
is nobody's duty.
Source: docs/spec/verification.md section 5.
"""

import random
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import trio

from swarm.errors import BadConfig, InvalidStatement, Unreachable, UsageError
from swarm.events import EventKind
from swarm.ledger.state.draft import APPROVING
from swarm.ledger.state.records import SegmentPhase, SegmentRecord
from swarm.training.record.window import WindowKey
from swarm.types import Digest, PeerId
from swarm.verify.answers import SegmentKey, window_of
from swarm.verify.audit import AuditResult, AuditVerdict
from swarm.verify.changes import where
from swarm.verify.ports import EventPort

PASSED = frozenset({SegmentPhase.VERIFIED, SegmentPhase.UNSAMPLED})
"""Phases of a segment that was paid and may be judged again."""
QUEUE_MAX = 16
"""Audits that wait; the oldest gives way to a new one: its challenge window ends first."""


class Auditing(Protocol):
    """Part of ``Verifier`` that audits."""

    async def audit(self, key: WindowKey) -> AuditResult:
        """Check any window on the ledger."""
        ...

    async def report(self, found: AuditResult) -> Digest:
        """Accuse the solver of a window that was found false."""
        ...


def chosen(
    before: Mapping[SegmentKey, SegmentRecord],
    after: Mapping[SegmentKey, SegmentRecord],
    me: PeerId,
    rate: float,
    dice: random.Random,
) -> list[tuple[SegmentRecord, WindowKey]]:
    """Return the windows to audit of segments that have just passed: one of each that the dice select.

    A window that another peer has replayed is taken only where nothing else is left. ``rate``: share of the
    segments of others, 0 to 1.
    """
    found = list[tuple[SegmentRecord, WindowKey]]()
    for segment_id, record in after.items():
        old = before.get(segment_id)
        has_passed = record.phase in PASSED and old is not None and old.phase not in PASSED
        if not has_passed or record.peer == me or dice.random() >= rate:
            continue
        seen = {check.window for check in record.checks if check.phase in APPROVING}
        windows = range(len(record.claims))
        left = [window for window in windows if window not in seen] or list(windows)
        if left:
            found.append((record, window_of(record, dice.choice(left))))
    return found


class BackgroundAudits:
    """Audits of a node's own choosing."""

    def __init__(
        self,
        checks: Auditing,
        me: PeerId,
        report: EventPort,
        rate: float,
        dice: random.Random | None = None,
    ) -> None:
        """``rate`` and ``dice`` as in ``chosen``; by default nobody else can know the dice."""
        self._checks, self._me, self._report, self._rate = checks, me, report, rate
        self._dice = dice or random.SystemRandom()
        self._queue: deque[tuple[SegmentRecord, WindowKey]] = deque(maxlen=QUEUE_MAX)
        self._is_due = trio.Event()

    def note(
        self,
        before: Mapping[SegmentKey, SegmentRecord],
        after: Mapping[SegmentKey, SegmentRecord],
    ) -> None:
        """Choose among the segments that have passed from one state to the next."""
        if self._rate:
            self._queue += chosen(before, after, self._me, self._rate, self._dice)
            self._is_due.set()

    async def run(self) -> None:
        """Audit what was chosen until cancelled."""
        while True:
            while self._queue:
                await self._audit(*self._queue.popleft())
            self._is_due = trio.Event()
            await self._is_due.wait()

    async def _audit(self, record: SegmentRecord, key: WindowKey) -> None:
        try:
            found = await self._checks.audit(key)
            is_fraud = found.verdict is AuditVerdict.FRAUD
            if is_fraud:
                await self._checks.report(found)
        except (UsageError, InvalidStatement, Unreachable, BadConfig) as error:
            self._tell(record, key, f"no answer: {error}", EventKind.WARNING)
            return
        text = "it is false, and was reported" if is_fraud else found.text
        self._tell(record, key, text, EventKind.CHECKED)

    def _tell(self, record: SegmentRecord, key: WindowKey, text: str, kind: EventKind) -> None:
        fields = {"round": key.round, "stage": key.stage, "seat": key.seat, "window": key.window}
        self._report(kind, f"audited window {key.window} of {where(record)}: {text}", **fields)
