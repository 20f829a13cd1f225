"""Choose the peers to ask for a window, and make this node's own answer from the logs that they serve.

Core: pure functions of a record, and this node's own answer; the caller draws its salt.

A solver could serve one log to a verifier and another to a panel or an auditor. So every peer keeps the
solver's signed manifest of the log that it was served, and panels and auditors ask all that may hold one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.config.spec import RunSpec
from swarm.ledger.check_statements import Report, VerifyCommit, VerifyReveal
from swarm.ledger.state.records import CheckPhase, Run, SegmentRecord
from swarm.ledger.transition.phases import ANSWER_ROUNDS
from swarm.ledger.transition.sampling import num_windows
from swarm.primitives.codec import Message
from swarm.primitives.commitments import REFUSED, WindowResult, verify_commit
from swarm.training.record.window import WindowKey
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex


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


SegmentKey = tuple[RunIndex, RoundIndex, StageIndex, int]
"""Id of a segment: run, round, stage, seat."""

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

    @property
    def key(self) -> WindowKey:
        """Key of the window."""
        return WindowKey(self.run, self.round, self.stage, self.seat, self.window)

    @property
    def claim(self) -> Digest:
        """Hash of the answer: equal for verifiers that agree."""
        return self.result.claim

    def commitment(self, me: PeerId) -> Digest:
        """Return the salted hash that commits verifier ``me`` to the answer and hides it."""
        return verify_commit(self.claim, self.salt, me)

    def hidden(self, me: PeerId, check: int) -> VerifyCommit:
        """Return the statement that commits to the answer blindly; ``check`` is the place of our check."""
        return VerifyCommit(*seat_of(self.key), check, self.window, self.commitment(me))

    def reported(self, me: PeerId) -> Report:
        """Return the statement that accuses the window blindly."""
        return Report(*seat_of(self.key), self.window, self.commitment(me))

    def shown(self, check: int, solvers: Digest) -> VerifyReveal:
        """Return the statement that reveals the answer, beside the claim that the solver has shown."""
        claim = b"" if self.claim == solvers else self.claim
        return VerifyReveal(*seat_of(self.key), check, self.salt, claim)


def key_of(record: SegmentRecord) -> SegmentKey:
    """Return the id of a record's segment."""
    return record.run, record.round, record.stage, record.seat


def window_of(record: SegmentRecord, window: int) -> WindowKey:
    """Return the key of one window of a record's segment."""
    return WindowKey(*key_of(record), window)


def seat_of(key: WindowKey) -> SegmentKey:
    """Return the id of a window's segment."""
    return key.run, key.round, key.stage, key.seat
