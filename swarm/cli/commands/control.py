"""Control a run that this node launched: pause, resume, stop; or leave one of another.

Shell: asks the node of this home, prints what follows.
"""

from collections.abc import Mapping

import typer

from swarm.cli.terminal import Terminal, terminal
from swarm.errors import SwarmError

REPEAT = "swarm stop --yes"
"""Ends the run without a question."""

TIMEOUT_S = 90.0
"""Seconds for an action: longer than the node waits for the ledger."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("pause", short_help="Let your run rest from the next round boundary on.")(pause)
    app.command("resume", short_help="Go on with your run after a pause.")(resume)
    app.command("leave", short_help="Give up this node's seat, with a handover.")(leave)
    app.command("stop", short_help="End your run for all its peers, with one model.")(stop)


def leave() -> None:
    """Give up this node's seat at the next round boundary; it trains no more until it is started again.

    Keep the node running for a round after that: those that follow get what its seat has learned.
    """
    _steer("leave")


def pause() -> None:
    """Let the run rest from the next round boundary on. Seats, stakes and shards stay as they are."""
    _steer("pause")


def resume() -> None:
    """Go on with a run that is paused, or take back a pause that has not begun."""
    _steer("resume")


def stop() -> None:
    """End the run at the next round boundary, for all its peers; its replicas average into the last checkpoint.

    Asks first; --yes answers. There is no way back: swarm pause lets it rest, and Ctrl-C only leaves it.
    """
    screen = terminal()
    if not screen.confirms(
        f"End run {_run_name(screen)} for all its peers?", REPEAT + screen.same_home
    ):
        raise SwarmError(
            "nothing was stopped", hint="swarm pause lets the run rest; Ctrl-C only leaves it"
        )
    _steer("stop")


def _run_name(screen: Terminal) -> str:
    """Return the run of this home's node, as it is called on screen."""
    from swarm.cli.client import fetch_state, node_of

    run = fetch_state(node_of(screen.home)).run
    return run.name if run and run.name else "of this node"


def _steer(action: str) -> None:
    ask_node(terminal(), action, {})


def ask_node(screen: Terminal, action: str, body: Mapping[str, object]) -> None:
    """Have this home's node perform an action that the ledger makes final, and print what it says."""
    from swarm.cli.client import act, node_of

    done = act(node_of(screen.home), action, body, TIMEOUT_S)
    screen.data(done, [str(done.get("text", ""))])
