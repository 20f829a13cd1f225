"""Carry the ledger between peers: sync, relay and broadcast.

Modules (C: pure, S: does I/O):

    archive.py   S  Keep the final chain on disk and the state after it in memory.
    follower.py  S  Follow the chain: request newly final blocks from any peer, and answer such
                    requests.
    relay.py     S  Bring transactions to the validators, and send small statements to many peers in
                    batches.
    snapshots.py S  Begin a chain with the state at the end of an epoch, and give such states to
                    newcomers.
    standing.py  C  Say what a peer counts for by the ledger: stakes and work are scarce, keys are
                    not.
    sync.py      C  Define the requests and replies of bulk sync, prove a reply final, and choose
                    whom to ask.
    waiting.py   C  Share the places of followers that wait for a block: by standing first, then by
                    where they come from.
"""
