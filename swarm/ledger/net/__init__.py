"""Carry the ledger between peers: sync, relay and broadcast.

Modules (C: pure, S: does I/O):

    answering.py S  Put answers to questions of other peers together: those of strangers in turns
                    that cost a part of a core.
    archive.py   S  Keep the final chain on disk and the state after it in memory.
    follower.py  S  Follow the chain: request newly final blocks from any peer, and answer such
                    requests.
    paces.py     C  Bound what the questions of strangers cost this node: a part of one core for
                    each place that they come from.
    relay.py     S  Bring transactions to the validators, and send small statements to many peers in
                    batches.
    snapshots.py S  Begin a chain with the state at the end of an epoch, and give such states to
                    newcomers.
    sync.py      C  Define the requests and replies of bulk sync, prove a reply final, and choose
                    whom to ask.
    waiting.py   C  Share the places of followers that wait for a block: by standing first, then by
                    where they come from.
"""
