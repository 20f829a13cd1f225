"""Apply a block to the state: runs, seats, segments, checks, disputes, payments.

Modules (C: pure, S: does I/O):

    accounts.py   C  Handle the money of accounts: balances, stake and nonces, fees and rewards, and
                     penalties after a check.
    apply.py      C  Apply one block to a state: ``apply_block(state, transactions) -> state``.
    checks.py     C  Check segments: verifiers answer blind, the solver reveals its leaves, then the
                     verifiers their answers.
    disputes.py   C  Settle disputes between verifiers and solvers, and charge the side that was
                     wrong.
    phases.py     C  Compute the heights at which the phases of a segment end, and find the segment
                     of a statement.
    runs.py       C  Move runs through their life cycle: opened, joined, trained round by round,
                     finished, settled.
    sampling.py   C  Select the verifiers of a segment by VRF draws whose result only the drawn peer
                     knows at first.
    seats.py      C  Change the roster of a run at its round boundaries, by fixed rules.
    segments.py   C  Accept or refuse commits and checkpoints of a run's seats, and set a stage back
                     after a proven fraud.
    validators.py C  Choose the validators of each epoch, count the views they miss, and judge
                     evidence of double signing.
"""
