"""Carry the ledger between peers: sync, relay and broadcast.

Modules (C: pure, S: does I/O):

    archive.py  S  Keep the final chain on disk and the state after it in memory.
    follower.py S  Follow the chain: request newly final blocks from connected peers, and answer
                   such requests.
    relay.py    S  Bring transactions to the validators, and send small statements to many peers in
                   batches.
    sync.py     C  Define the requests and replies of bulk sync, and prove a reply final.
"""
