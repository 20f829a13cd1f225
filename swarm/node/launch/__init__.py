"""Start a run: size it, publish its data and initial weights, open it on the ledger.

Modules (C: pure, S: does I/O):

    fit.py          S  Refuse a run that this machine cannot hold, before it begins: its memory, its
                       disk, its quota.
    home_genesis.py S  Keep the genesis of the network that a home belongs to, and read it without
                       loading a library.
    launch.py       S  Prepare what a launch publishes: the run spec and the genesis.
    publish.py      S  Publish the text of a run: a corpus cut here, or a dataset that was built
                       before.
    retention.py    C  What it takes to keep the windows of a run until nobody may ask for them any
                       more.
    sizing.py       C  What a run asks of the machines that train it: memory, disk, bytes on the
                       wire, pace.
"""
