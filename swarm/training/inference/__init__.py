"""Evaluate a model and sample from it, here or through the stages of the live swarm.

Modules (C: pure, S: does I/O):

    evaluate.py C  How well a model predicts text it never saw, in nats per token.
    sampling.py C  Sample text, one token at a time: which positions to compute next, and which
                   token follows from their logits.
    sessions.py C  The texts that a stage goes on with for others: bounded in number, bytes, time
                   and rate.
"""
