"""Choose the peers to ask for a window, and make this node's own answer from the logs that they serve.

Core: pure functions of a record, and this node's own answer; the caller draws its salt.

A solver could serve one log to a verifier and another to a panel or an auditor. So every peer keeps the
solver's signed manifest of the log that it was served, and panels and auditors ask all that may hold one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.config.spec import RunSpec
from swarm.ledger.check_statements import Report, VerifyCommit, VerifyReveal
from swarm.ledger.state.records import CheckPhase, Run, SegmentPhase, SegmentRecord
from swarm.ledger.transition.forced import convicts
from swarm.ledger.transition.phases import ANSWER_ROUNDS, are_reveals_open, is_reportable_at
from swarm.ledger.transition.sampling import num_windows
from swarm.primitives.codec import Message
from swarm.primitives.commitments import REFUSED, WindowResult, spot_answer, verify_commit
from swarm.training.record.window import WindowKey
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex
from swarm.verify.spots.statement import statement_digest


@dataclass(frozen=True, slots=True)
class Sought:
    """Window whose log is needed, with its segment and run."""

    key: WindowKey
    record: SegmentRecord
    run: Run

    def sources(self, me: PeerId) -> tuple[PeerId, ...]:
        """Return the peers that a verifier asks, in this order."""
        return sources(self.record, self.key.window, me)

    def witnesses(self, me: PeerId) -> tuple[PeerId, ...]:
        """Return the peers that a panel, an auditor or a side of a dispute asks, in this order."""
        return witnesses(self.record, self.key.window, me)


def sources(record: SegmentRecord, window: int, me: PeerId) -> tuple[PeerId, ...]:
    """Return the possible holders of a window, for a verifier: its solver first, then its verifiers."""
    return _others(me, [record.peer, *_verifiers(record, window), *_holders(record, window)])


def witnesses(record: SegmentRecord, window: int, me: PeerId) -> tuple[PeerId, ...]:
    """Return the possible holders of a window: its accusers first, its solver last."""
    accusers = [accusation.peer for accusation in record.accusations if accusation.window == window]
    others = [*_verifiers(record, window), *_holders(record, window)]
    return _others(me, [*accusers, *others, record.peer])


def _verifiers(record: SegmentRecord, window: int) -> list[PeerId]:
    """Return the verifiers of a window, those that have answered first."""
    checks = [check for check in record.checks if check.window == window]
    silent = {CheckPhase.REQUESTED, CheckPhase.MISSED}
    return [check.peer for check in sorted(checks, key=lambda check: check.phase in silent)]


def _holders(record: SegmentRecord, window: int) -> list[PeerId]:
    """Return the witnesses of complaints about a window that hold its log."""
    return [peer for case in record.contests if case.window == window for peer in case.served]


def _others(me: PeerId, peers: Sequence[PeerId]) -> tuple[PeerId, ...]:
    return tuple(dict.fromkeys(peer for peer in peers if peer != me))


def differs(record: SegmentRecord, spec: RunSpec, window: int, answer: WindowResult) -> bool | None:
    """Return True if the replay of a signed log contradicts its solver; None while too little is shown to tell.

    Before its reveal a segment has shown only the state at its end. In a run without exact numerics the answer
    to a log that no honest solver writes contradicts every reveal.
    """
    if record.claims:
        return answer.claim != record.claims[window]
    is_last = window == num_windows(record.num_steps, spec.checks.window_steps) - 1
    is_wrong = answer == REFUSED or (is_last and answer.end_root != record.end_root)
    return True if is_wrong else None


def find_verdict(
    record: SegmentRecord, window: int, claims: Sequence[Digest], *, is_complete: bool
) -> bool | None:
    """Return True if a member of a panel rejects a window, False if it accepts; None while that is open.

    ``claims`` are those of all logs that its solver signed and this node could replay; ``is_complete`` says
    that no possible holder of another log is waited for any longer.
    """
    said = record.claims[window]
    if any(claim != said for claim in claims):
        return True
    return False if claims and is_complete else None


def is_late(record: SegmentRecord, spec: RunSpec, height: int) -> bool:
    """Return True if half of the time of a panel is over: it waits for silent peers no longer then."""
    return height >= record.due - ANSWER_ROUNDS * spec.round_blocks // 2


def is_proof_due(
    record: SegmentRecord, spec: RunSpec, me: PeerId, window: int, height: int
) -> bool:
    """Return True if what was stated falsely to ``me`` about a window convicts, and is to be shown now.

    Our own answer comes first: who has answered blind is the accuser.
    """
    if record.phase is SegmentPhase.GUILTY or not is_reportable_at(record, spec, height):
        return False
    hidden = any(one.peer == me and one.phase is CheckPhase.SEALED for one in record.checks)
    if hidden and (not record.claims or are_reveals_open(record, height)):
        return False
    return bool(convicts(record, spec, me, window))


SegmentKey = tuple[RunIndex, RoundIndex, StageIndex, int]
"""Id of a segment: run, round, stage, seat."""

ForcedKey = tuple[WindowKey, int]
"""A window of ours, and the place of the check of it that may have approved a forced error."""

ANSWER_BYTES_MAX = 1 << 10
"""Bytes of a stored answer."""


class OwnAnswer(Message, frozen=True):
    """Answer of this node about one window, from its own replay."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int
    salt: bytes
    result: WindowResult
    root: Digest
    """Root of the log that was replayed."""
    statement: bytes = b""
    """Signed statement that was looked at; empty where the window was replayed."""
    is_false: bool = False
    """True if something in that is false."""

    @property
    def key(self) -> WindowKey:
        """Key of the window."""
        return WindowKey(self.run, self.round, self.stage, self.seat, self.window)

    @property
    def claim(self) -> Digest:
        """Hash of the answer: equal for verifiers that agree."""
        return self.result.claim

    @property
    def said(self) -> bytes:
        """Digest of the statement that was looked at; empty where there is none."""
        return statement_digest(self.statement) if self.statement else b""

    def commitment(self, me: PeerId) -> Digest:
        """Return the salted hash that commits verifier ``me`` to the answer and hides it."""
        answer = self.claim
        if self.statement:
            answer = spot_answer(self.claim, Digest(self.said), is_false=self.is_false)
        return verify_commit(answer, self.salt, me)

    def hidden(self, me: PeerId, check: int) -> VerifyCommit:
        """Return the statement that commits to the answer blindly; ``check`` is the place of our check."""
        return VerifyCommit(*seat_of(self.key), check, self.window, self.commitment(me))

    def reported(self, me: PeerId) -> Report:
        """Return the statement that accuses the window blindly."""
        return Report(*seat_of(self.key), self.window, self.commitment(me))

    def shown(self, check: int, solvers: Digest, *, is_forced: bool = False) -> VerifyReveal:
        """Return the statement that reveals the answer, beside the claim that the solver has shown.

        ``is_forced``: whether what was looked at was to be false, so that it is shown, too.
        """
        return VerifyReveal(
            *seat_of(self.key),
            check,
            self.salt,
            claim=b"" if self.claim == solvers else self.claim,
            said=self.said,
            is_false=self.is_false,
            statement=self.statement if is_forced else b"",
        )


def key_of(record: SegmentRecord) -> SegmentKey:
    """Return the id of a record's segment."""
    return record.run, record.round, record.stage, record.seat


def window_of(record: SegmentRecord, window: int) -> WindowKey:
    """Return the key of one window of a record's segment."""
    return WindowKey(*key_of(record), window)


def seat_of(key: WindowKey) -> SegmentKey:
    """Return the id of a window's segment."""
    return key.run, key.round, key.stage, key.seat
