"""Evaluate a model and sample from it, here or through the stages of the live swarm.

Modules (C: pure, S: does I/O):

    evaluate.py C  Measure the loss of a model on held-out text, in nats per token.
    sampling.py C  Sample text, one token at a time, through stages that cache the keys and values
                   of the positions so far.
    sessions.py C  Hold the generation sessions of other peers at a stage within limits, and define
                   their messages.
"""
