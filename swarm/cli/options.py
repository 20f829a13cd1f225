"""Parse the flags that every command takes, wherever on the line they stand.

Core: the arguments of a command line in, flags and the remaining arguments out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from swarm.errors import UsageError

HELP = (
    "Anywhere on the line: --json (for programs, on stdout), --plain (no live display), --quiet, --verbose,"
    " --home DIR (default $SWARM_HOME or ~/.swarm), --no-color, --yes (answers every question, overwrites)."
)
_SWITCHES = {
    "--json": "json",
    "--plain": "plain",
    "--quiet": "quiet",
    "-q": "quiet",
    "--verbose": "verbose",
    "-v": "verbose",
    "--no-color": "no_color",
    "--yes": "yes",
    "-y": "yes",
}


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """Flags that hold for every command."""

    json: bool = False
    plain: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    yes: bool = False
    home: str = ""
    """Home folder; empty for the default."""


def split_globals(args: Sequence[str]) -> tuple[GlobalOptions, list[str]]:
    """Split the global flags from the rest of a command line; arguments after ``--`` are left as they are.

    Raises ``UsageError`` if --home has no folder after it.
    """
    found, rest = GlobalOptions(), list[str]()
    waiting = iter(args)
    for arg in waiting:
        if arg == "--":
            return found, [*rest, arg, *waiting]
        if arg in _SWITCHES:
            flags: dict[str, Any] = {_SWITCHES[arg]: True}
            found = replace(found, **flags)
        elif arg == "--home" or arg.startswith("--home="):
            folder = arg.partition("=")[2] if "=" in arg else next(waiting, "")
            if not folder or folder.startswith("-"):
                raise UsageError("--home needs a folder", hint="swarm status --home ~/.swarm")
            found = replace(found, home=folder)
        else:
            rest.append(arg)
    return found, rest
