"""Run a stage on the devices of this machine: one in process, or one process per device.

Modules (C: pure, S: does I/O):

    engine.py        C  Where the arithmetic of a shard's micro-batches is done: here on one device,
                        or by processes of this machine.
    group.py         S  Several devices of one node as one engine: each micro-batch is split over
                        one process per device.
    probe.py         S  Look which devices torch can use on this machine.
    protocol.py      C  What a node and the process of one of its devices say to each other.
    select.py        C  Which devices a node computes on: what its file wishes for, against what is
                        there.
    shared_memory.py S  The memory that a node and the processes of its devices share, and the
                        frames they send each other.
    worker.py        S  The process of one device: its sequences of every micro-batch, its part of
                        the gradient.
"""
