"""Fetch, verify and cache what a run is made of: tokens, checkpoints, evaluations.

Modules (C: pure, S: does I/O):

    cache.py       S  Cache the artifacts of a run: token files, checkpoints, weights below an
                      adapter, roots of initial weights.
    checkpoints.py S  Post the canonical checkpoint if the beacon drew our seat, start from the
                      newest, and delete old ones.
    evaluate.py    S  Measure the held-out loss of every new canonical checkpoint, and remember the
                      results.
    holding.py     S  Hold checkpoints of other stages for which this node was drawn: fetch them,
                      say so, show drawn leaves.
    text.py        S  Fetch the token files and the tokenizer of the run from peers.
"""
