"""Steer a run of one's own: pause, resume, stop.

Shell: asks the node of this home, prints what follows.
"""

import typer

from swarm.cli.terminal import terminal

TIMEOUT_S = 90.0
"""Longer than the node waits for the ledger."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("pause", short_help="Let your run rest from the next round boundary on.")(pause)
    app.command("resume", short_help="Go on with your run after a pause.")(resume)
    app.command("stop", short_help="End your run at the next boundary, with one model.")(stop)


def pause() -> None:
    """Let the run rest from the next round boundary on. Seats, stakes and shards stay as they are."""
    _steer("pause")


def resume() -> None:
    """Go on with a run that is paused, or take back a pause that has not begun."""
    _steer("resume")


def stop() -> None:
    """End the run at the next round boundary: its replicas agree on one model, the last checkpoint."""
    _steer("stop")


def _steer(action: str) -> None:
    from swarm.cli.client import act, node_of

    desk = terminal()
    done = act(node_of(desk.home), action, {}, TIMEOUT_S)
    desk.data(done, [str(done.get("text", ""))])
