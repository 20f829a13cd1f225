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

from swarm.cli.errors import Explained, OutputLost
from swarm.cli.options import GlobalOptions
from swarm.cli.streams import LOST, discard, is_terminal, is_wide, reason_of
from swarm.cli.style import Ink
from swarm.errors import UsageError

PATIENCE_S = 7.0
"""Seconds between repetitions of a message: a user sees one before giving up after 10 s."""


PROGRAM = "swarm"
COMMANDS = (
    *("demo", "launch", "join", "leave", "init", "data", "ticket", "id", "pause", "resume", "stop", "status"),
    *("network", "map", "serve", "market", "ask"),
    *("peers", "run", "ledger", "wallet", "audit", "report", "checkpoint", "export", "eval", "generate"),
    *("settlement", "verify-evidence", "version", "doctor", "service", "relay"),
)  # fmt: skip
"""Pattern of the rest of a command, after the name of the program, in a message."""
_OFFERED = re.compile(rf"(?<![\w./-]){PROGRAM} (?=(?:{'|'.join(COMMANDS)})\b)")


def called_as() -> str:
    """Return how to call this program from this shell: ``swarm`` where that is found, else the path in use."""
    used = Path(sys.argv[0])
    try:
        if used.name != PROGRAM or not used.is_file():
            return PROGRAM  # python -m, or a test
        found = shutil.which(PROGRAM)
        if found is not None and Path(found).samefile(used):
            return PROGRAM
        here, whole = Path.cwd(), used.absolute()
    except OSError:  # the current folder was deleted, or may not be read
        return PROGRAM
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)


class Terminal:
    """Output streams of one command."""

    def __init__(self, options: GlobalOptions) -> None:
        self.options = options
        self.program = called_as()
        plain = options.plain or options.no_color or "NO_COLOR" in os.environ
        is_dumb = os.environ.get("TERM", "") == "dumb"
        self.ink = Ink(is_terminal(sys.stdout) and not plain and not is_dumb)
        self.ink_err = Ink(is_terminal(sys.stderr) and not plain and not is_dumb)
        self.is_live = is_terminal(sys.stderr) and not (options.plain or options.json or is_dumb)

    @property
    def home(self) -> Path:
        """Folder of the node: --home, or $SWARM_HOME, or ~/.swarm.

        Raises ``UsageError`` where none can be named: a user without a home, or a current folder that is gone.
        """
        chosen = self.options.home or os.environ.get("SWARM_HOME", "") or "~/.swarm"
        try:
            return Path(chosen).expanduser().absolute()
        except RuntimeError:
            raise UsageError(
                f"there is no folder {chosen.partition('/')[0]}: this user has no home",
                hint="--home DIR on the line, or SWARM_HOME=DIR before it",
            ) from None
        except OSError:
            raise UsageError(
                f"{chosen} is seen from the current folder, which is gone",
                hint="cd to another folder, or --home with a path that begins with /",
            ) from None

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
            self.put(json.dumps(value, ensure_ascii=not is_wide(sys.stdout)) + "\n")
        else:
            self.put("\n".join(lines) + "\n")

    def put(self, text: str) -> None:
        """Write a part of the result to stdout at once.

        Raises ``OutputLost`` if it cannot be written, and ``BrokenPipeError`` if its reader has gone.
        """
        try:
            print(text, end="", flush=True)
        except BrokenPipeError:
            raise
        except LOST as error:
            discard(sys.stdout)
            raise OutputLost(reason_of(error)) from None

    def hand(self, text: str) -> None:
        """Write a line of a node to stdout, if that is possible: a node goes on without a reader."""
        try:
            print(text, flush=True)
        except LOST:
            discard(sys.stdout)

    def say(self, message: str) -> None:
        """Print a message to the user; silent with --quiet, and where stderr cannot be written."""
        if not self.options.quiet:
            self._tell(self.offered(message) + "\n")

    def overwrite(self, line: str) -> None:
        """Write a line to a terminal in the place of the one before; none clears it."""
        self._tell(f"\r\x1b[2K{line}")

    def _tell(self, text: str) -> None:
        """Write to stderr, if that is possible: a message is never a reason to fail."""
        with suppress(*LOST):
            print(text, end="", file=sys.stderr, flush=True)

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
        if self.options.json or not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
            raise UsageError(f"there is no terminal to ask on: {question}", hint=command)
        self._tell(f"{question} [y/N] ")
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    def detail(self, message: str) -> None:
        """Print a message that only --verbose shows."""
        if self.options.verbose:
            self._tell(message + "\n")

    def fail(self, explained: Explained) -> None:
        """Print an error: one sentence of cause, and one line with a remedy."""
        if self.options.json:
            error = {"error": explained.message, "hint": self.offered(explained.hint)}
            self._tell(json.dumps({**error, "exit_code": explained.exit_code}) + "\n")
            return
        self._tell(f"{self.ink_err.paint('gone', 'error')}: {explained.message}\n")
        if explained.hint:
            hint = self.offered(explained.hint)
            self._tell(f"  {self.ink_err.paint('bold', 'try')}: {hint}\n")


_current = Terminal(GlobalOptions())


def use(options: GlobalOptions) -> Terminal:
    """Set the terminal of this process, once its command line is read."""
    global _current  # noqa: PLW0603  one process has one pair of streams
    _current = Terminal(options)
    return _current


def terminal() -> Terminal:
    """Return the terminal of this process."""
    return _current
