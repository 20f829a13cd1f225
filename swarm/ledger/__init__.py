"""Agree on one history: transactions, blocks, consensus, state and its transition.

Modules (C: pure, S: does I/O):

    blocks.py                C  Define and check headers, blocks and the certificates that make
                                blocks final.
    chain.py                 C  Build the next block, validate a block, verify a whole chain.
    chain_file.py            S  Write the final blocks of a network to a file, and read them again:
                                what an auditor without a node needs.
    check_statements.py      C  Define and check the statements with which segments are checked, and
                                the bounds that all statements share.
    demands.py               C  Define how what a seat has signed is demanded of its list, and how
                                the list is shown.
    describe.py              C  Render ledger state and segment checks as JSON rows and text, for
                                ``swarm ledger`` and ``swarm run``.
    describe_checks.py       C  Render segments and their checks as JSON rows and text.
    edges.py                 C  Prove that a seat sent something else than it committed to: one
                                signed message and one opening of its list.
    free_joins.py            C  Bound how many free keys of one network a node lets into a run: keys
                                cost nothing, addresses do.
    leaders.py               C  Draw the leaders of views: every cycle of views is a fresh
                                permutation of the validators, weighted by stake.
    light.py                 C  Prove entries of the ledger to somebody who has the genesis, or a
                                trusted epoch, and nothing else.
    mempool.py               C  Hold transactions that wait for a block: bounded, checked, and
                                handed out in a valid order.
    model_proof.py           C  Prove that the weights in a folder are a canonical checkpoint of a
                                run, made final by a network's validators.
    odds.py                  C  Compute how likely a false segment is found in a run, and what its
                                solver can expect, from the settings.
    payouts.py               C  Compute the log of payouts as a Merkle tree that only grows, and
                                what validators sign of it.
    reader.py                S  Read the ledger of a home from its disk, whether or not a node runs
                                there.
    record_views.py          C  Show what the ledger knows of peers: their record in each run, and
                                their shares of it.
    recover.py               S  Let a validator vote again at once that lost its memory, on its
                                owner's word.
    restart.py               C  Carry the money of a ledger that lost its quorum for good over into
                                the genesis of a new network.
    run_views.py             C  Render runs as rows and lines: one in a list, all of one, and what
                                each pays, to whom, for how long.
    service.py               S  Serve the ledger to the rest of the node: the final state, and
                                submission of statements.
    settlement_statements.py C  Define the statements of settlement outside: a withdrawal, a
                                validator's key, a validator's signature.
    snapshot.py              C  Cut the state at the end of an epoch into parts, each of which is
                                proved alone, and put it together again.
    storage_statements.py    C  Define the statements of those who hold checkpoints of other stages:
                                a receipt, and a proof of drawn leaves.
    transactions.py          C  Define and check the transactions of the ledger: all statements that
                                a peer can sign for it.
    trust.py                 C  Say in words whom a ledger trusts: its launcher, or so many
                                validators that none of them decides alone.
    views.py                 C  Answer questions about a run from the ledger: whole models, checks,
                                convictions, lasting anchors.
    consensus/                  Run Simplex consensus: propose, vote, certify and finalise blocks.
    net/                        Carry the ledger between peers: sync, relay and broadcast.
    settle/                     Settlement of the ledger's payouts by a contract on an existing
                                engine; optional: the extra ``[evm]``.
    state/                      Hold the ledger's records and state, and the draft in which a block
                                changes them.
    transition/                 Apply a block to the state: runs, seats, segments, checks, disputes,
                                payments.
"""
