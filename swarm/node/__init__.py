"""The composition: one node made of every room.

duties.py       C  given what I know, what is my next duty?
recorder.py     C  what a seat wrote down becomes a commit
retention.py    C  what it takes to keep windows until nobody asks for them
sizing.py       C  what a run asks of a machine: memory, disk, wire, pace
pacing.py       C  tokens per second, however long a step takes
anchoring.py    C  which anchors those who replay a segment will find
audits.py       C  how checking goes, as rows; who was convicted
boundaries.py   C  the rounds of which a whole model can be had
context.py      S  what the parts of a node share
reports.py      S  where events go
library.py      S  texts and anchors, known by their hashes
datasets.py     S  the run's text, fetched
checkpoints.py  S  canonical checkpoints, posted and cleared away
saving.py       S  the shard a seat leaves on this disk
adopting.py     S  begin from what a sibling committed, and give
shards.py       S  what a seat starts from
commits.py      S  windows to the disk, then the commit to the ledger
seats.py        S  the seats of this node
trading.py      S  one outer step of one fragment
witness.py      S  verdicts, and what they mean for this node
steward.py      S  ask what is due, see that it is done
workers.py      S  the threads it computes in, and which gives way to which
acquaintances.py  S  whom the last start was connected to
doorway.py      S  the port of the last start, again
entrance.py     S  the way into a network and a run
launching.py    S  the run spec and the genesis of a launch
drawing.py      S  the names of weights that a run draws, computed once
fitting.py      S  a run that this machine cannot hold is refused
publishing.py   S  the text of a launch, as blobs
starting.py     S  the weights that a run goes on from, as blobs
announcing.py   S  what this node says of itself
auditing.py     S  audits and reports that a person asks for
inference.py    S  go on with texts of others through the stages held here
chain.py        S  one text through the stages of a run, each at some peer
speaking.py     S  texts written with the live model, for the local API
evaluating.py   S  every new checkpoint, measured on held-out text
steering.py     S  pause, resume and stop, for who owns the run
actions.py      S  what the local page may ask
computing.py    S  the devices of this node, and an engine for each seat
schema.py       C  the document of /api/v1/state: every figure, defined once
health.py       C  whether tokens and height move; cause and command when not
figures.py      C  figures of several peers; those of peers that are gone left out
vitals.py       S  what moves, watched once a second
snapshot.py     S  the document behind the map
service.py      S  the door: run_node
"""
