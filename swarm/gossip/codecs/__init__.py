"""Encode tensors in fewer bytes: int8, int4, bfloat16, and activations between stages.

Modules (C: pure, S: does I/O):

    activations.py C  Activations and gradients in half the bytes: blockwise int8 with a scale for
                      every block.
    int4.py        C  Half the bytes again: blockwise int4, with what was lost carried into the next
                      payload.
    int8.py        C  Fewer bytes for the same weights: blockwise int8, bfloat16, and zstandard on
                      top where it pays.
    native.py      C  Blockwise levels from the C extension, where it was built: the bits of
                      ``gossip/codecs/int8.py``, but sooner.
"""
