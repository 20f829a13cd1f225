"""Implement the subcommands of `swarm`, one module per group.

Modules (C: pure, S: does I/O):

    audit.py        S  Doubt: have the node replay what a stranger says it computed, and report what
                       is false.
    control.py      S  Steer a run of one's own: pause, resume, stop.
    data.py         S  Make datasets, and see what of others is here: data build, ls, verify, clean.
    dry_run.py      S  Go through a launch without starting anything: read the file, the text, the
                       model; say what it takes.
    join.py         S  Take part: join a run, launch one, write a run file.
    ledger.py       S  Read and check the ledger: tail, show, verify. From this home's disk, so no
                       node needs to run.
    ledger_views.py C  Choose the segment to audit: the one that was named, or the newest that can
                       be.
    models.py       S  Take the model out and use it: export, eval, generate.
    status.py       S  Look at the node that runs here: status, map, peers, run.
    ticket.py       S  Invite others, and show who this node is: tickets and identity.
"""
