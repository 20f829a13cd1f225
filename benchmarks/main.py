"""Run one benchmark by name and print one JSON object.

A benchmark is a module of this folder with ``measure(quick) -> Outcome``; one that can be drawn has
``plot(outcome, folder)`` as well, one with a part over far lines ``measure_wan(quick)``, and one of many runs
names them in ``CHOICES`` and measures those that it is told (``measure(quick, only)``).
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import as_object
from benchmarks.plots import require
from swarm.errors import UsageError

NAMES = (
    "adversaries",
    "campaign",
    "floods",
    "incentives",
    "int8",
    "join",
    "ledger",
    "lost_stage",
    "net",
    "scale",
    "throughput",
    "tolerance",
    "train",
    "tune",
    "verify",
    "wire",
)


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="a smoke test: less work")
    parser.add_argument("--wan", action="store_true", help="of train, only the part over far lines")
    parser.add_argument("--json", action="store_true", help="the default, and the only form")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw the result as PNG files")
    parser.add_argument("--only", metavar="NAME,...", help="these runs of train or tune alone")
    args = parser.parse_args()
    bench = importlib.import_module(f"benchmarks.{args.name}")
    if args.plot is not None:
        if not hasattr(bench, "plot"):
            parser.error(f"{args.name} has nothing to draw")
        try:
            require()
        except UsageError as error:
            parser.error(f"{error}: {error.hint}")
    if args.wan and not hasattr(bench, "measure_wan"):
        parser.error(f"{args.name} has no part over far lines")
    if args.wan and args.only is not None:
        parser.error("--wan is a part of its own: --only chooses among the others")
    try:
        only = chosen(args.only, getattr(bench, "CHOICES", ()))
    except UsageError as error:
        parser.error(f"{error}: {error.hint}")
    if args.wan:
        outcome = bench.measure_wan(args.quick)
    else:
        outcome = bench.measure(args.quick, only) if only else bench.measure(args.quick)
    if args.plot is not None:
        bench.plot(outcome, args.plot)
    print(json.dumps(as_object(args.name, args.quick, outcome)))
    return 0


def chosen(text: str | None, choices: Sequence[str]) -> frozenset[str]:
    """Return the runs that ``--only`` names, none without it; raise ``UsageError`` if there is no such run."""
    names = frozenset(text.split(",")) if text is not None else frozenset[str]()
    unknown = sorted(names.difference(choices))
    if unknown:
        known = ", ".join(choices) or "this benchmark has no runs to choose among"
        raise UsageError(f"no run {', '.join(unknown)}", hint=known)
    return names


if __name__ == "__main__":
    sys.exit(main())
