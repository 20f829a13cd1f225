"""Agree on one history: transactions, blocks, consensus, state and its transition.

Modules (C: pure, S: does I/O):

    blocks.py       C  What the ledger is made of: headers, blocks and the certificates that make
                       them final.
    chain.py        C  Blocks one after another: build the next, judge the next, verify them all.
    describe.py     C  The ledger in words and rows: what ``swarm ledger`` and ``swarm run`` show.
    mempool.py      C  Transactions on their way into a block: bounded, checked, and handed out in
                       an order that is valid.
    service.py      S  The ledger as the rest of the node sees it: one final state, and a way to put
                       statements into it.
    transactions.py C  Everything a peer can sign for the ledger.
    views.py        C  The rounds of which a whole model can be had: every stage still has its
                       checkpoint.
    consensus/         Run Simplex consensus: propose, vote, certify and finalise blocks.
    net/               Carry the ledger between peers: sync, relay and broadcast.
    state/             Hold the ledger's records and state, and the draft in which a block changes
                       them.
    transition/        Apply a block to the state: runs, seats, segments, checks, disputes,
                       payments.
"""
