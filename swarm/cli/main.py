"""Run the command line: ``swarm COMMAND``.

Shell: finds the command, runs it, turns every failure into a sentence and an exit code. Nothing heavy is
imported here: a command imports what it needs when it runs.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from swarm.cli.commands import (
    audit,
    checkpoint,
    control,
    data,
    doctor,
    evidence,
    join,
    ledger,
    market,
    models,
    network,
    relay,
    service,
    settlement,
    status,
    ticket,
    wallet,
)
from swarm.cli.demo import command
from swarm.cli.errors import (
    INTERRUPTED,
    Explained,
    OutputLost,
    explain,
    is_reader_gone,
    save_trace,
)
from swarm.cli.options import HELP, split_globals
from swarm.cli.streams import discard, prepare_streams, settle_streams
from swarm.cli.terminal import Terminal, terminal, use
from swarm.config.advice import nearest
from swarm.errors import UsageError

_SECTIONS = {
    "Take part": (
        "demo",
        "launch",
        "join",
        "serve",
        "leave",
        "init",
        "data",
        "network",
        "relay",
        "service",
        "ticket",
        "id",
    ),
    "Own a run": ("pause", "resume", "stop"),
    "Own money": ("wallet", "market", "ask", "settlement"),
    "Look": ("status", "map", "peers", "run", "ledger", "doctor"),
    "Doubt": ("audit", "report", "verify-evidence"),
    "Use the model": ("export", "checkpoint", "eval", "generate"),
}


IRREVERSIBLE = frozenset({"stop", "clean", "report"})
"""Commands whose effect cannot be undone: they are never suggested for a mistyped word."""
_NO_COMMAND = re.compile("No such command '(.{1,60})'")


class _Sections(TyperGroup):
    """Command group that lists its commands by purpose, instead of in one long list."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write the list of commands of ``swarm --help``."""
        named = {name for names in _SECTIONS.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in named)
        for title, names in {**_SECTIONS, "Other": others}.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(n, c.get_short_help_str(limit=66)) for n, c in commands if c is not None]
            with formatter.section(title):
                formatter.write_dl(rows, col_max=12)


app = typer.Typer(
    name="swarm",
    cls=_Sections,
    help="Train one model together with strangers' machines, and watch them agree on it.\n\n"
    "Begin with: swarm demo, or swarm launch, or swarm join TICKET.",
    epilog=HELP,
    add_completion=False,
    suggest_commands=False,  # ``_near_command`` does, and leaves some out
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
join.register(app)
command.register(app)
status.register(app)
ledger.register(app)
wallet.register(app)
market.register(app)
settlement.register(app)
audit.register(app)
evidence.register(app)
ticket.register(app)
models.register(app)
network.register(app)
checkpoint.register(app)
control.register(app)
data.register(app)
doctor.register(app)
service.register(app)
relay.register(app)


@app.command("version")
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    number = version_of("swarm-train")
    terminal().data({"version": number}, [number])


def main() -> NoReturn:
    """Run the command line of this process."""
    prepare_streams()
    code = run(sys.argv[1:])
    reason = settle_streams()
    if reason and code == 0:
        lost = OutputLost(reason)
        terminal().fail(explain(lost))
        code = lost.exit_code
    sys.exit(code)


def run(args: Sequence[str]) -> int:
    """Run one command line; return its exit code."""
    try:
        options, rest = split_globals(args)
        use(options)
        code = app(args=rest or ["--help"], prog_name="swarm", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        return INTERRUPTED
    except BaseException as error:  # last resort: a sentence instead of a traceback
        return _broken_pipe() if is_reader_gone(error) else _last_words(error)


def _last_words(error: BaseException) -> int:
    """Print what went wrong, and be brief where even that goes wrong; return the exit code."""
    try:
        return _failed(error)
    except BaseException:  # a message that cannot be made must not hide that something failed
        terminal().fail(Explained(type(error).__name__, "run it again with --verbose", 1, False))
        return 1


def _failed(error: BaseException) -> int:
    """Print what went wrong; return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, _usage_kind()):
        if type(error).__name__ == "NoArgsIsHelpError":
            terminal().say(str(error))
            return UsageError.exit_code
        path = getattr(getattr(error, "ctx", None), "command_path", "swarm")
        error = UsageError(_usage_message(error), hint=f"{path} --help")
    explained, screen = explain(error), terminal()
    if not explained.is_expected:
        trace = _saved_trace(error, screen)
        message = f"this should not have happened: {explained.message}"
        hint = f"send {trace} with a bug report" if trace else "run it again with --verbose"
        explained = Explained(message, hint, explained.exit_code, False)
    screen.fail(explained)
    return explained.exit_code


def _saved_trace(error: BaseException, screen: Terminal) -> Path | None:
    """Save the trace in the home, where there is one."""
    try:
        return save_trace(error, screen.home)
    except UsageError:
        return None


def _usage_kind() -> type[BaseException]:
    """Return the parser's error for a bad command line: the base class of ``typer.BadParameter``."""
    return typer.BadParameter.__mro__[2]


def _usage_message(error: BaseException) -> str:
    formatted = getattr(error, "format_message", None)
    message = " ".join(str(formatted() if callable(formatted) else error).split()).rstrip(".")
    near = _near_command(error)
    return f"{message}. Did you mean {near!r}?" if near else message


def _near_command(error: BaseException) -> str:
    """Return the command nearest to a mistyped word; empty if none is near, or it is ``IRREVERSIBLE``."""
    context, found = getattr(error, "ctx", None), _NO_COMMAND.match(str(error))
    if found is None or not isinstance(group := getattr(context, "command", None), TyperGroup):
        return ""
    return nearest(found[1], [name for name in group.commands if name not in IRREVERSIBLE])


def _broken_pipe() -> int:
    """Discard the remaining output, because its reader has gone; return the exit code."""
    discard(sys.stdout)
    return 1


if __name__ == "__main__":
    main()
