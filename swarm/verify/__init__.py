"""Doubt: what a trainer commits to, and whether it holds.

transcript.py  C  leaves, roots and proofs of one segment
reveal.py      C  what a solver shows of its segment when it is checked
manifest.py    C  the solver's signed word for a log, and how it is asked for
inputs.py      C  is a log one that an honest seat could have written
replay.py      C  compute a window again: its leaves, and its one answer
rerun.py       S  replay a log that lies in a file
plans.py       C  a round as training reads it, from what the ledger froze
sampling.py    C  which throws of the dice make this node a verifier
answers.py     C  what this node's replay of a window gave, hidden and shown
agenda.py      C  what the ledger expects of this node now
places.py      C  who gets one of the few places for windows to replay
judging.py     C  whom to ask for a window, and what the logs say about its solver
audit.py       C  what a replay says about a segment, and the evidence of it
news.py        C  what has happened to segments, as events
watching.py    C  the segments that are being checked now
keeping.py     C  how long a window stays on this disk
shelf.py       S  logs, answers and reveals on this disk
turns.py       S  one replay at a time, what is urgent first
logs.py        S  find the log of a window, fetch it, compute it again
work.py        S  the long work: check a window, judge a window
inspecting.py  S  audit any window at one's own choosing
ports.py       S  what this room asks of the node it runs in
service.py     S  the door: check, show, judge, audit, report
"""
