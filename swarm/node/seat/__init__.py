"""Run a seat of this node: start, train, trade, commit, save.

Modules (C: pure, S: does I/O):

    adoption.py S  Begin from what a sibling committed, and let siblings begin from what we did.
    anchors.py  C  Which anchor a segment may stand on, so that whoever replays it finds it on the
                   ledger.
    commits.py  S  The way of a closed segment: its windows to the disk, its reveal behind them, its
                   commit to the ledger.
    compute.py  S  What this node computes with: the devices of its file, and an engine for each
                   seat.
    saved.py    S  The shard that a seat leaves on this disk between two segments: for its own next
                   start, and for siblings.
    seats.py    S  The seats this node sits in: taken, moved from round to round, traded for, left.
    start.py    S  The shard a seat starts from: its own, a sibling's state, or a checkpoint.
    trade.py    S  Trade one fragment: offer ours, pull a partner's, apply the outer step between
                   two steps.
"""
