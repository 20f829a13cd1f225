"""Apply a block to the state: runs, seats, segments, checks, disputes, payments.

Modules (C: pure, S: does I/O):

    accounts.py   C  Balances, stake and nonces: what every peer's account may do.
    apply.py      C  One block makes one state into the next: ``apply_block(state, transactions) ->
                     state``.
    checks.py     C  How a segment is checked: verifiers ask, answer blind, the solver shows its
                     leaves, they show theirs.
    disputes.py   C  Settle what verifiers and solvers disagree on, and let each bear the cost of
                     being wrong.
    phases.py     C  When the phases of a segment end, in blocks, and which segment a statement is
                     about.
    runs.py       C  The life of a run: opened, joined, trained round by round, finished, settled.
    sampling.py   C  Who checks which segment: dice that only the drawn can read before they speak.
    seats.py      C  Who sits where: the roster of a run changes at round boundaries, by these rules
                     and no others.
    segments.py   C  What seats say about their work: segment commits and checkpoints, and when they
                     are accepted.
    spec_check.py C  The ledger's own defence against hostile run specs.
"""
