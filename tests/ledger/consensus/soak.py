"""Run the consensus simulation of ``simulation.py`` for many seeds: ``scripts/soak ledger``.

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

from tests.ledger.consensus.scenarios import SCENARIOS
from tests.ledger.consensus.simulation import a_world, name_of

SEEDS = 2_600


def history(seed: int) -> tuple[str, int]:
    """Return what the history of a seed violates, empty if nothing, and how many honest ones it accuses."""
    world, text = a_world(seed), ""
    try:
        world.live()
    except Exception as error:
        text = f"seed {seed}, {name_of(seed)}: {type(error).__name__}: {error}"
    return text, len(world.accused - set(world.scenario.equivocators))


def main() -> int:
    """Run the seeds over all cores; print the counts."""
    parser = argparse.ArgumentParser(prog="scripts/soak ledger", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N")
    parser.add_argument("--from", type=int, default=0, metavar="N", dest="first")
    args = parser.parse_args()
    began = time.monotonic()
    seeds = range(args.first, args.first + args.seeds)
    found = Counter[str]()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for seed, (text, _) in zip(seeds, pool.map(history, seeds, chunksize=20), strict=True):
            if text:
                found[name_of(seed)] += 1
                print(text, file=sys.stderr, flush=True)
    row = {
        "seeds": args.seeds,
        "first": args.first,
        "scenarios": len(SCENARIOS),
        "violations": sum(found.values()),
        "violations_by_scenario": dict(found),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(row))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
