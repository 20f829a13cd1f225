"""Help tests and benchmarks: in-memory ledger, inline executor, reference algorithms.

Modules (C: pure, S: does I/O):

    baselines.py C  Baselines for the outer step: an all-reduce every H steps (DiLoCo), and one at
                    every step.
    executor.py  S  Run heavy arithmetic in worker threads, so that it does not hold up the event
                    loop.
    ledger.py    C  Run a ledger in memory: real keys, real blocks, real certificates, no consensus
                    and no network.
"""
