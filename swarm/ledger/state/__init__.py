"""Hold the ledger's records and state, and the draft in which a block changes them.

Modules (C: pure, S: does I/O):

    accusations.py C  Define the parts of a segment's record that say who accuses it or demands its
                      list, and how that is decided.
    draft.py       C  Build the next state: reads fall through to the base, writes stay here until
                      the block is done.
    draws.py       C  Define the draws of verifiers by a beacon, and the complaints and panels that
                      are decided by who is drawn.
    payouts.py     C  Define the entries of settlement outside: the log of payouts, the keys of
                      validators, what these sign.
    records.py     C  Define the entries of a state: accounts, runs, seats, rounds, and segments
                      with their checks.
    runs.py        C  Keep a run as entries of their own: its head, its queue, and per stage its
                      seats and each checkpoint.
    shares.py      C  Define the entries of a run's shares: how many there are, and how many back a
                      peer as the next owner.
    state.py       C  Hold the whole ledger as one immutable map with one root.
    storage.py     C  Define the entry of a checkpoint's storage: who was drawn to hold it, who says
                      so, and who has shown it.
"""
