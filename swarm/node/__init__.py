"""Compose one node from all packages, and run it.

Modules (C: pure, S: does I/O):

    context.py   S  What the parts of a running node share.
    node.py      S  One node: every room in one nursery, from the first byte on disk to Ctrl-C.
    open.py      S  Open a node in this process and hold it: the Python API, which the command line
                    uses too.
    reporting.py S  Where a node's events go: the log in its home, the last few in memory, and
                    whoever listens.
    start.py     S  Define how a node starts: it joins a network, launches a run, or resumes where
                    its home left off.
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
