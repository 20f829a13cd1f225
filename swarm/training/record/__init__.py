"""Record a segment so that others can compute it again: windows, state, checkpoints.

Modules (C: pure, S: does I/O):

    checkpoint.py C  A shard's whole state as canonical bytes, and back.
    restore.py    C  A shard from what is left of it: this node's own saved bytes, a sibling's
                     state, or that of a window.
    segment.py    C  What happened in one segment of one seat, in order: the raw material of its
                     transcript.
    window.py     C  What a seat keeps of one window of a segment, so that others can compute it
                     again: values and bytes.
"""
