"""Start a run: size it, publish its data and initial weights, open it on the ledger.

Modules (C: pure, S: does I/O):

    fit.py     S  Refuse a run that does not fit this machine's memory, disk or quota, before it
                  begins.
    launch.py  S  Prepare what a launch publishes: the run spec and the genesis.
    publish.py S  Publish as blobs the text of a run and, if it has any, the weights that it starts
                  from.
    sizing.py  C  Compute what a run requires of the machines that train it: memory, disk, bytes on
                  the wire, pace.
"""
