"""Connect peers: py-libp2p made safe, behind one entry point.

addresses.py   C  addresses at which a peer may be dialled: parsed, cleaned, ranked
patience.py    C  rests after failures, and bans of peers that break the protocol
hello.py       C  the hello of a new connection, and whether to keep the connection
progress.py    C  reports of the search for the first peers
intake.py      C  limits on the bytes held for other peers, per peer and in total
identity.py    S  the key of this node on disk, held by one process at a time
tidy.py        S  quick and complete closing, errors without nursery wrapping
guards.py      S  libp2p's classes with every crash, hang and leak we found closed off
session.py     S  a Noise session that moves many messages per turn of the event loop
muxing.py      S  Yamux that copies received bytes once, and sent bytes not at all
notices.py     S  libp2p's connection notices, reduced to two callbacks
listening.py   S  addresses to listen on, and to announce
streams.py     S  length-prefixed frames, in order, over one stream
link.py        S  one connection to one peer, and its ids in libp2p and here
links.py       S  all connections: greeted, pinged, watched, dropped
calling.py     S  outgoing requests: dials and kept streams
serving.py     S  incoming requests: limits, deadlines and blame
service.py     S  the entry point: open_host and Host
bootstrap.py   S  connections to the named peers: retried for ever, never fatal
"""
