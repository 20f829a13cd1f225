"""Checking in words and rows, for people.

Core: statements and records in, sentences and plain dictionaries out. Nothing here decides anything.
"""

from swarm.crypto import peer_name, peer_text
from swarm.ledger.check_records import Dispute, SegmentPhase
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
    Verdicts,
)
from swarm.ledger.state import State
from swarm.ledger.verdicts import is_confirmed

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
    accusers = ", ".join(sorted({peer_name(one.peer) for one in record.accusations}))
    if record.dispute is not None:
        return f"{said}: {accusers} found window {record.dispute.window} false"
    if record.accusations:
        return f"{said}: {accusers} reported it"
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
        "start": str(record.start_kind),
        "phase": str(record.phase),
        "due": record.due,
        "throws": len(record.draws),
        "reward": record.reward,
        "paid": record.is_paid,
        "windows": len(record.windows),
        "verifiers": [
            {"name": peer_name(check.peer), "window": check.window, "state": str(check.phase)}
            for check in record.checks
        ],
        "accusers": [peer_name(accusation.peer) for accusation in record.accusations],
        "accusations": [
            {
                "name": peer_name(accusation.peer),
                "window": accusation.window,
                "report": accusation.is_report,
                "bond": accusation.bond,
            }
            for accusation in record.accusations
        ],
        "dispute": _dispute_row(record.dispute),
        "judged": list(record.judged),
        "confirmed": is_confirmed(record),
        "text": segment_text(record),
    }


def _dispute_row(dispute: Dispute | None) -> dict[str, object] | None:
    if dispute is None:
        return None
    guilty = sum(ballot.is_guilty for ballot in dispute.ballots)
    return {
        "window": dispute.window,
        "deadline": dispute.deadline,
        "guilty": guilty,
        "not_guilty": len(dispute.ballots) - guilty,
    }


def verdicts_row(verdicts: Verdicts) -> dict[str, int]:
    """How many segments of a run were judged how, since it began."""
    return {
        "verified": verdicts.verified,
        "cleared": verdicts.cleared,
        "unsampled": verdicts.unsampled,
        "silent": verdicts.silent,
        "guilty": verdicts.guilty,
    }


def verdicts_text(verdicts: Verdicts) -> str:
    """``checked: 40 verified, 2 cleared, 3 unchecked, 1 silent, 1 proven false``; empty before the first."""
    words = ("verified", "cleared", "unchecked", "silent", "proven false")
    counts = zip(verdicts_row(verdicts).values(), words, strict=True)
    said = ", ".join(f"{number} {word}" for number, word in counts if number)
    return f"checked: {said}" if said else ""


def guilty_rows(verdicts: Verdicts) -> list[dict[str, object]]:
    """The segments that were proven false, oldest first: the last 32."""
    return [
        {
            "round": found.round,
            "stage": found.stage,
            "seat": found.seat,
            "peer": peer_text(found.peer),
            "name": peer_name(found.peer),
            "height": found.height,
        }
        for found in verdicts.convictions
    ]


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
