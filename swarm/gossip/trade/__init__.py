"""Exchange one fragment with one partner: the outbox, the pull machine, the wire messages.

Modules (C: pure, S: does I/O):

    client.py   S  Fetch one fragment from one partner: ask, and bring in the chunks, the first of
                   them without an offer.
    messages.py C  Everything the gossip room says on a stream, and what its signatures cover.
    outbox.py   C  What this node has to give: fragments published, asked for, handed out and
                   receipted.
    payload.py  C  Trade one fragment with one partner: each side pulls the other's.
    pull.py     C  Trade one fragment with one partner: each side pulls the other's.
    server.py   S  Answer a partner who asks for a fragment of ours: packed before it asks, given to
                   few others.
    service.py  S  Carry trades over real links: the door of the gossip room.
"""
