"""What a command prints: data on stdout, messages on stderr, colour only where it is wanted.

Shell: owns the two streams.
"""

import json
import os
import shutil
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from swarm.cli.errors import Explained
from swarm.cli.options import GlobalOptions
from swarm.cli.style import Ink

PATIENCE_S = 7.0
"""A message this often is heard before anybody gives up after 10 s."""


class Terminal:
    """The two streams of one command."""

    def __init__(self, options: GlobalOptions) -> None:
        self.options = options
        plain = options.plain or options.no_color or "NO_COLOR" in os.environ
        is_dumb = os.environ.get("TERM", "") == "dumb"
        self.ink = Ink(sys.stdout.isatty() and not plain and not is_dumb)
        self.ink_err = Ink(sys.stderr.isatty() and not plain and not is_dumb)
        self.is_live = sys.stderr.isatty() and not (options.plain or options.json or is_dumb)

    @property
    def home(self) -> Path:
        """The folder of the node: --home, or $SWARM_HOME, or ~/.swarm."""
        chosen = self.options.home or os.environ.get("SWARM_HOME", "") or "~/.swarm"
        return Path(chosen).expanduser().absolute()

    @property
    def columns(self) -> int:
        """Width of the terminal."""
        return shutil.get_terminal_size((110, 40)).columns

    def data(self, value: object, lines: Sequence[str]) -> None:
        """The result: ``value`` as JSON with --json, else the lines."""
        if self.options.json:
            print(json.dumps(value, ensure_ascii=False), flush=True)
        else:
            print("\n".join(lines), flush=True)

    def say(self, message: str) -> None:
        """A message to the person; silent with --quiet, and when nobody listens any more."""
        if not self.options.quiet:
            with suppress(OSError):
                print(message, file=sys.stderr, flush=True)

    @contextmanager
    def patient(self, message: str) -> Generator[None]:
        """Say ``message`` every few seconds while something blocks: nothing is silent for 10 s."""
        over = threading.Event()

        def tell() -> None:
            while not over.wait(PATIENCE_S):
                self.say(message)

        teller = threading.Thread(target=tell, name="patience", daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()

    def detail(self, message: str) -> None:
        """A message for those who asked for more with --verbose."""
        if self.options.verbose:
            print(message, file=sys.stderr, flush=True)

    def fail(self, explained: Explained) -> None:
        """One sentence of cause, one line that mends it."""
        if self.options.json:
            error = {"error": explained.message, "hint": explained.hint}
            print(json.dumps({**error, "exit_code": explained.exit_code}), file=sys.stderr)
            return
        print(f"{self.ink_err.paint('gone', 'error')}: {explained.message}", file=sys.stderr)
        if explained.hint:
            print(f"  {self.ink_err.paint('bold', 'try')}: {explained.hint}", file=sys.stderr)


_current = Terminal(GlobalOptions())


def use(options: GlobalOptions) -> Terminal:
    """Set the terminal of this process, once its command line is read."""
    global _current  # noqa: PLW0603  one process has one pair of streams
    _current = Terminal(options)
    return _current


def terminal() -> Terminal:
    """The terminal of this process."""
    return _current
