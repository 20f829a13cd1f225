"""Find the network, join it, and remember its peers.

Modules (C: pure, S: does I/O):

    anchors.py     C  Decide which peers a node remembers over restarts: a few anchor peers, and
                      others it has met.
    announce.py    S  Announce this node's roles, seats and progress in the directory, again and
                      again.
    isolation.py   C  Tell that a node is isolated from its network, for which cause, and what mends
                      it.
    join.py        S  Find the network and the run that a ticket or an earlier start names.
    known_peers.py S  Remember peers and the port of the last start, so that the next start needs no
                      ticket.
    lan.py         S  Tell the machines of this network how to join, and find what they tell:
                      multicast DNS, RFC 6762 and 6763.
    staying.py     S  Stay connected: keep links of our own choice, remember who was there, say when
                      this node is isolated.
    twins.py       S  Stop a node whose key runs on another machine for longer, and warn the one
                      that has it.
"""
