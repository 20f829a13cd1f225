"""Take part: join a run, launch one, write a run file.

Shell: reads files and keys, hands them to the node.
"""

import difflib
import time
from importlib import import_module
from math import ceil
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
"""Packaged run files by the size of their model."""
TICKET_FILE_S = 120
"""Seconds to wait for a ticket file: a launch on a crowded machine writes it well within this."""
TICKET_POLL_S = 0.2
PRINT_INTERVAL_S = 5.0

Listen = Annotated[
    list[str] | None, typer.Option(help="host:port to listen on; may be given more than once.")
]
Validate = Annotated[bool, typer.Option("--validate", help="Offer to validate; it takes a stake.")]
Ask = Annotated[
    int | None,
    typer.Option(min=0, metavar="PRICE", help="Least pay for 1,000 tokens to train for."),
]
NoSolve = Annotated[bool, typer.Option("--no-solve", help="Follow and serve, train nothing.")]
Upload = Annotated[
    int | None,
    typer.Option(min=0, metavar="MBIT", help="Most that is sent, in Mbit/s; 0: no limit."),
]
ApiPort = Annotated[int | None, typer.Option(help="Port of the map on 127.0.0.1; 0 takes any.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("join", short_help="Take part in a run; without a ticket, resume.")(join)
    app.command("serve", short_help="Offer this machine again, at an ask: swarm join, resumed.")(
        serve
    )
    app.command("launch", short_help="Start a run, train at once, print a ticket.")(launch)
    app.command("init", short_help="Write a run file with every setting explained.")(init)


def join(
    ticket: Annotated[
        str,
        typer.Argument(help="swarm1:... from a peer of the run; @FILE waits for one in a file."),
    ] = "",
    listen: Listen = None,
    validate: Validate = False,
    no_solve: NoSolve = False,
    ask: Ask = None,
    upload: Upload = None,
    api_port: ApiPort = None,
    dataset: Annotated[
        str,
        typer.Option(help="The run's dataset, if it is on this disk: a name, or a path with a /."),
    ] = "",
) -> None:
    """Take part in a run: train, serve, follow.

    Without a ticket, resume where this home left off, or join the run of a machine of this network.
    """
    screen = terminal()
    known = (screen.home / "store.sqlite").exists() or (screen.home / "genesis.bin").exists()
    if not ticket and not known:
        ticket = _ticket_nearby(screen)
    from swarm.node.start import Join, Resume, Start, prepared

    waits = ticket.startswith("@")
    start: Start = Join(ticket, dataset=dataset) if ticket and not waits else Resume(dataset)
    start = prepared(start, screen.home)
    config = _node_config(screen.home, listen, validate, no_solve, api_port, ask)
    config = _at_most(config, upload)
    _introduce(screen)
    if waits:
        start = Join(_ticket_from(screen, Path(ticket[1:])), dataset=dataset)
    _run(screen, config, start)


def serve(
    ask: Ask = None,
    listen: Listen = None,
    validate: Validate = False,
    api_port: ApiPort = None,
) -> None:
    """Offer this machine to the run of this home: train for an ask, as swarm market shows them.

    The first time a ticket leads to the network: swarm join TICKET --ask PRICE.
    """
    join(listen=listen, validate=validate, ask=ask, api_port=api_port)


def launch(
    file: Annotated[
        str, typer.Argument(help="A run file; without one, the packaged demo run.")
    ] = "",
    listen: Listen = None,
    api_port: ApiPort = None,
    dataset: Annotated[
        str,
        typer.Option(help="Train on this one: a name, or a path with a /; the file may name none."),
    ] = "",
    network: Annotated[
        str,
        typer.Option(metavar="TICKET", help="Open the run on the network of this ticket."),
    ] = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the file and say what the run takes; start nothing."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Launch a run in which lies pay, with a warning.")
    ] = False,
) -> None:
    """Start a run and train it at once, alone if need be; prints the ticket that others join with.

    In a home that belongs to a network, and with --network, the run is opened on that one, and [ledger] of the
    file is not used: this key needs money there, for the escrow and its stake.
    """
    from swarm.node.start import Launch, fitted, prepared

    screen = terminal()
    start = Launch(file, dataset=dataset, network=network, force=force)
    if dry_run:
        from swarm.cli.commands.dry_run import check_launch

        config = _node_config(screen.home, None, False, False, None)
        check_launch(screen, fitted(start, screen.home), config)
        return
    ready = prepared(start, screen.home)
    config = _node_config(screen.home, listen, False, False, api_port)
    _introduce(screen)
    _run(screen, config, ready)


def init(
    file: Annotated[str, typer.Argument(help="Where to write it.")] = "run.toml",
    size: Annotated[
        str, typer.Option(help=f"Begin with a run that is ready: {', '.join(SIZES)}.")
    ] = "",
    recipe: Annotated[
        str,
        typer.Option(
            help="Defaults of optimizer and averaging: muon, lora (for an adapter), noloco (as published)."
        ),
    ] = "",
) -> None:
    """Write a run file: every setting with its meaning, or with --size a run that is ready.

    Without --size it is a small run whose work others can check, with a first checkpoint within two minutes.
    """
    from swarm.config.resources import packaged_file
    from swarm.config.schema import RECIPES
    from swarm.files import write_whole

    screen, path = terminal(), Path(file)
    if size and recipe:
        raise UsageError(
            "a size that is ready has its own optimizer and averaging",
            hint=f"swarm init {path} --size {size}, then edit it; or --recipe alone",
        )
    for kind, given, known in (("recipe", recipe, RECIPES), ("size", size, SIZES)):
        if given and given not in known:
            near = difflib.get_close_matches(given.lower(), known, n=1, cutoff=0.3) or list(known)
            raise UsageError(
                f"there is no {kind} {given!r}; there are {', '.join(known)}",
                hint=f"swarm init {path} --{kind} {near[0]}",
            )
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint=f"swarm init {path / 'run.toml'}")
    if path.exists() and not screen.options.yes:
        raise UsageError(f"{path} exists already", hint=f"swarm init {path} --yes, or another name")
    try:
        text = packaged_file(SIZES[size]) if size else _template(screen.home, recipe)
        write_whole(path, text.encode())
    except OSError as error:
        where = f"ls -ld {path.parent}, or another name"
        raise UsageError(f"cannot write {path}: {error.strerror}", hint=where) from None
    screen.say(f"wrote {path}; see what it takes: swarm launch {path} --dry-run{screen.same_home}")
    screen.say(f"and start it: swarm launch {path}{screen.same_home}")
    if screen.options.json:
        screen.data({"file": str(path)}, [])


def _template(home: Path, recipe: str) -> str:
    """Return the run file that ``swarm init`` writes, with rounds fitted to an existing network."""
    from swarm.config.load import on_network, read_run_file
    from swarm.config.schema import RunFile, run_template
    from swarm.node.start import saved_genesis

    network, default = saved_genesis(home), RunFile()
    if recipe:
        default = read_run_file(f'[run]\nrecipe = "{recipe}"\n', "the recipe")
    if network is None:
        return run_template(default)
    round_s = default.training.round_blocks * default.ledger.block_interval_s
    blocks = max(ceil(round_s / network.block_interval_ms * 1000), network.beacon_delay + 1)
    training = default.training.model_copy(update={"round_blocks": blocks})
    return run_template(on_network(default, network).model_copy(update={"training": training}))


def _ticket_nearby(screen: Terminal) -> str:
    """Return the ticket that a machine of this network tells; raises ``UsageError`` unless it is of one run."""
    from swarm.node.join.lan import choose, search

    screen.say(f"{'looking':<9} for a run on this network; elsewhere a ticket leads to it")
    found, said = choose(search())
    if found is None:
        raise UsageError(
            f"no ticket was given, {screen.home} has joined no network yet, and {said}",
            hint="swarm join swarm1:... (ask a peer of the run for it), or start alone: swarm launch",
        )
    screen.say(f"{'found':<9} {said.removeprefix('found ')}")
    return found.text


def _ticket_from(screen: Terminal, path: Path) -> str:
    """Wait for the ticket in a file and return it; raises ``UsageError`` if none comes in time."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder, and no ticket is in one", hint="swarm join @FILE")
    from swarm.config.resources import read_text

    began = printed_at = time.monotonic()
    while not (path.is_file() and (found := read_text(path, f"check {path}").strip())):
        now = time.monotonic()
        if now - began > TICKET_FILE_S:
            raise UsageError(
                f"no ticket in {path} after {TICKET_FILE_S} s", hint="swarm ticket new"
            )
        if now - printed_at > PRINT_INTERVAL_S:
            printed_at = now
            screen.say(f"waiting for a ticket in {path}")
        time.sleep(TICKET_POLL_S)
    return found


def _introduce(screen: Terminal) -> None:
    """Print the identity of the home, created if there is none, and load the libraries of a node."""
    from swarm.cli.responsive import for_good
    from swarm.host.identity import load_identity, lock_home

    is_new = not (screen.home / "identity.key").exists()
    secret = load_identity(screen.home)
    with lock_home(screen.home):
        pass  # a home in use fails here, before the libraries load; the node takes the lock for good
    from swarm.primitives.crypto import peer_name

    note = " (new; back it up: swarm id export)" if is_new else ""
    screen.say(f"{'identity':<9} {peer_name(secret.peer)}{note}")
    screen.say(f"{'starting':<9} loading the libraries takes a few seconds")
    with for_good(), screen.patient(f"{'':<9} still loading: this machine is busy"):
        import_module("swarm.node.open")


def _node_config(
    home: Path,
    listen: list[str] | None,
    validate: bool,
    no_solve: bool,
    api_port: int | None,
    ask: int | None = None,
) -> "NodeConfig":
    """Read ``home/node.toml``, if there is one, and apply the options of the command line."""
    from swarm.config.bounds import PRICE_MAX
    from swarm.config.load import is_listen_address
    from swarm.config.resources import load_node

    config, changes = load_node(home), dict[str, object]()
    if listen:
        if wrong := next((entry for entry in listen if not is_listen_address(entry)), ""):
            raise UsageError(
                f"--listen {wrong[:80]} is not host:port", hint="swarm join --listen 0.0.0.0:4001"
            )
        changes["listen"] = tuple(listen)
    if api_port is not None:
        if not 0 <= api_port <= 65535:
            raise UsageError(f"--api-port {api_port} is not a port", hint="swarm join --api-port 0")
        changes["api_port"] = api_port
    changes |= {"validate_": True} if validate else {}
    if ask is not None:
        if ask > PRICE_MAX:
            raise UsageError(f"--ask {ask} is above {PRICE_MAX}", hint="swarm market")
        changes["ask"] = ask
    changes |= {"solve": False} if no_solve else {}
    return config.model_copy(update=changes)


def _at_most(config: "NodeConfig", upload: int | None) -> "NodeConfig":
    """Return the settings with another limit of what is sent, where one was given."""
    from swarm.config.schema import UPLOAD_MBIT_MAX

    if upload is None:
        return config
    if upload > UPLOAD_MBIT_MAX:
        raise UsageError(f"--upload {upload} is above {UPLOAD_MBIT_MAX}", hint="swarm join")
    return config.model_copy(update={"upload_mbit": upload})


def _run(screen: Terminal, config: "NodeConfig", start: "Start") -> None:
    from swarm.cli.run_node import NodeConsole, leave, run_until_stopped

    code = run_until_stopped(config, screen.home, start, NodeConsole(screen))
    screen.say(f"left cleanly; come back with: swarm join{screen.same_home}")
    leave(code)
