"""Run one benchmark by name and print one JSON object.

A benchmark is a module of this folder with ``measure(quick) -> Outcome``; one that can be drawn has
``plot(outcome, folder)`` as well, one with a part over far lines ``measure_wan(quick)``.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

from benchmarks.common import as_object
from benchmarks.plots import require
from swarm.errors import UsageError

NAMES = ("join", "lost_stage", "scale", "throughput", "train", "tune", "verify", "wire")


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="a smoke test: less work")
    parser.add_argument("--wan", action="store_true", help="of train, only the part over far lines")
    parser.add_argument("--json", action="store_true", help="the default, and the only form")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw the result as PNG files")
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
    outcome = bench.measure_wan(args.quick) if args.wan else bench.measure(args.quick)
    if args.plot is not None:
        bench.plot(outcome, args.plot)
    print(json.dumps(as_object(args.name, args.quick, outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
