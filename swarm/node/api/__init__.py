"""Serve this node's state and accept its owner's commands, over the local HTTP API.

Modules (C: pure, S: does I/O):

    actions.py  S  What the person at this machine may ask a running node to do.
    audit.py    S  Audit a window, or report one, when the person at this machine asks: the actions
                   behind the commands.
    generate.py S  Write texts with the model of a running swarm, for the person at this machine.
    health.py   C  Say whether a node's work moves, and what to do when it does not.
    schema.py   C  The document of GET /api/v1/state: every figure that any screen shows, defined
                   once.
    state.py    S  What a node knows, as the one document behind the map, the page and every read
                   command.
"""
