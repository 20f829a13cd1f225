"""Hold the ledger's records and state, and the draft in which a block changes them.

Modules (C: pure, S: does I/O):

    draft.py   C  A state under construction: reads fall through, writes stay here until the block
                  is done.
    records.py C  What a state is made of: accounts, runs, seats, rounds, segments.
    state.py   C  Everything the ledger knows, as one immutable map with one root.
"""
