"""Run the demo: ten peers on this machine train a model; one is killed and returns, two cheat and are caught.

Shell: starts, kills, restarts, measures, cleans up. The scenario is in cli/demo/scenario.py.
"""

import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import PROGRAM, Terminal, terminal
from swarm.errors import SwarmError
from swarm.machine import free_bytes, make_scratch

if TYPE_CHECKING:
    from swarm.cli.demo.peer import DemoPeer
    from swarm.cli.demo.processes import Children
    from swarm.cli.demo.report import Result
    from swarm.cli.demo.results import Measured
    from swarm.cli.demo.scenario import Cheat, Role, Scenario
    from swarm.cli.demo.watch import DemoWatch

POLL_INTERVAL_S = 1.0
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
    app.command("demo", short_help="Watch ten peers on this machine train a model.")(demo)


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
    cheat: Annotated[
        bool, typer.Option("--liar/--no-liar", help="Let two peers cheat, and be caught.")
    ] = True,
) -> None:
    """Watch a swarm train: 2 stages x 3 replicas, two more peers and two that cheat, all on this machine."""
    from swarm.cli.demo.report import result_lines, result_object, shortfalls

    screen = terminal()
    folder = make_scratch("swarm-demo-")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # by nohup
            signal.signal(number, _interrupt)
    if (free := free_bytes(folder)) < DISK_BYTES:
        screen.say(
            f"{folder.parent} has {free / 1e9:.1f} GB free, and the demo may need {DISK_BYTES / 1e9:.0f}:"
            " if it fails, set TMPDIR to a folder with more room"
        )
    try:
        result, _ = run_demo(screen, folder, file, minutes=minutes, kills=kill, cheats=cheat)
    except BaseException:
        screen.say(f"homes and logs are kept in {folder}")
        raise
    faults = shortfalls(result)
    if keep or faults:
        screen.say(f"homes and logs are kept in {folder}")
    else:
        _clean(folder)
    screen.data(result_object(result), result_lines(result, screen.ink))
    if faults:
        raise SwarmError(f"the demo failed: {'; '.join(faults)}", hint=f"read {folder}/logs")
    _suggest_next(screen)


def _suggest_next(screen: Terminal) -> None:
    """Say how the program is called from here, and what comes after the demo."""
    activate = Path(sys.prefix) / "bin" / "activate"
    if screen.program != PROGRAM and activate.is_file():
        here = Path.cwd()
        shown = activate.relative_to(here) if activate.is_relative_to(here) else activate
        screen.say(f"call it as {screen.program}, or as swarm after: source {shown}")
    screen.say("next, a run of your own: swarm launch")


@dataclass(frozen=True, slots=True)
class DemoSetup:
    """Peers, processes, scenario and observer of one demo."""

    peers: "list[DemoPeer]"
    children: "Children"
    scenario: "Scenario"
    watch: "DemoWatch"
    run_path: Path


def run_demo(
    screen: Terminal,
    folder: Path,
    file: str,
    *,
    minutes: float,
    kills: bool,
    cheats: bool = False,
    roles: "tuple[Role, ...]" = (),
) -> "tuple[Result, DemoWatch]":
    """Run the whole demo below ``folder``; afterwards no process of it is left.

    Args:
        screen: Terminal for messages.
        folder: Folder of the homes, logs and models.
        file: Path of a run file; '' for the packaged demo run.
        minutes: Minutes after which everything is over.
        kills: True to kill one peer and start it again.
        cheats: True to let two peers cheat.
        roles: Roles of the peers, the launcher first; () for those of the demo.

    Returns:
        The result of the demo, and the observer of the run.
    """
    from swarm.cli.demo.processes import STOP_S
    from swarm.cli.demo.results import measure

    setup = _prepare(screen, folder, file, minutes, kills, cheats, roles)
    children, watch, patience_s = setup.children, setup.watch, HURRY_S
    try:
        _start_peers(setup)
        _run_scenario(setup)
        patience_s = STOP_S
    finally:
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # cleaning up is not interrupted
        children.stop(patience_s)
        signal.signal(signal.SIGINT, previous)
    watch.report("the peers have left; separate processes measure what they made")
    measured = measure(children, setup.peers, folder, screen.say)
    return _result(setup, measured), watch


def _prepare(
    screen: Terminal,
    folder: Path,
    file: str,
    minutes: float,
    kills: bool,
    cheats: bool,
    roles: "tuple[Role, ...]",
) -> DemoSetup:
    import secrets

    from swarm.cli.demo.peer import prepare_peers
    from swarm.cli.demo.processes import Children
    from swarm.cli.demo.scenario import Scenario, num_honest, roles_of
    from swarm.cli.demo.watch import DemoWatch
    from swarm.config.resources import packaged_file
    from swarm.config.spec import EXACT_NUMERICS
    from swarm.node.start import DEMO_FILE, Launch

    watch = DemoWatch(screen)
    run_file = Launch(file).file
    run_path = Path(file).absolute() if file else folder / "run.toml"
    if not file:
        run_path.write_text(packaged_file(DEMO_FILE), encoding="utf-8")
    if cheats and run_file.run.numerics != EXACT_NUMERICS:
        cheats = False
        watch.report(
            f"no peer cheats: {run_file.run.numerics} numerics are not checked bit for bit"
        )
    training = run_file.training
    honest = num_honest(training.num_stages, training.replicas_max, cheats=cheats)
    peers = prepare_peers(folder, roles or roles_of(honest, cheats=cheats), run_file)
    deadline = watch.began + max(60 * minutes - CLOSING_S, CLOSING_S)
    scenario = Scenario(deadline=deadline, kills=kills, cheats=cheats)
    return DemoSetup(peers, Children(secrets.token_hex(8)), scenario, watch, run_path)


def _start_peers(setup: DemoSetup) -> None:
    """Start the launcher, then the honest peers, validators first: they load while it prepares the run."""
    from swarm.cli.demo.watch import wait_for_ticket

    first, *rest = (peer for peer in setup.peers if not peer.role.cheats)
    args = ["launch", str(setup.run_path), "--home", str(first.home)]
    setup.children.start(first.role.folder, args, first.log)
    setup.watch.report(f"{first.name} launches {setup.run_path.name}")
    for peer in sorted(rest, key=lambda one: not one.role.validates):
        _join(setup, peer)
    setup.watch.report(f"{len(rest)} peers join: {', '.join(peer.name for peer in rest)}")
    setup.watch.report(f"ticket {wait_for_ticket(setup.children, first, setup.watch, TICKET_S)}")


def _join(setup: DemoSetup, peer: "DemoPeer") -> None:
    from swarm.cli.demo.processes import CHEATING_PEER, SWARM, TWO_FACED
    from swarm.cli.demo.scenario import Cheat

    ticket_file = setup.peers[0].home / "ticket.txt"
    args = ["join", f"@{ticket_file}", "--home", str(peer.home)]
    if peer.role.cheat is Cheat.TWO_FACED:
        args.insert(0, TWO_FACED)
    program = CHEATING_PEER if peer.role.cheats else SWARM
    setup.children.start(peer.role.folder, args, peer.log, program)


def _run_scenario(setup: DemoSetup) -> None:
    """Observe the run until the scenario is over, and make its moves."""
    from swarm.cli.demo.scenario import VICTIM, Cheat, Move, Phase

    peers, scenario, watch, children = (
        setup.peers,
        setup.scenario,
        setup.watch,
        setup.children,
    )
    victim, was_back = peers[VICTIM], False
    while scenario.phase is not Phase.DONE:
        children.check()
        observation = watch.observe(
            peers[0], victim, asks_victim=scenario.phase in {Phase.GATHER, Phase.BACK}
        )
        for move in scenario.next_moves(observation, time.monotonic()):
            match move:
                case Move.CHEAT:
                    _let_in(setup, Cheat.NO_STEPS, "counts its steps and takes none")
                case Move.DECEIVE:
                    _let_in(setup, Cheat.TWO_FACED, "gives its partners other weights than it has")
                case Move.KILL:
                    children.kill(victim.role.folder)
                    (victim.home / "api.json").unlink(missing_ok=True)
                    watch.report(f"killed {victim.name} (kill -9), a replica that validates")
                case Move.RESTART:
                    _join(setup, victim)
                    watch.report(f"{victim.name} starts again")
                case Move.FINISH:
                    watch.report("time is up" if scenario.ended_early else "all rounds are done")
        if scenario.rejoin_s is not None and not was_back:
            was_back = True
            watch.report(f"{victim.name} trains again, {scenario.rejoin_s:.1f} s after its restart")
        watch.weigh(children)
        watch.progress()
        time.sleep(POLL_INTERVAL_S)


def _let_in(setup: DemoSetup, cheat: "Cheat", how: str) -> None:
    """Let a cheating peer join; it ends by itself when it is convicted."""
    for peer in setup.peers:
        if peer.role.cheat is cheat:
            _join(setup, peer)
            setup.children.let_go(peer.role.folder)
            setup.watch.report(f"{peer.name} joins, a cheat: it {how}")


def _result(setup: DemoSetup, measured: "Measured") -> "Result":
    from swarm.cli.demo.report import Result

    watch, scenario = setup.watch, setup.scenario
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
        rejoin_s=None if scenario.rejoin_s is None else round(scenario.rejoin_s, 2),
        ledger_height=measured.height,
        supply_conserved=measured.supply_conserved,
        peak_memory_mb=round(watch.peak_mb, 1) or None,
        left_running=setup.children.left_running(),
        sample=measured.sample,
        export_dir=measured.export_dir,
        map_url=watch.map_url,
        seconds=round(watch.seconds, 1),
        commits_old=measured.checked.commits_old,
        honest_slashed=measured.checked.honest_slashed,
        lies_late=measured.checked.lies_late,
        lies_unseen=measured.checked.lies_unseen,
        deceivers=measured.checked.deceivers,
        deceivers_caught=measured.checked.deceivers_caught,
    )


def _clean(folder: Path) -> None:
    """Remove everything but the exported model."""
    for entry in folder.iterdir():
        if entry.name != "model":
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Handle a request to stop like Ctrl-C: the child processes end first."""
    raise KeyboardInterrupt
