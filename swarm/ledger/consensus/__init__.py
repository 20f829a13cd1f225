"""Run Simplex consensus: propose, vote, certify and finalise blocks.

Modules (C: pure, S: does I/O):

    block_executor.py C  Build and judge blocks for consensus: the state machine behind the votes.
    branch.py         C  The finalised tip, and the blocks above it that may become final.
    journal.py        C  The words a validator may not take back, chained so that a gap shows.
    simplex.py        C  Agree on the next block: Simplex (Chan and Pass, 2023), as one validator
                         runs it.
    timers.py         C  When a validator proposes, votes and gives up on a view.
    validator.py      S  Run one validator: statements in, votes out, the journal first.
    votes.py          C  What validators say to each other, who leads when, and the count of their
                         votes.
"""
