"""Fetch, verify and cache what a run is made of: tokens, checkpoints, evaluations.

Modules (C: pure, S: does I/O):

    cache.py        S  What is known by its hash and the same for everybody: the text of a run, and
                       the anchors of its stages.
    checkpoints.py  S  Post the canonical checkpoint when the dice drew us, start from the newest,
                       and clear away the old.
    evaluate.py     S  Measure every new canonical checkpoint on held-out text, and remember what
                       came out.
    init_weights.py S  Name the weights that a run draws for its stages, once: drawing and hashing a
                       billion of them takes minutes.
    text.py         S  Get the run's text: built here by whoever launches, fetched by everybody
                       else.
"""
