"""Render segments and their checks as JSON rows and text.

Core: states in, plain dictionaries and sentences for people out. Nothing here decides anything.
"""

from swarm.gossip.trade.messages import Offer
from swarm.ledger.check_statements import (
    PANEL,
    CheckStatement,
    ContestService,
    DataRequest,
    DisputeMove,
    ForcedError,
    Fraud,
    Report,
    RevealSegment,
    TraceFraud,
    VerifyCommit,
    VerifyReveal,
    WitnessService,
)
from swarm.ledger.demands import DemandEntry, ShowEntry
from swarm.ledger.edges import EdgeFraud
from swarm.ledger.state.accusations import Dispute, Turn
from swarm.ledger.state.draft import APPROVING, is_confirmed
from swarm.ledger.state.records import (
    UNDEALT,
    CheckPhase,
    Contribution,
    Conviction,
    SegmentPhase,
    SegmentRecord,
    Verdicts,
)
from swarm.ledger.state.state import State
from swarm.ledger.transition.payments import strikes
from swarm.ledger.transition.phases import open_checks
from swarm.ledger.transition.tolerance import rejections
from swarm.primitives.crypto import peer_name, peer_text
from swarm.primitives.edges import ActivationSent, GradientSent
from swarm.types import PeerId

CHECK_KINDS: dict[type[object], str] = {
    DataRequest: "data_request",
    VerifyCommit: "verify_commit",
    RevealSegment: "reveal_segment",
    VerifyReveal: "verify_reveal",
    DisputeMove: "dispute_move",
    Report: "report",
    ContestService: "contest_service",
    WitnessService: "witness_service",
    EdgeFraud: "edge_fraud",
    TraceFraud: "trace_fraud",
    DemandEntry: "demand_entry",
    ShowEntry: "show_entry",
    ForcedError: "forced_error",
}

SIGNED_TEXTS: dict[type[object], str] = {
    ActivationSent: "activations",
    GradientSent: "a gradient",
    Offer: "a fragment",
}
"""Names of what a solver signs for others."""

EDGE_TEXTS: dict[type[object], str] = {
    ActivationSent: "it sent activations that its list does not have",
    GradientSent: "it sent a gradient that its list does not have",
    Offer: "it gave a fragment that its list does not have",
    type(None): "its list has two entries out of order",
}
"""Texts of proofs of a lie about an edge, by the message that the solver had signed."""

PHASE_TEXTS: dict[SegmentPhase, str] = {
    SegmentPhase.POSTED: "waits for verifiers",
    SegmentPhase.SAMPLED: "is replayed",
    SegmentPhase.SEALED: "must be revealed",
    SegmentPhase.REVEALED: "is compared",
    SegmentPhase.DISPUTED: "is disputed",
    SegmentPhase.VERIFIED: "passed its sampled check",
    SegmentPhase.UNSAMPLED: "was paid unchecked",
    SegmentPhase.SILENT: "was not shown, and not paid",
    SegmentPhase.GUILTY: "was proven false",
    SegmentPhase.DOUBTED: "is doubted",
    SegmentPhase.WITHIN: "was checked within tolerance",
    SegmentPhase.REJECTED: "was rejected by a verifier and three more, and not paid",
}


TURN_TEXTS: dict[int, str] = {
    Turn.ACCUSER: "its accuser moves until height {}",
    Turn.SOLVER: "its solver moves until height {}",
    Turn.SILENT: "silent when accused: seat gone, stake held until height {}",
}
"""Ends of a sentence about a dispute, by the side that it waits for; the height is its deadline."""


def check_text(body: CheckStatement) -> str:
    """Return a check statement as text, without its signer: ``drawn to check a window of segment 12/0/1``."""
    where = f"segment {body.round}/{body.stage}/{body.seat}"
    match body:
        case DataRequest(attempt=attempt) if attempt == PANEL:
            text = f"offers to sit on a panel about {where}"
        case DataRequest():
            text = f"drawn to check a window of {where}"
        case VerifyCommit():
            text = f"answered blind on {where}"
        case RevealSegment(tokens=tokens):
            text = f"revealed {where}: {len(tokens)} windows"
        case VerifyReveal(is_false=True, statement=statement):
            forced = ", as was to be found" if statement else ""
            text = f"looked at {where}: what its solver stated is false{forced}"
        case VerifyReveal(claim=claim):
            found = "it gives something else" if claim else "it gives the same"
            text = f"showed its replay of {where}: {found}"
        case DisputeMove(window=window, move=move):
            text = f"moved in the dispute about window {window} of {where} ({len(move):,} bytes)"
        case Report(window=window):
            text = f"reported window {window} of {where}"
        case ContestService(window=window):
            text = f"complains that it was not served window {window} of {where}"
        case EdgeFraud() | TraceFraud() | DemandEntry() | ShowEntry() | ForcedError():
            text = _signed_text(body, where)
        case WitnessService(is_served=is_served):
            said = "holds the log" if is_served else "could not get the log"
            text = f"{said} of the contested window of {where}"
    return text


def _signed_text(body: Fraud | DemandEntry | ShowEntry | ForcedError, where: str) -> str:
    """Return a statement about what a solver has signed for others as text."""
    match body:
        case EdgeFraud(message=message):
            return f"proved a lie in {where}: {EDGE_TEXTS[type(message)]}"
        case TraceFraud(proof=proof):
            return f"proved a lie in {where}: it signed something false ({len(proof):,} bytes)"
        case DemandEntry(message=message):
            what = SIGNED_TEXTS[type(message)]
            return f"demands the list of {where} for {what} that its solver signed"
        case ShowEntry(demand=demand):
            return f"has an entry of its list of {where} shown: demand {demand}"
        case ForcedError(check=check, number=number):
            return f"showed element {number} of a forced error in {where}, which check {check} approved"


CHECK_TEXTS: dict[CheckPhase, str] = {
    CheckPhase.JACKPOT: "forced error found (jackpot)",
    CheckPhase.FOOLED: "approved a forced error",
    CheckPhase.PASSED: "may have approved a forced error",
    CheckPhase.FOUND: "calls it false; the proof is to come",
}
"""Texts of what verifiers did in runs with forced errors; of all other phases the name says it."""


def forced_text(record: SegmentRecord) -> str:
    """Return who found a forced error of a segment, or approved one; empty if nobody did."""
    said = [(check.peer, CHECK_TEXTS.get(check.phase)) for check in record.checks]
    return ", ".join(f"{peer_name(peer)}: {text}" for peer, text in said if text)


def replayed_steps(record: SegmentRecord, window_steps: int) -> int:
    """Count the steps of the windows that another peer replayed, or looked at, and agreed with."""
    agreed = {check.window for check in record.checks if check.phase in APPROVING}
    left = (record.num_steps - window * window_steps for window in sorted(agreed))
    return sum(max(min(window_steps, steps), 0) for steps in left)


def segment_text(record: SegmentRecord, window_steps: int = 0) -> str:
    """Return a sentence: ``segment 12/0/1 of ... passed its sampled check: 2 of 10 steps checked by 1 peer``.

    Without ``window_steps``, of the run, the share is left out.
    """
    where = f"segment {record.round}/{record.stage}/{record.seat} of {peer_name(record.peer)}"
    text = f"{where} {PHASE_TEXTS[record.phase]}"
    if forced := forced_text(record):
        text += f" ({forced})"
    if record.phase is SegmentPhase.DOUBTED and record.panel is not None:
        sitting = {seat.peer for seat in record.panel.seats}
        mine = [one for one in rejections(record) if one.window == record.panel.window]
        doubts = [one.peer for one in mine if one.peer not in sitting]
        names = ", ".join(sorted({peer_name(peer) for peer in doubts}))
        return f"{text}: {names} rejects window {record.panel.window}, and three others replay it"
    if record.phase in {SegmentPhase.VERIFIED, SegmentPhase.WITHIN}:
        return f"{text}{_replayed_text(record, window_steps)}"
    if record.proved_by:
        who = peer_name(PeerId(record.proved_by))
        if record.phase is SegmentPhase.SILENT:
            return f"{text}: nobody showed its list, of which {who} had demanded an entry"
        return f"{text}: {who} proved it by what it had signed itself"
    accusers = ", ".join(sorted({peer_name(one.peer) for one in record.accusations}))
    if record.dispute is not None:
        heard = TURN_TEXTS[record.dispute.turn].format(record.dispute.deadline)
        return f"{text}: {accusers} found window {record.dispute.window} false; {heard}"
    reporters = (check.peer for check in open_checks(record) if check.is_report)
    who = ", ".join(sorted(map(peer_name, reporters)))
    return f"{text}: {who} reported it" if who else text


def _replayed_text(record: SegmentRecord, window_steps: int) -> str:
    """Return the share of a segment that was replayed, and by how many peers; empty if by none."""
    agreed = sum(check.phase in APPROVING for check in record.checks)
    if not agreed or not window_steps:
        return ""
    by = f"{agreed} peer{'s' * (agreed != 1)}"
    if not record.num_steps:  # final averaging: one window, no step
        return f": replayed by {by}"
    return f": {replayed_steps(record, window_steps)} of {record.num_steps} steps checked by {by}"


def segment_row(record: SegmentRecord, window_steps: int) -> dict[str, object]:
    """Return one segment and its checks as a JSON row."""
    return {
        "round": record.round,
        "stage": record.stage,
        "seat": record.seat,
        "name": peer_name(record.peer),
        "height": record.height,
        "steps": record.num_steps,
        "replayed_steps": replayed_steps(record, window_steps),
        "tokens": record.tokens,
        "start": str(record.start_kind),
        "phase": str(record.phase),
        "due": record.due,
        "throws": len(record.draws),
        "reward": record.reward,
        "paid": record.is_paid,
        "check_pay": record.check_pay,
        "volunteer": record.is_volunteer,
        "windows": len(record.claims),
        "verifiers": [
            {
                "name": peer_name(check.peer),
                "window": None if check.window == UNDEALT else check.window,
                "state": str(check.phase),
                "report": check.is_report,
                "bond": check.bond,
            }
            for check in record.checks
        ],
        "complaints": [
            {
                "name": peer_name(record.checks[contest.check].peer),
                "window": contest.window,
                "bond": contest.bond,
                "served": len(contest.served),
                "refused": len(contest.refused),
                "open": contest.is_open,
            }
            for contest in record.contests
        ],
        "demands": _demand_rows(record),
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
        "panel": _panel_row(record),
        "confirmed": is_confirmed(record),
        "proved_by": _named_in(record, SegmentPhase.GUILTY),
        "demanded_by": _named_in(record, SegmentPhase.SILENT),
        "text": segment_text(record, window_steps),
    }


def _named_in(record: SegmentRecord, phase: SegmentPhase) -> str | None:
    """Return who proved a lie, or demanded what nobody showed, by the phase that it led to."""
    is_named = record.proved_by and record.phase is phase
    return peer_name(PeerId(record.proved_by)) if is_named else None


def _demand_rows(record: SegmentRecord) -> list[dict[str, object]]:
    return [
        {
            "name": peer_name(demand.peer),
            "bond": demand.bond,
            "end": demand.end,
            "open": demand.is_open,
            "shown": demand.index >= 0,
        }
        for demand in record.demands
    ]


def _panel_row(record: SegmentRecord) -> dict[str, object] | None:
    if record.panel is None:
        return None
    return {
        "window": record.panel.window,
        "members": [peer_name(seat.peer) for seat in record.panel.seats],
        "seated": record.panel.is_seated,
    }


def _dispute_row(dispute: Dispute | None) -> dict[str, object] | None:
    if dispute is None:
        return None
    return {
        "window": dispute.window,
        "deadline": dispute.deadline,
        "waits_for": Turn(dispute.turn).name.lower(),
        "accuser": peer_name(dispute.accuser),
        "returned": int(dispute.has_returned),
    }


def verdicts_row(verdicts: Verdicts) -> dict[str, int]:
    """Return the number of a run's segments per verdict, since the run began."""
    return {
        "verified": verdicts.verified,
        "unsampled": verdicts.unsampled,
        "silent": verdicts.silent,
        "guilty": verdicts.guilty,
        "within": verdicts.within,
        "rejected": verdicts.rejected,
    }


def verdicts_text(verdicts: Verdicts) -> str:
    """Return ``checked: 40 passed a sampled check, 2 unchecked ...``; empty before the first verdict."""
    labels = (
        "passed a sampled check",
        "unchecked",
        "not shown",
        "proven false",
        "checked within tolerance",
        "rejected",
    )
    counts = zip(verdicts_row(verdicts).values(), labels, strict=True)
    text = ", ".join(f"{number} {word}" for number, word in counts if number)
    return f"checked: {text}" if text else ""


def guilty_rows(verdicts: Verdicts) -> list[dict[str, object]]:
    """Return the last 32 segments that were proven false, oldest first."""
    return [guilty_row(found) for found in verdicts.convictions]


def guilty_row(found: Conviction) -> dict[str, object]:
    """Return a segment that was proven false."""
    return {
        "round": found.round,
        "stage": found.stage,
        "seat": found.seat,
        "peer": peer_text(found.peer),
        "name": peer_name(found.peer),
        "height": found.height,
    }


def record_row(work: Contribution) -> dict[str, object]:
    """Return the outcome counts of a peer's segments and checks."""
    return {
        "verified": work.verified,
        "failed": work.failed,
        "silent": work.silent,
        "checked": work.checked,
        "missed": work.missed,
        "refuted": work.refuted,
        "tokens": work.tokens,
        "shares": work.shares,
        "strikes": max(strikes(work), 0),
        "barred": work.is_barred,
        "absent": work.absent,
    }


def phase_counts(state: State, run: int) -> dict[str, int]:
    """Return the number of live segments of a run in each phase."""
    phases = [record.phase for record in state.live_segments() if record.run == run]
    return {str(phase): phases.count(phase) for phase in SegmentPhase if phase in phases}
