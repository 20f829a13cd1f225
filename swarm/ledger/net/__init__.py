"""Carry the ledger between peers: sync, relay and broadcast.

Modules (C: pure, S: does I/O):

    archive.py  S  Keep the final chain on disk, and the state after it in memory.
    follower.py S  Follow the chain: ask connected peers what became final, and answer who asks us.
    relay.py    S  Bring transactions to the validators: check, keep, pass on once.
    sync.py     C  Catching up: what a follower asks, what it is told, and how it knows that this is
                   true.
"""
