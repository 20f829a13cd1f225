"""Bring small statements to all peers: checked before they are passed on, by a mesh of a few peers each.

Modules (C: pure, S: does I/O):

    caches.py   C  Remember which notices were seen, and keep the newest ones for who asks for them.
    mesh.py     C  Choose the links of a mesh: how many, to whom, and which are given up.
    messages.py C  Define the frames of the news protocol and their bounds.
    outbox.py   C  Collect what is to be sent to one peer, and cut it into frames.
    router.py   C  Pass news on: judge it first, push it through a mesh, offer it to the others, and
                   cut off who does harm.
    scores.py   C  Score the peers that news comes from, by what they did: GossipSub v1.1 with the
                   signs as in its text.
    service.py  S  Carry news between this node and the peers that it is connected to.
"""
