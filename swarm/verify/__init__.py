"""Check others' work: transcripts, sampling, replay, judging and audits.

Modules (C: pure, S: does I/O):

    audit.py          C  What a replay says about a segment, for people and for strangers.
    audit_fetch.py    S  Audit any window that is still on the ledger, at one's own choosing.
    changes.py        C  What has happened to segments between two final states, as events.
    duties.py         C  What does the ledger expect of me now?
    jobs.py           S  The two kinds of work that take long: replay a window we were drawn for,
                         judge one that is disputed.
    judging.py        C  Whom to ask for a window, and what the logs that were served say about its
                         solver.
    log_rules.py      C  Check that a window's log holds what others signed, where the round allows
                         it, in an order that can be.
    log_store.py      S  What this node keeps for checking: logs with their manifests, its own
                         answers, its own reveals.
    logs.py           S  Find the log of a window, fetch it, and compute it again.
    manifest.py       C  Who keeps which window of a segment: the solver's signed word for a log,
                         and how it is asked for.
    ports.py          S  What this room asks of the node it runs in.
    replay.py         C  Compute a window of a segment again, from its log and from what everybody
                         knows of the round.
    replay_process.py S  Replay a log that lies in a file.
    round_plan.py     C  A round as training reads it, from what the ledger froze at its boundary.
    service.py        S  Check others' segments, show our own, judge, audit and report: the door of
                         the verify room.
    transcript.py     C  What a trainer commits to: leaves, roots and proofs of one segment.
"""
