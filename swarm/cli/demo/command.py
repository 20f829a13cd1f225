"""Run the demo: nine peers on this machine train a model; one is killed and returns, one cheats and is caught.

Shell: starts, kills, restarts, measures, cleans up. The scenario is in cli/demo/scenario.py.
"""

import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import PROGRAM, Terminal, terminal
from swarm.errors import SwarmError

if TYPE_CHECKING:
    from swarm.cli.demo.peer import DemoPeer
    from swarm.cli.demo.processes import Children
    from swarm.cli.demo.report import Result
    from swarm.cli.demo.results import Measured
    from swarm.cli.demo.scenario import Role, Scenario
    from swarm.cli.demo.watch import DemoWatch

LOOK_INTERVAL_S = 1.0
TICKET_S = 90.0
"""Seconds until the ticket: the launcher first loads libraries, reads the text and initialises the model."""
CLOSING_S = 35.0
"""Seconds of the time asked for that are kept for export and measurement by separate processes."""
DISK_BYTES = 8 << 30
"""Bytes for all homes: the packaged run takes 7.3 GB at most on two idle cores, for windows to be checked."""
HURRY_S = 1.8
"""Seconds between Ctrl-C and SIGKILL for the child processes: all is over in 3 s."""


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("demo", short_help="Watch nine peers on this machine train a model.")(demo)


def demo(
    file: Annotated[
        str, typer.Argument(help="A run file; without one, the packaged demo run.")
    ] = "",
    minutes: Annotated[
        float,
        typer.Option(
            help="About when everything is over; 35 s of it are kept for measuring.",
            min=0.5,
            max=600.0,
        ),
    ] = 5.0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep homes and logs.")] = False,
    kill: Annotated[
        bool, typer.Option("--kill/--no-kill", help="Kill one peer in the middle.")
    ] = True,
    liar: Annotated[
        bool, typer.Option("--liar/--no-liar", help="Let one peer cheat, and be caught.")
    ] = True,
) -> None:
    """Watch a swarm train: 2 stages x 3 replicas, two more peers and a cheating one, all on this machine."""
    from swarm.cli.demo.report import result_lines, result_object, shortfalls

    desk = terminal()
    folder = Path(tempfile.mkdtemp(prefix="swarm-demo-"))
    signal.signal(signal.SIGTERM, _interrupt)
    if (free := shutil.disk_usage(folder).free) < DISK_BYTES:
        desk.say(
            f"{folder.parent} has {free / 1e9:.1f} GB free, and the demo may need {DISK_BYTES / 1e9:.0f}:"
            " if it fails, set TMPDIR to a folder with more room"
        )
    try:
        result, _ = play(desk, folder, file, minutes=minutes, kills=kill, lies=liar)
    except BaseException:
        desk.say(f"homes and logs are kept in {folder}")
        raise
    faults = shortfalls(result)
    if keep or faults:
        desk.say(f"homes and logs are kept in {folder}")
    else:
        _clean(folder)
    desk.data(result_object(result), result_lines(result, desk.ink))
    if faults:
        raise SwarmError(f"the demo failed: {'; '.join(faults)}", hint=f"read {folder}/logs")
    _say_next(desk)


def _say_next(desk: Terminal) -> None:
    """Say how the program is called from here, and what comes after the demo."""
    activate = Path(sys.prefix) / "bin" / "activate"
    if desk.program != PROGRAM and activate.is_file():
        here = Path.cwd()
        shown = activate.relative_to(here) if activate.is_relative_to(here) else activate
        desk.say(f"call it as {desk.program}, or as swarm after: source {shown}")
    desk.say("next, a run of your own: swarm launch")


@dataclass(frozen=True, slots=True)
class DemoPeers:
    """Peers, processes, scenario and observations of one demo."""

    players: "list[DemoPeer]"
    children: "Children"
    script: "Scenario"
    watch: "DemoWatch"
    run_path: Path


def play(
    desk: Terminal,
    folder: Path,
    file: str,
    *,
    minutes: float,
    kills: bool,
    lies: bool = False,
    cast: "tuple[Role, ...]" = (),
) -> "tuple[Result, DemoWatch]":
    """Run the whole demo below ``folder``; afterwards no process of it is left.

    Args:
        desk: Terminal for messages.
        folder: Folder of the homes, logs and models.
        file: Path of a run file; '' for the packaged demo run.
        minutes: Minutes after which everything is over.
        kills: True to kill one peer and start it again.
        lies: True to let one peer cheat.
        cast: Roles of the peers, the launcher first; () for those of the demo.

    Returns:
        The result of the demo, and what was observed while it ran.
    """
    from swarm.cli.demo.processes import STOP_S
    from swarm.cli.demo.results import measure

    troupe = _gather(desk, folder, file, minutes, kills, lies, cast)
    children, watch, patience_s = troupe.children, troupe.watch, HURRY_S
    try:
        _open(troupe)
        _perform(troupe)
        patience_s = STOP_S
    finally:
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # cleaning up is not interrupted
        children.stop(patience_s)
        signal.signal(signal.SIGINT, previous)
    watch.tell("the peers have left; separate processes measure what they made")
    measured = measure(children, troupe.players, folder, desk.say)
    return _result(troupe, measured), watch


def _gather(
    desk: Terminal,
    folder: Path,
    file: str,
    minutes: float,
    kills: bool,
    lies: bool,
    cast: "tuple[Role, ...]",
) -> DemoPeers:
    import secrets

    from swarm.cli.demo.peer import prepare_peers
    from swarm.cli.demo.processes import Children
    from swarm.cli.demo.scenario import Scenario, num_honest, roles_of
    from swarm.cli.demo.watch import DemoWatch
    from swarm.config.resources import packaged_file
    from swarm.config.spec import EXACT_NUMERICS
    from swarm.node.start import DEMO_FILE, Launch

    watch = DemoWatch(desk)
    run_file = Launch(file).file
    run_path = Path(file).absolute() if file else folder / "run.toml"
    if not file:
        run_path.write_text(packaged_file(DEMO_FILE), encoding="utf-8")
    if lies and run_file.run.numerics != EXACT_NUMERICS:
        lies = False
        watch.tell(f"no liar: {run_file.run.numerics} numerics are not checked bit for bit")
    training = run_file.training
    honest = num_honest(training.num_stages, training.replicas_max, lies=lies)
    players = prepare_peers(folder, cast or roles_of(honest, lies=lies), run_file)
    deadline = watch.began + max(60 * minutes - CLOSING_S, CLOSING_S)
    script = Scenario(deadline=deadline, kills=kills, lies=lies)
    return DemoPeers(players, Children(secrets.token_hex(8)), script, watch, run_path)


def _open(troupe: DemoPeers) -> None:
    """Start the launcher, then the honest peers, validators first: they load while it prepares the run."""
    from swarm.cli.demo.watch import wait_for_ticket

    first, *rest = (player for player in troupe.players if not player.role.lies)
    words = ["launch", str(troupe.run_path), "--home", str(first.home)]
    troupe.children.start(first.role.folder, words, first.log)
    troupe.watch.tell(f"{first.name} launches {troupe.run_path.name}")
    for player in sorted(rest, key=lambda one: not one.role.validates):
        _join(troupe, player)
    troupe.watch.tell(f"{len(rest)} peers join: {', '.join(player.name for player in rest)}")
    troupe.watch.tell(f"ticket {wait_for_ticket(troupe.children, first, troupe.watch, TICKET_S)}")


def _join(troupe: DemoPeers, player: "DemoPeer") -> None:
    from swarm.cli.demo.processes import LIAR, SWARM

    ticket_file = troupe.players[0].home / "ticket.txt"
    words = ["join", f"@{ticket_file}", "--home", str(player.home)]
    program = LIAR if player.role.lies else SWARM
    troupe.children.start(player.role.folder, words, player.log, program)


def _perform(troupe: DemoPeers) -> None:
    """Observe the run until the scenario is over, and make its moves."""
    from swarm.cli.demo.scenario import VICTIM, Move, Phase

    players, script, watch, children = (
        troupe.players,
        troupe.script,
        troupe.watch,
        troupe.children,
    )
    victim, was_back = players[VICTIM], False
    while script.act is not Phase.DONE:
        children.check()
        look = watch.look(players[0], victim, asks_victim=script.act in {Phase.GATHER, Phase.BACK})
        for move in script.next_moves(look, time.monotonic()):
            match move:
                case Move.LIE:
                    _join(troupe, players[-1])
                    troupe.children.let_go(players[-1].role.folder)
                    watch.tell(
                        f"{players[-1].name} joins, a cheat: it counts its steps and takes none"
                    )
                case Move.KILL:
                    children.kill(victim.role.folder)
                    (victim.home / "api.json").unlink(missing_ok=True)
                    watch.tell(f"killed {victim.name} (kill -9), a replica that validates")
                case Move.RESTART:
                    _join(troupe, victim)
                    watch.tell(f"{victim.name} starts again")
                case Move.FINISH:
                    watch.tell("time is up" if script.ended_early else "all rounds are done")
        if script.rejoin_s is not None and not was_back:
            was_back = True
            watch.tell(f"{victim.name} trains again, {script.rejoin_s:.1f} s after its restart")
        watch.weigh(children)
        watch.progress()
        time.sleep(LOOK_INTERVAL_S)


def _result(troupe: DemoPeers, measured: "Measured") -> "Result":
    from swarm.cli.demo.report import Result

    watch, script = troupe.watch, troupe.script
    run = watch.state.run
    return Result(
        initial_loss_nats=measured.initial_loss_nats,
        final_loss_nats=measured.final_loss_nats,
        tokens=watch.tokens,
        rounds=min(watch.round, run.rounds if run else 0),
        peers=watch.num_peers,
        commits_final=measured.commits,
        commits_verified=measured.checked.commits_verified,
        lies_planted=measured.checked.lies_planted,
        lies_caught=measured.checked.lies_caught,
        rejoin_s=None if script.rejoin_s is None else round(script.rejoin_s, 2),
        ledger_height=measured.height,
        supply_conserved=measured.supply_conserved,
        peak_memory_mb=round(watch.peak_mb, 1) or None,
        left_running=troupe.children.left_running(),
        sample=measured.sample,
        export_dir=measured.export_dir,
        map_url=watch.map_url,
        seconds=round(watch.seconds, 1),
        commits_old=measured.checked.commits_old,
        honest_slashed=measured.checked.honest_slashed,
        lies_late=measured.checked.lies_late,
    )


def _clean(folder: Path) -> None:
    """Remove everything but the exported model."""
    for entry in folder.iterdir():
        if entry.name != "model":
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Handle a request to stop like Ctrl-C: the child processes end first."""
    raise KeyboardInterrupt
