"""Checking in words and rows, for people.

Core: statements and records in, sentences and plain dictionaries out. Nothing here decides anything.
"""

from swarm.crypto import peer_name
from swarm.ledger.check_records import SegmentPhase
from swarm.ledger.check_statements import (
    CheckStatement,
    DataRequest,
    DisputeVote,
    Report,
    RevealSegment,
    VerifyCommit,
    VerifyReveal,
)
from swarm.ledger.records import (
    Contribution,
    SegmentRecord,
)
from swarm.ledger.state import State

CHECK_KINDS: dict[type[object], str] = {
    DataRequest: "data_request",
    VerifyCommit: "verify_commit",
    RevealSegment: "reveal_segment",
    VerifyReveal: "verify_reveal",
    DisputeVote: "dispute_vote",
    Report: "report",
}

PHASE_TEXTS: dict[SegmentPhase, str] = {
    SegmentPhase.POSTED: "waits for verifiers",
    SegmentPhase.SAMPLED: "is replayed",
    SegmentPhase.SEALED: "must be revealed",
    SegmentPhase.REVEALED: "is compared",
    SegmentPhase.DISPUTED: "is disputed",
    SegmentPhase.VERIFIED: "is verified",
    SegmentPhase.UNSAMPLED: "was paid unchecked",
    SegmentPhase.SILENT: "was not shown, and not paid",
    SegmentPhase.CLEARED: "was accused and cleared",
    SegmentPhase.GUILTY: "was proven false",
}


def check_text(body: CheckStatement | RevealSegment) -> str:
    """What somebody said about a segment, without who: ``drawn for window 2 of segment 12/0/1``."""
    where = f"segment {body.round}/{body.stage}/{body.seat}"
    match body:
        case DataRequest(window=window):
            return f"drawn for window {window} of {where}"
        case VerifyCommit():
            return f"answered blind on {where}"
        case RevealSegment(leaves=leaves):
            return f"revealed {where}: {len(leaves)} leaves"
        case VerifyReveal(leaves=leaves):
            return f"showed its replay of {where}: {len(leaves)} leaves"
        case DisputeVote(window=window, is_guilty=is_guilty):
            verdict = "guilty" if is_guilty else "not guilty"
            return f"found window {window} of {where} {verdict}"
        case Report(window=window):
            return f"reported window {window} of {where}"


def segment_text(record: SegmentRecord) -> str:
    """One sentence: ``segment 12/0/1 of hazy-otter-697 is verified (2 of 2 agree)``."""
    where = f"segment {record.round}/{record.stage}/{record.seat} of {peer_name(record.peer)}"
    said = f"{where} {PHASE_TEXTS[record.phase]}"
    if record.phase is SegmentPhase.VERIFIED:
        agreed = sum(check.phase == "agreed" for check in record.checks)
        return f"{said} ({agreed} of {len(record.checks)} agree)"
    if record.dispute is not None:
        accusers = sorted({peer_name(accusation.peer) for accusation in record.accusations})
        return f"{said}: {', '.join(accusers)} found window {record.dispute.window} false"
    return said


def segment_row(record: SegmentRecord) -> dict[str, object]:
    """One segment and its checks, as JSON."""
    return {
        "round": record.round,
        "stage": record.stage,
        "seat": record.seat,
        "name": peer_name(record.peer),
        "height": record.height,
        "steps": record.num_steps,
        "tokens": record.tokens,
        "phase": str(record.phase),
        "due": record.due,
        "reward": record.reward,
        "paid": record.is_paid,
        "windows": len(record.windows),
        "verifiers": [
            {"name": peer_name(check.peer), "window": check.window, "state": str(check.phase)}
            for check in record.checks
        ],
        "accusers": [peer_name(accusation.peer) for accusation in record.accusations],
        "text": segment_text(record),
    }


def record_row(work: Contribution) -> dict[str, object]:
    """How a peer's segments and checks went."""
    return {
        "verified": work.verified,
        "failed": work.failed,
        "silent": work.silent,
        "checked": work.checked,
        "missed": work.missed,
        "barred": work.is_barred,
    }


def phase_counts(state: State, run: int) -> dict[str, int]:
    """How many live segments of a run are in each phase."""
    phases = [record.phase for record in state.live_segments() if record.run == run]
    return {str(phase): phases.count(phase) for phase in SegmentPhase if phase in phases}
