"""Run libp2p safely: identity, connections, streams, limits and back-off.

Modules (C: pure, S: does I/O):

    addresses.py      C  Which addresses a peer may be dialled at, and in which order.
    backoff.py        C  How long to wait before another try, and who is given none.
    bootstrap.py      S  The way in: retried for ever, explained, never fatal.
    client.py         S  Questions out: dialling and kept streams.
    closing.py        S  Ends that are quick, complete and plain.
    connections.py    S  The connections: greeted, pinged, watched, dropped.
    handshake.py      C  The first words on a connection, and whether to stay.
    identity.py       S  The key of this node on disk, held by one process at a time.
    libp2p_patches.py S  libp2p's classes with every crash, hang and leak we found closed off.
    listen.py         S  Where to listen, and what to call it for others.
    memory_quota.py   C  How much of others' questions, and of answers they do not read, this node
                         holds: of one peer and of all.
    noise.py          S  A Noise session that moves many messages per turn of the event loop.
    server.py         S  Questions in: limits, deadlines and blame.
    service.py        S  The door of the network: open a host, ask peers, answer them.
    streams.py        S  Whole frames, in order, over one stream.
    yamux.py          S  Yamux that copies a byte once on its way in, and not at all on its way out.
"""
