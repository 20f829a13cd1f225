"""Talk: py-libp2p made safe, behind one door.

addresses.py   C  which addresses a peer may be dialled at, and in which order
patience.py    C  how long to wait before another try, and who is given none
hello.py       C  the first words on a connection, and whether to stay
progress.py    C  what a node may say while it looks for its first peer
intake.py      C  how much is held for others at once, of one peer and of all
identity.py    S  the key of this node on disk, held by one process at a time
tidy.py        S  ends that are quick, complete and plain
guards.py      S  libp2p's classes with every crash, hang and leak we found closed off
session.py     S  a Noise session that moves many messages per turn of the event loop
muxing.py      S  Yamux that copies a byte once on its way in, and not at all on its way out
notices.py     S  libp2p's notices of connections, reduced to the two we act on
listening.py   S  where to listen, and what to call it for others
streams.py     S  whole frames, in order, over one stream
link.py        S  one connection to one peer, and the two names a peer has
links.py       S  the connections: greeted, pinged, watched, dropped
calling.py     S  questions out: dialling and kept streams
serving.py     S  questions in: limits, deadlines and blame
service.py     S  the door: open_host and Host
bootstrap.py   S  the way in: retried for ever, explained, never fatal
"""
