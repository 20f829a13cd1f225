"""Composition of one node from all packages.

duties.py       C  planner: the duties that are due, from what the node knows
recorder.py     C  commit of a closed segment, from its log
retention.py    C  disk space to keep replay windows as long as they may be asked for
sizing.py       C  memory, disk, traffic and pace that a run requires
pacing.py       C  estimate of tokens per second
anchoring.py    C  anchors that the checkers of a segment will find on the ledger
audits.py       C  checks and convictions of a run, as rows for the map
boundaries.py   C  rounds of which every stage still has a checkpoint
context.py      S  references that the parts of a node share
reports.py      S  event log: file, recent events, listeners
library.py      S  artifact cache: token files and checkpoint tensors, by their hashes
datasets.py     S  token files and tokenizer of the run, fetched from peers
checkpoints.py  S  canonical checkpoints: posting, starting from the newest, deletion
saving.py       S  shard of a seat, saved on this disk
adopting.py     S  adoption of a replica's committed state, and serving our own
shards.py       S  shard that a seat starts from: saved, adopted or checkpoint
commits.py      S  windows to the disk, then the commit to the ledger
seats.py        S  seats of this node: taken, moved through rounds, left
trading.py      S  one outer step of one fragment
witness.py      S  verdict reporter: judgements, and what they mean for this node
steward.py      S  controller: derives the due duties after every block and starts them
workers.py      S  worker threads and their priorities
acquaintances.py  S  peers of the last start, to reconnect to
doorway.py      S  listen port of the last start, reused
entrance.py     S  join: network and run that a ticket or an earlier start names
launching.py    S  run spec and genesis of a launch
drawing.py      S  roots of seeded initial weights, computed once
fitting.py      S  check that a run fits this machine
publishing.py   S  text of a launch, published as blobs
starting.py     S  pretrained weights of a launch, published as blobs
announcing.py   S  announcements of this node in the directory
auditing.py     S  audits and reports that the user asks for
inference.py    S  distributed generation, server side: the stages held here
chain.py        S  distributed generation, client side: one request through all stages
speaking.py     S  generation requests of the local API
evaluating.py   S  held-out loss of every new checkpoint
steering.py     S  pause, resume and stop of a run by its owner
actions.py      S  actions of the local API
computing.py    S  devices of this node, and an engine for each seat
snapshot.py     S  state object behind the map and the page
service.py      S  entry point: run_node
"""
