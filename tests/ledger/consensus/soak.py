"""Run the consensus simulation of ``test_simplex.py`` for many seeds: ``scripts/soak ledger``.

Every seed is one history of one scenario. A violation is an assertion of the simulation: two final blocks at
one height, an honest validator accused or voting twice, a chain that does not grow after everything has healed.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.ledger.consensus.test_simplex import (
    SCENARIOS,
    test_whatever_fails_there_is_one_chain_and_it_grows_again,
)

SEEDS = 2_600


def violation(seed: int) -> str:
    """Return what a history violates, with the command that replays it; empty if nothing."""
    try:
        test_whatever_fails_there_is_one_chain_and_it_grows_again(seed)
    except Exception as error:
        return f"seed {seed}: {type(error).__name__}: {error}"
    return ""


def main() -> int:
    """Run the seeds over all cores; print the counts."""
    parser = argparse.ArgumentParser(prog="scripts/soak ledger", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N")
    parser.add_argument("--from", type=int, default=0, metavar="N", dest="first")
    args = parser.parse_args()
    began, names = time.monotonic(), sorted(SCENARIOS)
    seeds = range(args.first, args.first + args.seeds)
    found = Counter[str]()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for seed, text in zip(seeds, pool.map(violation, seeds, chunksize=20), strict=True):
            if text:
                found[names[seed % len(names)]] += 1
                print(text, file=sys.stderr, flush=True)
    row = {
        "seeds": args.seeds,
        "first": args.first,
        "scenarios": len(names),
        "violations": sum(found.values()),
        "violations_by_scenario": dict(found),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(row))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
