"""Serve this node's state and accept its owner's commands, over the local HTTP API.

Modules (C: pure, S: does I/O):

    actions.py  S  Offer the actions that the user of this machine may ask of a running node: run
                   control, checks, a ticket.
    audit.py    S  Audit or report a window when the user of this machine asks: the actions behind
                   the commands.
    evidence.py S  Write evidence that convinces a stranger, and take it in to report what it shows.
    figures.py  C  Compute the figures that more than one screen shows, and forget those of peers
                   that are gone.
    funding.py  S  Say who goes on with a run, go on with one, and add to the escrow of one's own.
    generate.py S  Serve generation requests of the local API with the model of a running swarm.
    health.py   C  Say whether a node's work moves, and what to do when it does not.
    schema.py   C  The document of GET /api/v1/state: every figure that any screen shows, defined
                   once.
    state.py    S  Build the one document behind the map, the page and every read command, from what
                   a node knows.
    vitals.py   S  Watch what of a node and its run moves: height, steps of every peer, losses.
    wallet.py   S  Move this node's own money: send it, put it up as a stake, take it back, withdraw
                   it; sign what is withdrawn.
"""
