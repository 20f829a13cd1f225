"""Serve one stage of the model to others, and generate through the stages of the live swarm.

Modules (C: pure, S: does I/O):

    client.py S  One text through the stages of a run, each held by some peer: who asks in ``swarm
                 generate --swarm``.
    server.py S  Go on with texts of others through the stages held here: who serves ``swarm
                 generate --swarm``.
"""
