"""Help tests and benchmarks: in-memory ledger, inline executor, reference algorithms.

Modules (C: pure, S: does I/O):

    baselines.py C  Baselines for the outer step: an all-reduce every H steps (DiLoCo), and one at
                    every step.
    evm.py       S  Run an engine in this process, for tests and benchmarks of settlement: py-evm
                    behind the methods of JSON-RPC.
    executor.py  S  Run heavy arithmetic of a simulation in place: each job costs virtual time
                    instead of a worker thread.
    ledger.py    C  Run a ledger in memory, without consensus or network, and make synthetic
                    segments and their statements.
    news.py      C  Run the news of many peers in virtual time: links that lose frames and take
                    time, and attackers by hand.
"""
