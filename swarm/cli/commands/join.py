"""Take part: join a run, launch one, write a run file.

Shell: reads files and keys, hands them to the node.
"""

import difflib
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import Terminal, terminal
from swarm.errors import UsageError

if TYPE_CHECKING:
    from swarm.config.schema import NodeConfig
    from swarm.node.start import Start

SIZES = {
    "demo": "demo.toml",
    "125m": "run-125m.toml",
    "1b3": "run-1b3.toml",
    "6b8": "run-6b8.toml",
}
"""The runs that are ready, by the size of their model."""
TICKET_FILE_S = 120
"""A launch on a crowded machine writes its ticket well within this."""
TICKET_LOOK_S = 0.2
TELL_INTERVAL_S = 5.0

Listen = Annotated[
    list[str] | None, typer.Option(help="host:port to listen on; may be given more than once.")
]
Validate = Annotated[
    bool, typer.Option("--validate", help="Vote on blocks, if the genesis names us.")
]
NoSolve = Annotated[bool, typer.Option("--no-solve", help="Follow and serve, train nothing.")]
ApiPort = Annotated[int | None, typer.Option(help="Port of the map on 127.0.0.1; 0 takes any.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("join", short_help="Take part in a run; without a ticket, resume.")(join)
    app.command("launch", short_help="Start a run, train at once, print a ticket.")(launch)
    app.command("init", short_help="Write a run file with every setting explained.")(init)


def join(
    ticket: Annotated[
        str, typer.Argument(help="swarm1:... from whoever launched; @FILE waits for one.")
    ] = "",
    listen: Listen = None,
    validate: Validate = False,
    no_solve: NoSolve = False,
    api_port: ApiPort = None,
    dataset: Annotated[
        str,
        typer.Option(help="The run's dataset, if it is on this disk: a name, or a path with a /."),
    ] = "",
) -> None:
    """Take part in a run: train, serve, follow. Without a ticket, resume where this home left off."""
    desk = terminal()
    known = (desk.home / "store.sqlite").exists() or (desk.home / "genesis.bin").exists()
    if not ticket and not known:
        raise UsageError(
            f"no ticket was given, and {desk.home} has joined no network yet",
            hint="swarm join swarm1:... (ask whoever launched for it), or start alone: swarm launch",
        )
    from swarm.node.start import Join, Resume, Start, with_dataset

    waits = ticket.startswith("@")
    start: Start = Join(ticket, dataset=dataset) if ticket and not waits else Resume(dataset)
    start = with_dataset(start, desk.home)
    config = _prepared(desk, listen, validate, no_solve, api_port)
    if waits:
        start = Join(_ticket_from(desk, Path(ticket[1:])), dataset=dataset)
    _run(desk, config, start)


def launch(
    file: Annotated[
        str, typer.Argument(help="A run file; without one, the packaged demo run.")
    ] = "",
    listen: Listen = None,
    api_port: ApiPort = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the file and say what the run takes; start nothing."),
    ] = False,
) -> None:
    """Start a run and train it at once, alone if need be; prints the ticket that others join with."""
    desk = terminal()
    from swarm.node.start import Launch, with_dataset

    start = Launch(file)
    if dry_run:
        from swarm.cli.commands.dry_run import rehearse

        config = _node_config(desk.home, None, False, False, None)
        rehearse(desk, start.file, start.base, config)
        return
    found = with_dataset(start, desk.home)
    _run(desk, _prepared(desk, listen, False, False, api_port), found)


def init(
    file: Annotated[str, typer.Argument(help="Where to write it.")] = "run.toml",
    size: Annotated[
        str, typer.Option(help=f"Begin with a run that is ready: {', '.join(SIZES)}.")
    ] = "",
) -> None:
    """Write a run file: every setting with its default and its meaning, or with --size a run that is ready."""
    from swarm.config.resources import packaged_file
    from swarm.config.schema import run_template

    desk, path = terminal(), Path(file)
    if size and size not in SIZES:
        near = difflib.get_close_matches(size.lower(), SIZES, n=1, cutoff=0.3) or list(SIZES)
        raise UsageError(
            f"there is no size {size!r}; there are {', '.join(SIZES)}",
            hint=f"swarm init {path} --size {near[0]}",
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint=f"swarm init {path / 'run.toml'}")
    if path.exists() and not desk.options.yes:
        raise UsageError(f"{path} exists already", hint=f"swarm init {path} --yes, or another name")
    try:
        path.write_text(packaged_file(SIZES[size]) if size else run_template(), encoding="utf-8")
    except OSError as error:
        where = f"ls -ld {path.parent}, or another name"
        raise UsageError(f"cannot write {path}: {error.strerror}", hint=where) from None
    desk.say(f"wrote {path}; edit it, see what it takes: swarm launch {path} --dry-run")
    desk.say(f"and start it: swarm launch {path}")
    if desk.options.json:
        desk.data({"file": str(path)}, [])


def _ticket_from(desk: Terminal, path: Path) -> str:
    """The ticket in a file, as soon as somebody writes it; raises ``UsageError`` if nobody does."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder, and no ticket is in one", hint="swarm join @FILE")
    from swarm.config.resources import read_text

    began = told = time.monotonic()
    while not (path.is_file() and (found := read_text(path, f"check {path}").strip())):
        now = time.monotonic()
        if now - began > TICKET_FILE_S:
            raise UsageError(
                f"no ticket in {path} after {TICKET_FILE_S} s", hint="swarm ticket new"
            )
        if now - told > TELL_INTERVAL_S:
            told = now
            desk.say(f"waiting for a ticket in {path}")
        time.sleep(TICKET_LOOK_S)
    return found


def _prepared(
    desk: Terminal, listen: list[str] | None, validate: bool, no_solve: bool, api_port: int | None
) -> "NodeConfig":
    """Return the settings of the node, with its identity told and its libraries loaded."""
    config = _node_config(desk.home, listen, validate, no_solve, api_port)
    from swarm.host.identity import load_identity, lock_home

    is_new = not (desk.home / "identity.key").exists()
    secret = load_identity(desk.home)
    with lock_home(desk.home):
        pass  # a home in use is told here, before the libraries load; the node takes the lock for good
    from swarm.primitives.crypto import peer_name

    note = " (new; back it up: swarm id export)" if is_new else ""
    desk.say(f"{'identity':<9} {peer_name(secret.peer)}{note}")
    desk.say(f"{'starting':<9} loading the libraries takes a few seconds")
    with desk.patient(f"{'':<9} still loading: this machine is busy"):
        import_module("swarm.node.open")

    return config


def _node_config(
    home: Path, listen: list[str] | None, validate: bool, no_solve: bool, api_port: int | None
) -> "NodeConfig":
    """``home/node.toml``, if there is one, with what the command line overrides."""
    from swarm.config.load import is_place
    from swarm.config.resources import load_node
    from swarm.config.schema import NodeConfig

    path = home / "node.toml"
    config = load_node(path) if path.exists() else NodeConfig()
    changes: dict[str, object] = {}
    if listen:
        if wrong := next((entry for entry in listen if not is_place(entry)), ""):
            raise UsageError(
                f"--listen {wrong[:80]} is not host:port", hint="swarm join --listen 0.0.0.0:4001"
            )
        changes["listen"] = tuple(listen)
    if api_port is not None:
        if not 0 <= api_port <= 65535:
            raise UsageError(f"--api-port {api_port} is not a port", hint="swarm join --api-port 0")
        changes["api_port"] = api_port
    changes |= {"validate_": True} if validate else {}
    changes |= {"solve": False} if no_solve else {}
    return config.model_copy(update=changes)


def _run(desk: Terminal, config: "NodeConfig", start: "Start") -> None:
    from swarm.cli.run_node import NodeConsole, leave, run_until_stopped

    code = run_until_stopped(config, desk.home, start, NodeConsole(desk))
    desk.say("left cleanly; come back with: swarm join")
    leave(code)
