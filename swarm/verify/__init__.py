"""Verify the work of other peers: transcripts, sampling, replay, judging and audits.

Modules (C: pure, S: does I/O):

    answers.py        C  Choose the peers to ask for a window, and make this node's own answer from
                         the logs that they serve.
    audit.py          C  Compare a replay with a segment's commitments: verdict for users, evidence
                         for other peers.
    audit_fetch.py    S  Audit any window that is still on the ledger, chosen by the caller instead
                         of a draw.
    background.py     S  Audit a share of the segments of others, at a rate that this node chooses,
                         and report the lies in them.
    changes.py        C  Track the open segments, and describe the changes of segments between two
                         final states as events.
    court.py          C  Judge moves of a dispute, and proofs of a lie, for the ledger: implements
                         ``ledger.transition.court.Court``.
    demands.py        C  Derive from the ledger which lists this node demands, and which entries it
                         shows.
    draws.py          C  Find the VRF draws that select this node, as a verifier, a witness or a
                         member of a panel.
    duties.py         C  Derive the verification duties that the ledger expects of this node now.
    edge_notes.py     S  Keep what other seats signed for us, or for those we check, until it is
                         compared with their lists.
    edges.py          C  Compare what seats signed and sent with the lists to which their commits
                         bind them.
    evidence.py       C  Evidence for strangers: one file with all that it takes to judge a window,
                         and how it is read and written.
    evidence_check.py C  Judge evidence with nothing but the file and its reader's trust in one
                         genesis: what was said, what is true.
    evidence_file.py  S  Put evidence together from what an audit has fetched, and read and write
                         its file.
    free_audits.py    C  Bound how many logs a node shows in an hour to peers that have no stake.
    hearings.py       S  Find this node's moves in disputes, as the solver or as the accuser.
    inputs.py         C  Commit to what a window of a log takes from others, event by event, so that
                         one event can be shown alone.
    jobs.py           S  Run the long jobs: replay a window that this node checks, or is a witness
                         of, or sits on a panel about.
    log_rules.py      C  Check that a window's log holds signed messages that the round allows, in a
                         possible order.
    log_store.py      S  Store what this node keeps for verification: logs with their manifests, its
                         own answers and reveals.
    logs.py           S  Find, fetch and replay the logs of windows, and serve the manifests kept
                         here.
    manifest.py       C  Define the solver's signed manifest of a window's log, and the messages
                         that request it.
    ports.py          S  Declare the interfaces that verification needs from the node it runs in.
    replay.py         C  Compute a window of a segment again, from its log and the public data of
                         the round.
    replay_process.py S  Replay a log that is stored in a file.
    round_plan.py     C  Build the round plan that training reads, from the state that the ledger
                         froze at the round's boundary.
    sent_lists.py     S  Keep, serve and fetch the lists of what seats sent, and find in them who
                         sent something else.
    service.py        S  Check other peers' segments, reveal our own, audit, report and be heard:
                         the entry point of verification.
    tolerance.py      C  Check a window of a run without exact numerics: how far from its solver's
                         end another machine ends.
    transcript.py     C  Compute the commitments to one segment, and the statement that reveals it.
    program/             Programs: every operator of a micro-batch, an update and a merge, by
                         number, to the same bits as training.
    spots/               Spot checks: a step of a window is checked at elements that nobody knew
                         before its traces were committed.
"""
