"""Print the output of a command: data on stdout, messages on stderr, colour only where it is wanted.

Shell: owns the two streams. Commands named in a message are written as they work in this shell.
"""

import json
import os
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from swarm.cli.errors import Explained
from swarm.cli.options import GlobalOptions
from swarm.cli.style import Ink
from swarm.errors import UsageError

PATIENCE_S = 7.0
"""Seconds between repetitions of a message: a user sees one before giving up after 10 s."""


PROGRAM = "swarm"
COMMANDS = (
    *("demo", "launch", "join", "leave", "init", "data", "ticket", "id", "pause", "resume", "stop", "status"),
    *("network", "map", "serve", "market", "ask"),
    *("peers", "run", "ledger", "wallet", "audit", "report", "checkpoint", "export", "eval", "generate"),
    *("settlement", "verify-evidence", "version"),
)  # fmt: skip
"""Pattern of the rest of a command, after the name of the program, in a message."""
_OFFERED = re.compile(rf"(?<![\w./-]){PROGRAM} (?=(?:{'|'.join(COMMANDS)})\b)")


def called_as() -> str:
    """Return how to call this program from this shell: ``swarm`` where that is found, else the path in use."""
    used = Path(sys.argv[0])
    if used.name != PROGRAM or not used.is_file():
        return PROGRAM  # python -m, or a test
    found = shutil.which(PROGRAM)
    if found is not None and Path(found).samefile(used):
        return PROGRAM
    here, whole = Path.cwd(), used.absolute()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)


class Terminal:
    """Output streams of one command."""

    def __init__(self, options: GlobalOptions) -> None:
        self.options = options
        self.program = called_as()
        plain = options.plain or options.no_color or "NO_COLOR" in os.environ
        is_dumb = os.environ.get("TERM", "") == "dumb"
        self.ink = Ink(sys.stdout.isatty() and not plain and not is_dumb)
        self.ink_err = Ink(sys.stderr.isatty() and not plain and not is_dumb)
        self.is_live = sys.stderr.isatty() and not (options.plain or options.json or is_dumb)

    @property
    def home(self) -> Path:
        """Folder of the node: --home, or $SWARM_HOME, or ~/.swarm."""
        chosen = self.options.home or os.environ.get("SWARM_HOME", "") or "~/.swarm"
        return Path(chosen).expanduser().absolute()

    @property
    def same_home(self) -> str:
        """Options that make another command use the home of this one; none for the default."""
        return f" --home {shlex.quote(self.options.home)}" if self.options.home else ""

    @property
    def columns(self) -> int:
        """Width of the terminal in columns."""
        return shutil.get_terminal_size((110, 40)).columns

    def data(self, value: object, lines: Sequence[str]) -> None:
        """Print the result: ``value`` as JSON with --json, else the lines."""
        if self.options.json:
            print(json.dumps(value, ensure_ascii=False), flush=True)
        else:
            print("\n".join(lines), flush=True)

    def say(self, message: str) -> None:
        """Print a message to the user; silent with --quiet, and after stderr was closed."""
        if not self.options.quiet:
            with suppress(OSError):
                print(self.offered(message), file=sys.stderr, flush=True)

    def offered(self, message: str) -> str:
        """Return the message with its commands as they work in this shell."""
        return message if self.program == PROGRAM else _OFFERED.sub(f"{self.program} ", message)

    @contextmanager
    def patient(self, message: str) -> Generator[None]:
        """Print ``message`` every few seconds while something blocks: nothing is silent for 10 s."""
        over = threading.Event()

        def repeat() -> None:
            while not over.wait(PATIENCE_S):
                self.say(message)

        repeater = threading.Thread(target=repeat, name="patience", daemon=True)
        repeater.start()
        try:
            yield
        finally:
            over.set()
            repeater.join()

    def confirms(self, question: str, command: str) -> bool:
        """Ask the person, on the stream of messages; --yes answers for them.

        Raises ``UsageError`` with the ``command`` that needs no answer if there is no person to ask: without a
        terminal, and with --json, whose output is for a program.
        """
        if self.options.yes:
            return True
        if self.options.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"there is no terminal to ask on: {question}", hint=command)
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    def detail(self, message: str) -> None:
        """Print a message that only --verbose shows."""
        if self.options.verbose:
            print(message, file=sys.stderr, flush=True)

    def fail(self, explained: Explained) -> None:
        """Print an error: one sentence of cause, and one line with a remedy."""
        if self.options.json:
            error = {"error": explained.message, "hint": self.offered(explained.hint)}
            print(json.dumps({**error, "exit_code": explained.exit_code}), file=sys.stderr)
            return
        print(f"{self.ink_err.paint('gone', 'error')}: {explained.message}", file=sys.stderr)
        if explained.hint:
            print(
                f"  {self.ink_err.paint('bold', 'try')}: {self.offered(explained.hint)}",
                file=sys.stderr,
            )


_current = Terminal(GlobalOptions())


def use(options: GlobalOptions) -> Terminal:
    """Set the terminal of this process, once its command line is read."""
    global _current  # noqa: PLW0603  one process has one pair of streams
    _current = Terminal(options)
    return _current


def terminal() -> Terminal:
    """Return the terminal of this process."""
    return _current
