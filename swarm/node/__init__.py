"""Compose one node from all packages, and run it.

Modules (C: pure, S: does I/O):

    context.py   S  What the parts of a running node share.
    figures.py   C  Compute the figures that more than one screen shows, and forget those of peers
                    that are gone.
    node.py      S  One node: every room in one nursery, from the first byte on disk to Ctrl-C.
    reporting.py S  Where a node's events go: the log in its home, the last few in memory, and
                    whoever listens.
    vitals.py    S  Watch what of a node and its run moves: height, steps of every peer, losses.
    api/            Serve this node's state and accept its owner's commands, over the local HTTP
                    API.
    artifacts/      Fetch, verify and cache what a run is made of: tokens, checkpoints, evaluations.
    control/        Decide what this node does next, from final ledger state, and start it.
    inference/      Serve one stage of the model to others, and generate through the stages of the
                    live swarm.
    join/           Find the network, join it, and remember its peers.
    launch/         Start a run: size it, publish its data and initial weights, open it on the
                    ledger.
    seat/           Run a seat of this node: start, train, trade, commit, save.
"""
