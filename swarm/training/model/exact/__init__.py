"""Compute every operator in one fixed order, so that all machines get the same bits.

Modules (C: pure, S: does I/O):

    native.py    C  The kernels of ``seq-f32/1`` from the C extension, where it was built: the
                    referee's bits, quickly.
    operators.py C  The operators of ``seq-f32/1``, forward and backward: the same bits on every
                    machine.
    reference.py C  The kernels of ``seq-f32/1`` by the book: pure torch, slow, and the definition
                    of every bit.
    rotary.py    C  Rotary tables from integer arithmetic: the same bits with any libm.
    selftest.py  C  Which kernels this machine may be trusted with: every operator against a golden
                    hash, before its first use.
"""
