"""Record a segment so that others can compute it again: windows, state, checkpoints.

Modules (C: pure, S: does I/O):

    checkpoint.py C  A shard's whole state as canonical bytes, and back.
    restore.py    C  Restore a shard from this node's saved bytes, from another replica's state, or
                     from a window's start.
    segment.py    C  Records of one segment of one seat, in order: the raw material of its
                     transcript.
    window.py     C  The replay record of one window of a segment: a seat's values and their
                     encoding as bytes.
"""
