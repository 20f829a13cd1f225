"""Make and show tickets, and show or export the identity of this node.

Shell: reads the home folder and prints.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from swarm.cli.terminal import Terminal, terminal
from swarm.errors import BadIdentity, UsageError

ticket_app = typer.Typer(help="Invitations to a run: new, show.", no_args_is_help=True)
id_app = typer.Typer(help="The identity of this node: show, export.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(ticket_app, name="ticket")
    app.add_typer(id_app, name="id")


@ticket_app.command("new")
def ticket_new() -> None:
    """Make an invitation to the run that this node takes part in."""
    from swarm.cli.client import act, fetch_state, node_of
    from swarm.ticket import parse_ticket, reach_text

    screen = terminal()
    address = node_of(screen.home)
    run = fetch_state(address).run
    ticket = run.ticket if run else None
    if not ticket:
        ticket = str(act(address, "ticket", {}).get("ticket", ""))
    if not ticket:
        raise UsageError("this node has no run to invite to yet", hint="swarm status")
    screen.data({"ticket": ticket}, [ticket, *_qr_lines(screen, ticket)])
    if limits := reach_text(parse_ticket(ticket, int(time.time())).addresses):
        screen.say(f"note: {limits}")


@ticket_app.command("show")
def ticket_show(
    ticket: Annotated[str, typer.Argument(help="swarm1:...")],
) -> None:
    """Say what is in a ticket, and check it."""
    from swarm.primitives.crypto import peer_name, peer_text
    from swarm.ticket import parse_ticket, reach_text

    screen, now = terminal(), int(time.time())
    parsed = parse_ticket(ticket, now)
    row = {
        "network": parsed.genesis16.hex(),
        "run": parsed.run16.hex(),
        "peer": peer_text(parsed.peer),
        "name": peer_name(parsed.peer),
        "addresses": list(parsed.addresses),
        "expires": parsed.expires,
    }
    left = f"in {(parsed.expires - now) // 3600} h" if parsed.expires else "never"
    lines = [
        f"network   {row['network']}",
        f"run       {row['run']}",
        f"peer      {row['name']}  {row['peer']}",
        f"address   {', '.join(parsed.addresses)}",
        f"expires   {left}",
    ]
    screen.data(row, [*lines, *_qr_lines(screen, "".join(ticket.split()))])
    if limits := reach_text(parsed.addresses, "the machine that it was made on"):
        screen.say(f"note: {limits}")


@id_app.command("show")
def id_show() -> None:
    """Show the name and PeerID of this node; makes the key on first use."""
    from swarm.host.identity import load_identity
    from swarm.primitives.crypto import peer_name, peer_text

    screen = terminal()
    is_new = not (screen.home / "identity.key").exists()
    peer = load_identity(screen.home).peer
    if is_new:
        screen.say("made a new key; back it up: swarm id export")
    row = {"name": peer_name(peer), "peer": peer_text(peer), "home": str(screen.home)}
    screen.data(row, [f"{row['name']}  {row['peer']}", f"key in {screen.home / 'identity.key'}"])


@id_app.command("export")
def id_export(
    file: Annotated[str, typer.Argument(help="Where to; without one, to the terminal.")] = "",
) -> None:
    """Copy the secret key, for a backup. Anyone who has it can act as this node."""
    from swarm.files import write_whole
    from swarm.host.identity import load_identity

    screen = terminal()
    if not (screen.home / "identity.key").exists():
        raise BadIdentity(f"there is no key in {screen.home} yet", hint="swarm id show")
    secret = load_identity(screen.home).seed.hex()
    if not file:
        screen.say("keep this secret: its holder is this node")
        screen.data({"seed": secret}, [secret])
        return
    path = Path(file)
    try:
        write_whole(path, f"{secret}\n".encode(), is_secret=True, replaces=screen.options.yes)
    except FileExistsError:
        raise UsageError(f"{path} exists already", hint=f"swarm id export {path} --yes") from None
    screen.say(f"wrote the secret key to {path}; restore it as identity.key of a home folder")
    if screen.options.json:
        screen.data({"file": str(path)}, [])


def _qr_lines(screen: Terminal, ticket: str) -> list[str]:
    """Return the ticket as a QR code for a phone; empty with --json or if stdout is no terminal."""
    if not screen.ink.is_on or screen.options.json:
        return []
    import io

    import segno

    rendered = io.StringIO()
    segno.make(ticket, error="l").terminal(rendered, compact=True)
    return ["", rendered.getvalue()]
