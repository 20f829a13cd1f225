"""Look at the node that runs here: status, map, peers, run.

Shell: fetches the picture, prints the view.
"""

import time
from typing import Annotated

import typer

from swarm.cli.terminal import Terminal, terminal

WATCH_INTERVAL_S = 2.0

peers_app = typer.Typer(help="Who takes part: ls, show.", no_args_is_help=True)
run_app = typer.Typer(help="The run this node follows: ls, show.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("status", short_help="Who this node is, what it does, is it well?")(status)
    app.command("map", short_help="Draw the peers by stage.")(map_)
    app.add_typer(peers_app, name="peers")
    app.add_typer(run_app, name="run")


def _picture(desk: Terminal) -> dict[str, object]:
    from swarm.cli.client import fetch_state, node_of

    return fetch_state(node_of(desk.home))


def status() -> None:
    """Say who this node is, what it does and whether it is well."""
    from swarm.cli.views import status_lines

    desk = terminal()
    picture = _picture(desk)
    wanted = {name: picture.get(name) for name in ("node", "run", "ledger")}
    desk.data(wanted, status_lines(picture, desk.ink))


def map_(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw it again every 2 s.")] = False,
) -> None:
    """Draw the peer map: who holds which stage, how fast, and what is wrong with whom."""
    from swarm.cli.views import map_lines

    desk = terminal()
    while True:
        picture = _picture(desk)
        lines = map_lines(picture, desk.ink, desk.columns)
        if watch and desk.ink.is_on:
            lines = ["\x1b[H\x1b[2J" + lines[0], *lines[1:]]
        names = ("run", "ledger", "peers", "seats", "trades", "convictions")
        desk.data({name: picture.get(name) for name in names}, lines)
        if not watch:
            return
        time.sleep(WATCH_INTERVAL_S)


@peers_app.command("ls")
def peers_list() -> None:
    """List the peers this node knows."""
    from swarm.cli.views import peer_table

    desk = terminal()
    picture = _picture(desk)
    desk.data(picture.get("peers"), peer_table(picture, desk.ink))


@peers_app.command("show")
def peers_show(
    peer: Annotated[str, typer.Argument(help="A name or PeerID, or how it begins.")],
) -> None:
    """Tell everything known about one peer."""
    from swarm.cli.views import find_peer, peer_lines

    desk = terminal()
    found = find_peer(_picture(desk), peer)
    desk.data(found, peer_lines(found, desk.ink))


@run_app.command("ls")
def run_list() -> None:
    """List the runs this node follows."""
    from swarm.cli.views import run_list as lines_of

    desk = terminal()
    picture = _picture(desk)
    run = picture.get("run")
    desk.data([run] if run else [], lines_of(picture))


@run_app.command("show")
def run_show() -> None:
    """Show the run: progress, phase, who sits where, how its work was checked."""
    from swarm.cli.views import run_lines

    desk = terminal()
    picture = _picture(desk)
    names = ("run", "seats", "loss_curve", "checks", "convictions")
    wanted = {name: picture.get(name) for name in names}
    desk.data(wanted, run_lines(picture, desk.ink))
