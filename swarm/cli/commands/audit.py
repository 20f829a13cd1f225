"""Doubt: have the node replay what a stranger says it computed, and report what is false.

Shell: chooses a window from the ledger on disk, asks the node that runs in this home, prints.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import terminal
from swarm.errors import UsageError, VerificationFailed

if TYPE_CHECKING:
    from swarm.cli.state_reader import Picture
    from swarm.ledger.state.records import Run
    from swarm.ledger.state.state import State
    from swarm.types import PeerId

AUDIT_TIMEOUT_S = 600.0
"""Fetching a window of a large model over a slow line, and replaying it behind one's own training."""
_STAKE = "put stake = N into node.toml of the home, and start the node again"

RunName = Annotated[str, typer.Option("--run", help="Its name; without one, the node's run.")]
Number = Annotated[int | None, typer.Option(min=0)]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("audit", short_help="Replay a window of somebody's work; is it true?")(audit)
    app.command("report", short_help="Accuse a window that an audit found false.")(report)


def audit(
    run: RunName = "",
    round_: Annotated[int | None, typer.Option("--round", min=0, help="Of the segment.")] = None,
    stage: Number = None,
    seat: Number = None,
    window: Annotated[int | None, typer.Option(min=0, help="Without one: all, or by dice.")] = None,
) -> None:
    """Replay somebody's segment, or one window of it, and compare it with what its solver has shown.

    Without a place: the newest segment that is revealed and can still be reported. The node that runs in
    this home fetches the logs, checks every signature in them and computes the window again. Exit code 6
    and a file of evidence if it is false.
    """
    from swarm.cli.client import act, fetch_state, node_of
    from swarm.cli.commands.ledger_views import (
        FRAUD,
        SegmentQuery,
        audit_lines,
        audit_row,
        choose_target,
        where,
    )

    desk = terminal()
    address = node_of(desk.home)
    picture = fetch_state(address)
    state, found = _ledger_of(desk.home, picture, run)
    _check_stake(picture, "solvers show their logs to peers with a stake only")
    place = choose_target(state, found, SegmentQuery(round_, stage, seat, window), _me(picture))
    desk.say(f"replaying {where(place)} of {place.solver}")
    wanted = {"round": place.round, "stage": place.stage, "seat": place.seat}
    wanted |= {} if window is None else {"window": window}
    with desk.patient("still at it: the logs are fetched, then every step is computed again"):
        answer = act(address, "audit", wanted, AUDIT_TIMEOUT_S)
    row = audit_row(place, answer)
    desk.data(row, audit_lines(row, place, desk.ink))
    if row["verdict"] == FRAUD:
        raise typer.Exit(VerificationFailed.exit_code)


def report(
    evidence: Annotated[
        str, typer.Argument(help="The file that swarm audit wrote; or name the window.")
    ] = "",
    round_: Annotated[int | None, typer.Option("--round", min=0, help="Of the segment.")] = None,
    stage: Number = None,
    seat: Number = None,
    window: Number = None,
) -> None:
    """Accuse a window on the ledger: the validators replay it and decide.

    A bond is at risk: it comes back, with 40% of the solver's stake, if the accusation holds, and goes to
    the solver if it does not.
    """
    from swarm.cli.client import act, fetch_state, node_of
    from swarm.cli.state_reader import text

    desk = terminal()
    places = {"round": round_, "stage": stage, "seat": seat, "window": window}
    wanted = _accusation(evidence, places)
    address = node_of(desk.home)
    _check_stake(fetch_state(address), "who reports risks a bond, and has a stake")
    with desk.patient("still at it: the window is replayed, and the report waits for a block"):
        answer = act(address, "report", wanted, AUDIT_TIMEOUT_S)
    said = text(answer, "text", 400) or "reported: the validators replay it now"
    desk.data({"submitted": answer.get("submitted"), "text": said}, [said])


def _accusation(evidence: str, places: "dict[str, int | None]") -> "dict[str, object]":
    """What the node is asked: by the file, or by the window; raises ``UsageError`` for neither or both."""
    named = {name: value for name, value in places.items() if value is not None}
    if evidence and not named:
        path = Path(evidence).expanduser().absolute()
        if not path.is_file():
            what = "is a folder, not a file of evidence" if path.is_dir() else "is not there"
            raise UsageError(f"{path} {what}", hint="swarm audit writes one")
        return {"evidence": str(path)}
    if evidence or len(named) < len(places):
        raise UsageError(
            "a report names one window: by the file of evidence, or by round, stage, seat and window",
            hint="swarm report FILE, or swarm report --round N --stage S --seat I --window W",
        )
    return {**named}


def _ledger_of(home: Path, picture: "Picture", name: str) -> "tuple[State, Run]":
    """The final state on this disk and the run the node follows; raises ``UsageError`` if there is none."""
    from swarm.cli.state_reader import part, text, whole
    from swarm.ledger.reader import read_state
    from swarm.types import RunIndex

    followed = part(picture, "run")
    mine = text(followed, "name")
    if not followed:
        raise UsageError("this node follows no run yet", hint="swarm status")
    if name and name != mine:
        raise UsageError(
            f"this node follows run {mine}, not {name}", hint=f"swarm audit --run {mine}"
        )
    state = read_state(home)
    found = state.find_run(RunIndex(whole(followed, "index")))
    if found is None:
        raise UsageError(f"the ledger in {home} has no run yet", hint="swarm status")
    return state, found


def _me(picture: "Picture") -> "PeerId | None":
    from swarm.cli.state_reader import part, text
    from swarm.errors import BadEncoding
    from swarm.primitives.crypto import parse_peer

    try:
        return parse_peer(text(part(picture, "node"), "peer"))
    except BadEncoding:
        return None


def _check_stake(picture: "Picture", why: str) -> None:
    """Say at once what every peer would answer; a picture without this node says nothing."""
    from swarm.cli.state_reader import me, whole

    mine = me(picture)
    if mine and whole(mine, "stake") < 1:
        raise UsageError(f"this node has no stake: {why}", hint=_STAKE)
