"""Check others' work: transcripts, sampling, replay, judging and audits.

Modules (C: pure, S: does I/O):

    audit.py          C  Compare a replay with a segment's commitments: verdict for users, evidence
                         for other peers.
    audit_fetch.py    S  Audit any window that is still on the ledger, at one's own choosing.
    changes.py        C  Derive events from the changes of segments between two final states.
    duties.py         C  Derive the verification duties that the ledger expects of this node now.
    jobs.py           S  The two kinds of work that take long: replay a window we were drawn for,
                         judge one that is disputed.
    judging.py        C  Choose the peers to ask for a window, and judge its solver by the logs that
                         they serve.
    log_rules.py      C  Check that a window's log holds what others signed, where the round allows
                         it, in an order that can be.
    log_store.py      S  Keep logs with their manifests, own answers and own reveals for checks.
    logs.py           S  Find the log of a window, fetch it, and compute it again.
    manifest.py       C  Define the solver's signed manifest of a window's log, and the messages
                         that request it.
    ports.py          S  Declare the ports of the verify package: its requirements of the node.
    replay.py         C  Compute a window of a segment again, from its log and from what everybody
                         knows of the round.
    replay_process.py S  Replay a log that lies in a file.
    round_plan.py     C  A round as training reads it, from what the ledger froze at its boundary.
    service.py        S  Check others' segments, show our own, judge, audit and report: the door of
                         the verify room.
    transcript.py     C  Compute the commitments of one segment: leaves, roots and proofs.
"""
