"""Choose the segment to audit, and render the verdict of an audit and the checks of a ledger.

Core: the final state, the user's choice and the node's answer in, a segment, rows and lines out.

The segment is the one that was named, or the newest that can be audited; ``UsageError`` has the reason why
there is none, or how long to wait. Names and messages in the node's answer may come from other peers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from swarm.cli.state_reader import read_answer
from swarm.cli.style import Ink, pad
from swarm.errors import SwarmError, Unreachable, UsageError
from swarm.events import printable
from swarm.ledger.describe import verified_share
from swarm.ledger.describe_checks import record_row, verdicts_row
from swarm.ledger.run_views import storage_text
from swarm.ledger.state.draft import JUDGED
from swarm.ledger.state.records import Account, Contribution, Run, SegmentPhase, SegmentRecord
from swarm.ledger.state.state import State
from swarm.ledger.transition.phases import is_reportable_at
from swarm.ledger.transition.runs import current_round
from swarm.ledger.transition.sampling import num_windows
from swarm.primitives.codec import Document
from swarm.primitives.crypto import peer_name, peer_text
from swarm.types import PeerId

_WAITS = {
    SegmentPhase.POSTED: "its verifiers are still being drawn",
    SegmentPhase.SAMPLED: "its verifiers answer blind first",
    SegmentPhase.SEALED: "its solver has yet to show its windows",
}
_AGAIN = "swarm audit   (without a segment: the newest that can be audited)"


@dataclass(frozen=True, slots=True)
class SegmentQuery:
    """Segment and window that the user named; None for a part that was left open."""

    round: int | None = None
    stage: int | None = None
    seat: int | None = None
    window: int | None = None

    @property
    def names_nothing(self) -> bool:
        """True if the user named no segment."""
        return (self.round, self.stage, self.seat) == (None, None, None)

    def fits(self, record: SegmentRecord) -> bool:
        """Return True if a segment is one of those that the user means."""
        return (
            self.round in {None, record.round}
            and self.stage in {None, record.stage}
            and self.seat in {None, record.seat}
        )

    def __str__(self) -> str:
        pairs = (("round", self.round), ("stage", self.stage), ("seat", self.seat))
        return ", ".join(f"{name} {value}" for name, value in pairs if value is not None)


@dataclass(frozen=True, slots=True)
class AuditTarget:
    """Segment on the ledger, and a window of it if one was named."""

    round: int
    stage: int
    seat: int
    window: int | None
    num_windows: int
    solver: str
    """Name of the peer that computed it."""
    height: int
    """Height at which it was committed."""


def choose_target(state: State, run: Run, query: SegmentQuery, me: PeerId | None) -> AuditTarget:
    """Return the segment to audit; raises ``UsageError`` if there is none.

    If the user named none, it is the newest segment that is revealed, still inside its challenge window and not
    ``me``'s own.
    """
    if query.stage is not None and not 0 <= query.stage < run.spec.num_stages:
        raise UsageError(
            f"there is no stage {query.stage}: run {run.spec.name} has {run.spec.num_stages} stages",
            hint="swarm run show",
        )
    known = [record for record in state.live_segments() if record.run == run.index]
    meant = [record for record in known if query.fits(record)]
    if not meant:
        raise _unknown(state, run, query, known)
    able = [record for record in meant if _is_open(state, run, record)]
    shown = [record for record in able if record.claims]
    others = [record for record in shown if record.peer != me and _is_in_doubt(record)]
    pool = others if query.names_nothing else others or shown
    if not pool:
        raise _not_yet(state, run, meant)
    chosen = max(pool, key=lambda r: (r.round, r.height, -r.stage, -r.seat))
    return _target(chosen, run, query.window)


def _target(record: SegmentRecord, run: Run, window: int | None) -> AuditTarget:
    count = num_windows(record.num_steps, run.spec.checks.window_steps)
    if window is not None and not 0 <= window < count:
        raise UsageError(
            f"there is no window {window}: {_where(record)} has {count}, from 0", hint=_AGAIN
        )
    return AuditTarget(
        round=record.round,
        stage=record.stage,
        seat=record.seat,
        window=window,
        num_windows=count,
        solver=peer_name(record.peer),
        height=record.height,
    )


def _unknown(
    state: State, run: Run, query: SegmentQuery, known: Sequence[SegmentRecord]
) -> UsageError:
    """Return the error for a segment that is not on the ledger: too early, too late, or never there."""
    name, now = run.spec.name, current_round(run, state.height)
    if query.names_nothing:
        return UsageError(f"no segment of run {name} is on the ledger yet", hint="swarm run show")
    if query.round is not None and now is not None and query.round >= now:
        return UsageError(
            f"round {query.round} is not committed yet: run {name} trains round {now}", hint=_AGAIN
        )
    if query.round is not None and query.round >= run.end_round:
        return UsageError(f"run {name} has {run.end_round} rounds, from 0", hint=_AGAIN)
    rounds = sorted({record.round for record in known})
    if query.round is not None and rounds and query.round < rounds[0]:
        blocks = run.spec.checks.challenge_window_blocks
        return UsageError(
            f"the challenge window of round {query.round} has passed: a segment can be audited and reported"
            f" for {blocks} blocks, and the oldest still on the ledger is of round {rounds[0]}",
            hint=_AGAIN,
        )
    seats = sorted({f"{r.stage}/{r.seat}" for r in known if query.round in {None, r.round}})
    there = f"; there are seats {', '.join(seats[:12])}" if seats else ""
    return UsageError(f"no segment of {query} is on the ledger{there}", hint="swarm run show")


def _not_yet(state: State, run: Run, meant: Sequence[SegmentRecord]) -> UsageError:
    """Return the error for segments of which none can be audited now; it describes the next one that can."""
    waiting = [record for record in meant if record.phase in _WAITS]
    if waiting:
        record = min(waiting, key=lambda r: (r.due, r.round, r.stage, r.seat))
        blocks = max(record.due - state.height, 1)
        return UsageError(
            f"{_where(record)} is not revealed yet: {_WAITS[record.phase]}; look again in {blocks} blocks,"
            f" about {blocks * state.params.block_interval_ms / 1000:.0f} s",
            hint="swarm run show",
        )
    record = max(meant, key=lambda r: (r.round, r.height))
    if not _is_open(state, run, record):
        end = record.height + run.spec.checks.challenge_window_blocks
        return UsageError(
            f"the challenge window of {_where(record)} passed at height {end}", hint=_AGAIN
        )
    if record.phase is SegmentPhase.SILENT:
        return UsageError(
            f"{_where(record)} was never shown, and never paid: there is nothing to audit",
            hint=_AGAIN,
        )
    return UsageError("nothing of others can be audited just now", hint="swarm run show")


def _is_open(state: State, run: Run, record: SegmentRecord) -> bool:
    return is_reportable_at(record, run.spec, state.height)


def _is_in_doubt(record: SegmentRecord) -> bool:
    """Return True unless the segment may not be reported any more, false as it is."""
    over = {SegmentPhase.GUILTY, SegmentPhase.REJECTED}
    return record.phase not in over


def _where(record: SegmentRecord) -> str:
    return f"segment {record.round}/{record.stage}/{record.seat} of {peer_name(record.peer)}"


HONEST, FRAUD = "honest", "fraud"
WITHIN, REJECTED = "within_tolerance", "rejected"
"""Verdicts of a run without exact numerics."""
REFUSED = "refused"
"""The only log that was served cannot be an honest one."""
NOT_REVEALED, NOT_SERVED = "not_revealed", "not_served"
LINES_MAX = 12
LINE_CHARS_MAX = 400

Row = dict[str, object]


class AuditAnswer(Document, frozen=True):
    """Answer of the node to an audit."""

    verdict: str = ""
    text: str | tuple[str, ...] = ()
    window: int | None = None
    claim: str | int | None = None
    replay: str | int | None = None
    evidence: str | None = None


def audit_row(target: AuditTarget, fields: Mapping[str, object]) -> Row:
    """Return the object of ``swarm audit --json``: these keys, always; null where there is nothing to say.

    Raises ``UsageError`` or ``Unreachable`` when there is no verdict.
    """
    answer = read_answer(AuditAnswer, fields)
    verdict, messages = answer.verdict, _messages(answer)
    if verdict not in {HONEST, FRAUD, WITHIN, REJECTED, REFUSED}:
        raise no_verdict(target, verdict, messages)
    return {
        "round": target.round,
        "stage": target.stage,
        "seat": target.seat,
        "window": target.window if answer.window is None else answer.window,
        "solver": target.solver,
        "height": target.height,
        "verdict": verdict,
        "claim": _plain(answer.claim),
        "replay": _plain(answer.replay),
        "evidence": answer.evidence or None,
        "text": messages,
    }


def no_verdict(target: AuditTarget, verdict: str, messages: list[str]) -> SwarmError:
    """Return the error for a missing verdict: windows not revealed yet, or logs not served."""
    cause = "; ".join(messages)
    named = f"--round {target.round} --stage {target.stage} --seat {target.seat}"
    if verdict == NOT_REVEALED:
        return UsageError(
            cause or f"{where(target)} is not revealed yet",
            hint=f"swarm audit {named}   (again, when its solver has shown its windows)",
        )
    return Unreachable(
        cause or f"no peer serves the logs of {where(target)}: its solver may be gone",
        hint=f"swarm audit {named}   (again, later)",
    )


def audit_lines(row: Row, target: AuditTarget, ink: Ink) -> list[str]:
    """Return the same for people: the claim, the replay, the verdict."""
    claim = f"{target.solver} #{target.height} {where(target)}, window {row['window']} of {target.num_windows}"
    if shown := _short(row["claim"]):
        claim += f", {shown}"
    findings = [str(line) for line in cast("list[str]", row["text"])]
    if row["verdict"] == FRAUD:
        findings = findings or ["its log gives another result than the one it has shown"]
        verdict = ink.paint("gone", "FRAUD")
        if row["evidence"]:
            verdict += f" -> swarm report {row['evidence']}"
    elif row["verdict"] in {WITHIN, REJECTED, REFUSED}:
        is_within = row["verdict"] == WITHIN
        verdict = ink.paint("ok" if is_within else "gone", str(row["verdict"]).upper())
    else:
        findings = findings or ["computed again, with the same result"]
        verdict = ink.paint("ok", "HONEST")
    rows = [
        ("claim", claim),
        ("replay", (findings or [""])[0]),
        *(("", line) for line in findings[1:]),
    ]
    rows.append(("verdict", verdict))
    return [f"{ink.paint('dim', pad(label, 7))} {value}" for label, value in rows]


def where(target: AuditTarget) -> str:
    """Return ``segment 40/1/0``: round, stage, seat."""
    return f"segment {target.round}/{target.stage}/{target.seat}"


def _messages(answer: AuditAnswer) -> list[str]:
    found = (answer.text,) if isinstance(answer.text, str) else answer.text
    return [printable(line, LINE_CHARS_MAX) for line in found[:LINES_MAX] if line]


def _plain(value: object) -> object:
    return printable(value, LINE_CHARS_MAX) if isinstance(value, str) else value


def _short(value: object) -> str:
    """Return the beginning of a hash, and any other value as it is; empty for None."""
    if value is None:
        return ""
    shown = str(value)
    is_hash = len(shown) >= 32 and all(character in "0123456789abcdef" for character in shown)
    return shown[:16] if is_hash else shown


ReportRow = dict[str, object]


def verified_lines(row: ReportRow) -> list[str]:
    """Return what ``swarm ledger verify`` has found, for people."""
    start, network = int(_number(row["began_at"])), str(row["chain"])[:16]
    blocks = int(_number(row["height"])) - start
    first = f"{blocks} blocks of the network {network} are valid and final"
    if start:
        first = (
            f"blocks {start + 1} to {row['height']} of the network {network} are valid and final"
        )
    lines = [
        first,
        f"checked from {row['began_with']}",
        f"{row['transactions']} transactions, {row['commits']} commits,"
        f" {row['certificates']} finalizations, supply {row['supply']} conserved",
        f"final by the word of: {row['trust']}",
        f"for others to begin with: --trust {row['trusted_epoch']}",
    ]
    if not row["is_trusted"]:
        lines.append("whether this is the right network, you must know: --network HEX")
    lines += [checked_line(run) for run in cast("list[ReportRow]", row["runs"])]
    if row["unproved_blocks"]:
        lines.append(f"{row['unproved_blocks']} newer blocks wait for a finalization on this disk")
    return lines


def run_rows(state: State) -> list[ReportRow]:
    """Return each run's verdicts, the verified share of segments older than two rounds, every peer's record."""
    return [_run_row(state, run) for run in state.runs()]


def stake_rows(state: State) -> ReportRow:
    """Return the stakes by PeerID, those on their way back included; peers without one are left out."""
    rows = (
        (peer, a.stake + sum(part.amount for part in a.unbonding)) for peer, a in _accounts(state)
    )
    return {peer_text(peer): stake for peer, stake in rows if stake}


def validator_rows(state: State) -> list[ReportRow]:
    """Return a row for each validator of this epoch or the next, and for each candidate, by power and stake."""
    council = state.council
    now = {voter.peer: voter.power for voter in council.current}
    later = {voter.peer: voter.power for voter in council.next}
    missed = dict(zip(now, council.skipped, strict=True))
    rows: list[ReportRow] = [
        {
            "peer": peer_text(peer),
            "name": peer_name(peer),
            "stake": state.account(peer).stake,
            "power_percent": _share_of(now, peer),
            "next_power_percent": _share_of(later, peer),
            "offers": peer in council.candidates,
            "missed": missed.get(peer, 0),
        }
        for peer in sorted({*now, *later, *council.candidates})
    ]
    return sorted(
        rows, key=lambda r: (-_number(r["power_percent"]), -_number(r["stake"]), r["peer"])
    )


def validator_cells(row: ReportRow) -> list[str]:
    """Return the cells of a validator on the screen."""
    shares = (_number(row[key]) for key in ("power_percent", "next_power_percent"))
    power = [f"{share:.0f}%" if share else "-" for share in shares]
    return [
        str(row["name"]),
        str(row["stake"]),
        *power,
        "yes" if row["offers"] else "no",
        str(row["missed"]),
    ]


def _share_of(powers: Mapping[PeerId, int], peer: PeerId) -> float:
    return round(100 * powers.get(peer, 0) / max(sum(powers.values()), 1), 1)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def checked_line(row: ReportRow) -> str:
    """Describe a run: ``pydocs-demo: 120 segments; another peer checked a window of 110 of 114 ...``."""
    shown = f"{row['name']}: {row['segments']} segments; of {row['old_segments']} older than two rounds,"
    shown += f" another peer checked a window of {row['old_verified']} and found it true"
    words = {"guilty": "proven false", "silent": "never shown"}
    counts = ((row[key], word) for key, word in words.items())
    return ", ".join([shown, *(f"{count} {what}" for count, what in counts if count)])


def _run_row(state: State, run: Run) -> ReportRow:
    verified, old = verified_share(state, run)
    live = [record for record in state.live_segments() if record.run == run.index]
    return {
        "name": run.spec.name,
        "segments": run.num_segments,
        **verdicts_row(state.verdicts(run.index)),
        "old_segments": old,
        "old_verified": verified,
        "round_blocks": run.spec.round_blocks,
        "storage": [
            storage_text(state, run, stage) if run.standing(stage) else ""
            for stage in range(len(run.checkpoints))
        ],
        "peers": {
            peer_text(peer): _peer_row(state, peer, work, live) for peer, work in _work(state, run)
        },
    }


def _peer_row(
    state: State, peer: PeerId, work: Contribution, live: list[SegmentRecord]
) -> ReportRow:
    waiting = [r for r in live if r.peer == peer and r.phase not in JUDGED]
    return {
        "name": peer_name(peer),
        "segments": work.segments,
        **record_row(work),
        "waiting_blocks": sorted(state.height - record.height for record in waiting),
    }


def _work(state: State, run: Run) -> Iterator[tuple[PeerId, Contribution]]:
    """Yield the peers that did any work, checks included, sorted by key."""
    for peer, _ in _accounts(state):
        work = state.contribution(run.index, peer)
        if work.segments or work.checked or work.missed or work.proofs or work.proofs_missed:
            yield peer, work


def _accounts(state: State) -> list[tuple[PeerId, Account]]:
    return sorted(state.accounts())
