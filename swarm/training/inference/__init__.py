"""Evaluate a model and sample from it, here or through the stages of the live swarm.

Modules (C: pure, S: does I/O):

    evaluate.py C  Measure the loss of a model on held-out text, in nats per token.
    sampling.py C  Sample text, one token at a time: choose the positions to compute next, and a
                   token from their logits.
    sessions.py C  Hold the generation sessions of other peers at a stage: bounded in number, bytes,
                   time and rate.
"""
