"""Whom to ask for a window, and what the logs that were served say about its solver.

Core: pure functions of a record.

A solver could serve one log to a verifier and another to the judges. So whoever was served keeps the solver's
signed manifest, and judges ask everybody who may hold one: any signed log that does not give what was revealed
convicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.leaves import window_claim
from swarm.ledger.check_records import CheckPhase
from swarm.ledger.phases import DISPUTE_ROUNDS
from swarm.ledger.records import Run, SegmentRecord
from swarm.ledger.sampling import num_windows
from swarm.spec import RunSpec
from swarm.training.window import WindowKey
from swarm.types import Digest, PeerId
from swarm.verify.replay import REFUSED_LEAVES


@dataclass(frozen=True, slots=True)
class Sought:
    """A window whose log is looked for."""

    key: WindowKey
    record: SegmentRecord
    run: Run

    def sources(self, me: PeerId) -> tuple[PeerId, ...]:
        """Whom a verifier asks."""
        return sources(self.record, self.key.window, me)

    def witnesses(self, me: PeerId) -> tuple[PeerId, ...]:
        """Whom a judge asks."""
        return witnesses(self.record, self.key.window, me)


def sources(record: SegmentRecord, window: int, me: PeerId) -> tuple[PeerId, ...]:
    """Who may hold a window, for a verifier: its solver first, then whoever has answered for it."""
    return _others(me, [record.peer, *_verifiers(record, window)])


def witnesses(record: SegmentRecord, window: int, me: PeerId) -> tuple[PeerId, ...]:
    """Who may hold a window, for a judge: its accusers first, its solver last."""
    accusers = [accusation.peer for accusation in record.accusations if accusation.window == window]
    return _others(me, [*accusers, *_verifiers(record, window), record.peer])


def _verifiers(record: SegmentRecord, window: int) -> list[PeerId]:
    """Verifiers of a window, those that have answered before those that have not."""
    checks = [check for check in record.checks if check.window == window]
    silent = {CheckPhase.REQUESTED, CheckPhase.MISSED}
    return [check.peer for check in sorted(checks, key=lambda check: check.phase in silent)]


def _others(me: PeerId, peers: Sequence[PeerId]) -> tuple[PeerId, ...]:
    return tuple(dict.fromkeys(peer for peer in peers if peer != me))


def differs(
    record: SegmentRecord, spec: RunSpec, window: int, leaves: Sequence[Digest], end_root: Digest
) -> bool | None:
    """Whether the replay of a signed log contradicts its solver; None while too little is shown to tell.

    Before its reveal a segment has shown one thing, the state at its end; and no reveal can ever say what is
    said of a log that nobody honest writes.
    """
    if record.windows:
        return window_claim(leaves, end_root) != record.windows[window].claim
    is_last = window == num_windows(record.num_steps, spec.checks.window_steps) - 1
    is_wrong = tuple(leaves) == REFUSED_LEAVES or (is_last and end_root != record.end_root)
    return True if is_wrong else None


def find_verdict(
    record: SegmentRecord, window: int, claims: Sequence[Digest], *, is_complete: bool
) -> bool | None:
    """Is the solver guilty? None while it cannot be said.

    ``claims`` are those of every log that its solver signed and we could replay; ``is_complete`` says that
    nobody who may hold another still owes an answer.
    """
    said = record.windows[window].claim
    if any(claim != said for claim in claims):
        return True
    return False if claims and is_complete else None


def is_late(record: SegmentRecord, spec: RunSpec, height: int) -> bool:
    """Whether a judge waits no longer for those who do not answer: half of the time is over."""
    assert record.dispute is not None, "only disputed segments are judged"
    return height >= record.dispute.deadline - DISPUTE_ROUNDS * spec.round_blocks // 2
