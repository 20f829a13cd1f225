"""Run a seat of this node: start, train, trade, commit, save.

Modules (C: pure, S: does I/O):

    adoption.py S  Save a seat's shard, serve it to replicas of the same stage, and adopt the state
                   that a replica committed.
    commits.py  S  Commit closed segments: write windows and reveal to disk, then submit the commit
                   of the log.
    compute.py  S  Find the devices of the node file, and open an engine for each seat.
    seats.py    S  Manage the seats of this node: take them, move them from round to round, trade,
                   leave.
    start.py    S  Find the shard a seat starts from: its own, a replica's state, or a checkpoint.
    trade.py    S  Trade one fragment: offer ours, pull a partner's, apply the outer step between
                   two inner steps.
"""
