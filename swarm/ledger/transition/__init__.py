"""Apply a block to the state: runs, seats, segments, checks, disputes, payments.

Modules (C: pure, S: does I/O):

    accounts.py   C  Handle accounts: nonces, fees, transfers, and stake that is put up and taken
                     back.
    apply.py      C  Apply one block to a state: ``apply_block(state, transactions) -> state``.
    checks.py     C  Check segments: verifiers answer blind, the solver reveals its leaves, then the
                     verifiers their answers.
    contests.py   C  Decide complaints of verifiers that were not served: drawn witnesses try, and
                     the majority is believed.
    court.py      C  Declare what the ledger asks where arithmetic decides: what a move leads to,
                     and whether a proof is one.
    demands.py    C  Demand an entry of a list of what was sent, show it, and close segments of
                     silent solvers.
    disputes.py   C  Settle disputes between accusers and solvers, and charge the side that was
                     wrong.
    forced.py     C  Judge answers about statements that a solver may have made false on purpose:
                     who looked, and who did not.
    frauds.py     C  Convict a solver by what it has signed itself: one transaction, no hearing.
    funding.py    C  Fund a run: its owner adds to the escrow, and shareholders go on with a run
                     whose owner stopped.
    hearings.py   C  Keep the clocks of a dispute, and carry out what the court finds in its moves.
    market.py     C  Clear the market of a run: whose ask is seated, what a round pays, and when a
                     cheaper peer takes a seat.
    payments.py   C  Move the money around a judged segment: pay solvers and verifiers, void,
                     forfeit bonds, take stakes.
    phases.py     C  Compute the heights at which the phases of a segment end, and find the segment
                     of a statement.
    prices.py     C  Compute what work, checks and statements cost: fees, rewards, bonds, and the
                     stake of a solver.
    rollbacks.py  C  Set a stage back after a proven fraud, in runs that ask for it, and a seat
                     after what it did not show.
    runs.py       C  Move runs through their life cycle: opened, joined, trained round by round,
                     finished, settled.
    sampling.py   C  Select the verifiers of a segment by VRF draws whose result only the drawn peer
                     knows at first.
    seats.py      C  Change the roster of a run at its round boundaries, by fixed rules.
    segments.py   C  Accept or refuse commits and checkpoints of a run's seats.
    settlement.py C  Handle settlement outside: validators agree on a contract, peers withdraw to
                     it, epochs end in a statement.
    starts.py     C  Derive the state that a segment begins with: a committed end, or one that is
                     made from something.
    storage.py    C  Have each checkpoint held by peers of other stages, and ask them in every epoch
                     to show that they do.
    tolerance.py  C  Decide about windows that a verifier rejects in a run without exact numerics: a
                     panel of three.
    validators.py C  Choose the validators of each epoch, count the views they miss, and judge
                     evidence of double signing.
"""
