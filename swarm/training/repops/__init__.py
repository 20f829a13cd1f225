"""Operators with one order of arithmetic: the numerics profile ``seq-f32/1``.

exact.py      C  the operators of the profile, forward and backward, over either set of kernels
referee.py    C  the kernels by the book: slow, pure torch, the definition of the bits
compiled.py   C  the same bits from the C extension (kernels.c), where it was built
rotary.py     C  rotary tables from integer arithmetic
selftest.py   C  which kernels this machine may be trusted with
"""
