"""Compose one node from all packages, and run it.

Modules (C: pure, S: does I/O):

    context.py   S  Share references between the parts of a running node, open its worker threads,
                    and hold what it measured.
    node.py      S  Run one node: all packages in one nursery, from the first byte on disk to
                    Ctrl-C.
    open.py      S  Open a node in this process and use it: the Python API, and the entrance of the
                    command line.
    ports.py     S  Declare the parts of a node that its modules ask for, one interface each.
    reporting.py S  Write a node's events to the log in its home, keep the last in memory, and
                    stream them to listeners.
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
