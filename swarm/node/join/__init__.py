"""Find the network, join it, and remember its peers.

Modules (C: pure, S: does I/O):

    announce.py    S  Tell the directory who this node is and how it goes, again and again.
    join.py        S  Find the network and the run that a ticket or an earlier start names.
    known_peers.py S  Remember whom this node was connected to, so that the next start finds its way
                      without a ticket.
"""
