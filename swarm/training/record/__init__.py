"""Record a segment so that others can compute it again: windows, state, checkpoints.

Modules (C: pure, S: does I/O):

    checkpoint.py   C  Encode a shard's state as canonical bytes, and decode it: its slow weights
                       alone, or all of it.
    restore.py      C  Save a shard; restore it from bytes, a replica's state or a window's start;
                       replay micro-batches.
    segment.py      C  Records of one segment of one seat, in order, and the seat's whole state as
                       values and hashes.
    window.py       C  The replay record of one window of a segment: the state at its start, and
                       what happened in it.
    window_bytes.py C  Write the replay record of a window as bytes, and read it.
"""
