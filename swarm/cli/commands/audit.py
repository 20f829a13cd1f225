"""Audit the work of other peers through the node of this home, and report a false window.

Shell: chooses a window from the ledger on disk, asks the node that runs in this home, prints.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import Terminal, terminal
from swarm.errors import BadConfig, UsageError, VerificationFailed
from swarm.events import printable

if TYPE_CHECKING:
    from swarm.ledger.state.records import Run
    from swarm.ledger.state.state import State
    from swarm.node.api.schema import StateDocument
    from swarm.types import PeerId

AUDIT_TIMEOUT_S = 600.0
"""Seconds to fetch a window of a large model over a slow link, and replay it while the node also trains."""
_STAKE = "put stake = N into node.toml of the home, and start the node again"

RunName = Annotated[str, typer.Option("--run", help="Its name; without one, the node's run.")]
Number = Annotated[int | None, typer.Option(min=0)]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("audit", short_help="Replay a window of a peer's work: is it true?")(audit)
    app.command("report", short_help="Accuse a window that an audit found false.")(report)


def audit(
    run: RunName = "",
    round_: Annotated[int | None, typer.Option("--round", min=0, help="Of the segment.")] = None,
    stage: Number = None,
    seat: Number = None,
    window: Annotated[
        int | None, typer.Option(min=0, help="Without one: all, or one of a large segment.")
    ] = None,
    evidence: Annotated[
        str,
        typer.Option(help="Write what convinces a stranger, whatever the verdict: a file."),
    ] = "",
) -> None:
    """Replay a segment, or one window of it, and compare it with what its solver has revealed.

    Without a round, stage or seat: the newest segment that is revealed and can still be reported. The node that
    runs in this home fetches the logs, checks every signature in them and computes the window again. Exit code
    6 and a file of evidence if it is false; exit code 6 alone if its log cannot be an honest one, or if a run
    without exact numerics ends outside its tolerance.
    """
    from swarm.cli.client import act, fetch_state, node_of
    from swarm.cli.commands.ledger_views import (
        FRAUD,
        REFUSED,
        REJECTED,
        SegmentQuery,
        audit_lines,
        audit_row,
        choose_target,
        where,
    )
    from swarm.cli.state_reader import me

    screen = terminal()
    out = _writable(evidence)
    address = node_of(screen.home)
    seen = fetch_state(address)
    state, found = _ledger_of(screen.home, seen, run)
    mine = me(seen)
    if mine is not None and not mine.stake:
        screen.say(f"without a stake solvers show a few logs an hour; for more: {_STAKE}")
    target = choose_target(state, found, SegmentQuery(round_, stage, seat, window), _me(seen))
    screen.say(f"replaying {where(target)} of {target.solver}")
    wanted = {"round": target.round, "stage": target.stage, "seat": target.seat}
    wanted |= {} if window is None else {"window": window}
    wanted |= {} if out is None else {"bundle": True}
    with screen.patient("still at it: the logs are fetched, then every step is computed again"):
        answer = act(address, "audit", wanted, AUDIT_TIMEOUT_S)
    written = answer.get("evidence")
    if out is not None and isinstance(written, str):
        _move(Path(written), out)
        answer = {**answer, "evidence": str(out)}
        screen.say(f"evidence for anybody: swarm verify-evidence {out}")
    row = audit_row(target, answer)
    screen.data(row, audit_lines(row, target, screen.ink))
    if row["verdict"] in {FRAUD, REJECTED, REFUSED}:
        raise typer.Exit(VerificationFailed.exit_code)


def report(
    evidence: Annotated[
        str, typer.Argument(help="The file that an audit wrote; or name the window.")
    ] = "",
    round_: Annotated[int | None, typer.Option("--round", min=0, help="Of the segment.")] = None,
    stage: Number = None,
    seat: Number = None,
    window: Number = None,
) -> None:
    """Accuse a window on the ledger: this node and its solver are heard, and arithmetic decides.

    A bond is at risk: it comes back, with 40% of the solver's stake, if the accusation holds, and goes to
    the solver if it does not. Evidence of somebody else is replayed here first, and refused if it shows no
    fraud or comes too late.
    """
    from swarm.cli.client import act, fetch_state, node_of

    screen = terminal()
    parts = {"round": round_, "stage": stage, "seat": seat, "window": window}
    wanted = _accusation(evidence, parts)
    address = node_of(screen.home)
    seen = fetch_state(address)
    wanted_stake = max(seen.run.solver_stake if seen.run is not None else 0, 1)
    _check_stake(seen, wanted_stake, "a reporter has the stake of a solver")
    if "evidence" in wanted:
        _check_file(screen, Path(str(wanted["evidence"])))
    with screen.patient("still at it: the window is replayed, and the report waits for a block"):
        answer = act(address, "report", wanted, AUDIT_TIMEOUT_S)
    message = (
        printable(str(answer.get("text") or ""), 400)
        or "reported: this node answers its solver's moves now; keep it running"
    )
    screen.data({"submitted": answer.get("submitted"), "text": message}, [message])


def _accusation(evidence: str, parts: "dict[str, int | None]") -> "dict[str, object]":
    """Return the request to the node, by file or by window; raises ``UsageError`` for neither or both."""
    named = {name: value for name, value in parts.items() if value is not None}
    if evidence and not named:
        path = Path(evidence).expanduser().absolute()
        if not path.is_file():
            what = "is a folder, not a file of evidence" if path.is_dir() else "is not there"
            raise UsageError(f"{path} {what}", hint="swarm audit writes one")
        return {"evidence": str(path)}
    if evidence or len(named) < len(parts):
        raise UsageError(
            "a report names one window: by the file of evidence, or by round, stage, seat and window",
            hint="swarm report FILE, or swarm report --round N --stage S --seat I --window W",
        )
    return {**named}


def _writable(name: str) -> Path | None:
    """Return where evidence goes; raises ``UsageError`` before anything is replayed for nothing."""
    if not name:
        return None
    path = Path(name).expanduser().absolute()
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "is in a folder that is not there"
        raise UsageError(f"{path} {what}", hint="swarm audit --evidence FILE")
    return path


def _move(written: Path, out: Path) -> None:
    """Move what the node wrote in the home to another place: whole, or not at all."""
    draft = out.with_name(out.name + ".part")
    try:
        shutil.copyfile(written, draft)
        draft.replace(out)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise BadConfig(
            f"the evidence is in {written}, and cannot be written to {out}: {error.strerror}"
        ) from None
    written.unlink(missing_ok=True)


def _check_file(screen: Terminal, path: Path) -> None:
    """Raise ``SwarmError`` unless evidence for strangers shows a fraud that this home's ledger can still judge.

    A file of another form goes to the node as it is.
    """
    from swarm.verify.evidence_file import looks_like_evidence

    if not looks_like_evidence(path):
        return
    from swarm.cli.commands.checkpoint import trusted_network
    from swarm.cli.commands.evidence import EvidenceTrust, check_evidence
    from swarm.ledger.reader import read_state
    from swarm.verify.audit import AuditVerdict
    from swarm.verify.evidence_check import stale

    with screen.patient("still at it: the window is replayed from the file"):
        proved, found = check_evidence(path, EvidenceTrust(trusted_network(screen.home, "")))
    if found.verdict is not AuditVerdict.FRAUD:
        raise UsageError(f"{path} shows no fraud: {found.lines[0]}", hint="swarm audit")
    reason = stale(read_state(screen.home), proved)
    if reason:
        raise UsageError(f"{path} comes too late: {reason}", hint="swarm audit")


def _ledger_of(home: Path, seen: "StateDocument", name: str) -> "tuple[State, Run]":
    """Return the final state and the run that the node follows; raises ``UsageError`` if there is none."""
    from swarm.ledger.reader import read_state
    from swarm.types import RunIndex

    followed = seen.run
    if followed is None:
        raise UsageError("this node follows no run yet", hint="swarm status")
    mine = followed.name
    if name and name != mine:
        raise UsageError(
            f"this node follows run {mine}, not {name}", hint=f"swarm audit --run {mine}"
        )
    state = read_state(home)
    found = state.find_run(RunIndex(followed.index))
    if found is None:
        raise UsageError(f"the ledger in {home} has no run yet", hint="swarm status")
    return state, found


def _me(seen: "StateDocument") -> "PeerId | None":
    from swarm.errors import BadEncoding
    from swarm.primitives.crypto import parse_peer

    try:
        return parse_peer(seen.node.peer)
    except BadEncoding:
        return None


def _check_stake(seen: "StateDocument", wanted: int, why: str) -> None:
    """Raise ``UsageError`` at once if this node has less at stake than wanted: every peer would refuse it.

    A state document without this node's own row passes.
    """
    from swarm.cli.state_reader import me

    mine = me(seen)
    if mine is not None and mine.stake < wanted:
        has = f"{mine.stake:,} at stake of {wanted:,}" if mine.stake else "no stake"
        raise UsageError(f"this node has {has}: {why}", hint=_STAKE)
