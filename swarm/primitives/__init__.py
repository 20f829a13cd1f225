"""Encode, hash, sign and draw: pure functions that every other package builds on.

Modules (C: pure, S: does I/O):

    codec.py       C  Encode a frozen struct as exactly one byte string, and decode it.
    commitments.py C  Hash the commitments of solvers and verifiers (trace leaves and roots, window
                      claims), and tensors.
    crypto.py      C  Hash, sign, verify and expand seeds, always under a named purpose.
    edges.py       C  Define what a seat signs and sends to others, and the list of all of it to
                      which its commit binds it.
    merkle.py      C  Merkle roots and proofs over lists, and over immutable sparse maps whose
                      versions share unchanged nodes.
    parts.py       C  Do long work in parts, so that a caller may let others have their turns in
                      between.
    randomness.py  C  Named streams of random numbers from one seed.
    vrf.py         C  Prove and verify VRF draws: random bytes that one key, and only that key,
                      could have drawn.
"""
