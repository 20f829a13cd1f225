"""Encode tensors in fewer bytes: int8, int4, bfloat16, and activations between stages.

Modules (C: pure, S: does I/O):

    activations.py C  Encode activations and gradients as bfloat16, or as blockwise int8 or int4
                      with a scale for every block.
    int4.py        C  Encode fragments as blockwise int4 or int3, and carry the quantization error
                      into the next payload.
    int8.py        C  Encode fragments as blockwise int8, bfloat16 or float32, with zstandard on top
                      if that is shorter.
    native.py      C  Quantize blockwise in the optional C extension: the same bits as
                      ``gossip/codecs/int8.py``, but faster.
"""
