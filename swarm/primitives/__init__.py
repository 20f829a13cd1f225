"""Encode, hash, sign and draw: pure functions that every other package builds on.

Modules (C: pure, S: does I/O):

    codec.py       C  Turn a frozen struct into exactly one byte string, and back.
    commitments.py C  Hash what a solver hides until it is checked, and what its verifiers answer
                      blind.
    crypto.py      C  Hash, sign, verify and draw, always under a named purpose.
    merkle.py      C  Merkle roots and proofs over lists.
    randomness.py  C  Named streams of dice from one seed.
    vrf.py         C  Draw verifiable dice: a proof that one key, and only that key, could have
                      drawn them.
"""
