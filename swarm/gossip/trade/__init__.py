"""Exchange one fragment with one partner: the outbox, the pull machine, the wire messages.

Modules (C: pure, S: does I/O):

    client.py   S  Fetch one fragment from one partner: request the offer, then its chunks, the
                   first of them before the offer.
    messages.py C  Define the messages of the gossip protocols, and what their signatures cover.
    outbox.py   C  Hold the outgoing fragments of this node until their receipts, and estimate each
                   partner's link speed.
    payload.py  C  A fragment as it travels: the copy that is published, its payload under a codec,
                   and its reading.
    pull.py     C  Decide the pull of one fragment: request the partner's offer, then its chunks,
                   several at a time.
    server.py   S  Serve our fragments to the partners that request them, packed in advance.
    service.py  S  Trade fragments with partners over real links: the entry point of the gossip
                   package.
"""
