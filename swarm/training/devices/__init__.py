"""Run a stage on the devices of this machine: one in process, or one process per device.

Modules (C: pure, S: does I/O):

    engine.py        C  Compute the passes of a shard and sum its gradients: an interface, and its
                        engine on one device.
    group.py         S  Use several devices of one node as one engine: each micro-batch is split
                        over one process per device.
    protocol.py      C  Messages between a node and the process of one of its devices.
    select.py        C  Choose the devices that a node computes on and what it keeps there, from its
                        configuration.
    shared_memory.py S  Memory that a node shares with the processes of its devices, and the frames
                        that they exchange.
    worker.py        S  Compute on one device, in a process of its own: its share of each micro-
                        batch and gradient.
"""
