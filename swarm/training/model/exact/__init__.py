"""Compute every operator in one fixed order, so that all machines get the same bits.

Modules (C: pure, S: does I/O):

    cuda.py      C  Compile the kernels of ``seq-f32/1`` for a CUDA device of this machine, and
                    launch them.
    device.py    C  Compute the kernels of ``seq-f32/1`` on a device that runs ``kernels.cu``: the
                    reference bits.
    int8.py      C  Study the product of a profile ``int8/1``, whose sums no order changes. No run
                    can have this profile.
    native.py    C  Compute the kernels of ``seq-f32/1`` in C, where the extension was built: the
                    reference bits, quickly.
    operators.py C  Operators of ``seq-f32/1``, forward and backward: the same bits on every
                    machine.
    reference.py C  Reference kernels of ``seq-f32/1``: pure torch, slow, and the definition of
                    every bit.
    selftest.py  C  Choose the kernels of this machine: every operator is tested against a golden
                    hash before its first use.
"""
