"""Encode, hash, sign and draw: pure functions that every other package builds on.

Modules (C: pure, S: does I/O):

    blake3_tree.py C  Compute the hashes inside of a BLAKE3 digest: those of its chunks of 1 KiB,
                      and of the pairs above them.
    codec.py       C  Encode a frozen struct as exactly one byte string, and decode it.
    commitments.py C  Hash the commitments of solvers and verifiers (trace leaves and roots, window
                      claims), and tensors.
    crypto.py      C  Hash, sign, verify and expand seeds, always under a named purpose.
    edges.py       C  Define what a seat signs and sends to others, and the list of all of it to
                      which its commit binds it.
    merkle.py      C  Merkle roots and proofs over lists, and over immutable sparse maps whose
                      versions share unchanged nodes.
    openings.py    C  Open a digest: show some bytes of a tensor or a message under it, or the
                      hashes between it and them.
    parts.py       C  Do long work in parts, so that a caller may let others have their turns in
                      between.
    randomness.py  C  Named streams of random numbers from one seed.
    state_parts.py C  Name the ten parts of a seat's state, and hash those that are counters or
                      zeros.
    vrf.py         C  Prove and verify VRF draws: random bytes that one key, and only that key,
                      could have drawn.
"""
