"""Run Simplex consensus: propose, vote, certify and finalise blocks.

Modules (C: pure, S: does I/O):

    branch.py    C  Track the finalised tip and the blocks above it, and select the justified parent
                    of the next block.
    executor.py  C  Build and validate blocks for the consensus machine of one validator, over the
                    mempool of its node.
    journal.py   C  Keep the log of a validator's votes and proposals, hash-chained so that a gap
                    shows.
    memory.py    S  Remember beside the database what this validator signed last, and tell whether
                    that memory is whole.
    simplex.py   C  Agree on the next block: Simplex (Chan and Pass, 2023), as one validator runs
                    it.
    timers.py    C  Time the proposals, the votes and the end of a validator's views.
    validator.py S  Run one validator: statements in, votes out, each saved in the vote log before
                    it is sent.
    votes.py     C  Define consensus messages, the validators of an epoch, and the count of votes.
"""
