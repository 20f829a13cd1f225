"""Serve one stage of the model to others, and generate through the stages of the live swarm.

Modules (C: pure, S: does I/O):

    client.py S  Pass one generation request through the stages of a run, each held by some peer
                 (``swarm generate --swarm``).
    server.py S  Serve the stages held here to generation requests of peers (``swarm generate
                 --swarm``).
"""
