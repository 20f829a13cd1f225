"""The composition: one node made of every room.

duties.py       C  given what I know, what is my next duty?
recorder.py     C  what a seat wrote down becomes a commit
context.py      S  what the parts of a node share
reports.py      S  where events go
datasets.py     S  the run's text, fetched
checkpoints.py  S  canonical checkpoints, posted and pulled
seats.py        S  the seats of this node
trading.py      S  one outer step of one fragment
steward.py      S  ask what is due, see that it is done
acquaintances.py  S  whom the last start was connected to
entrance.py     S  the way into a network and a run
launching.py    S  the run spec and the genesis of a launch
publishing.py   S  the text of a launch, as blobs
snapshot.py     S  the object behind the map
service.py      S  the door: run_node
"""
