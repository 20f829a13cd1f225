"""Run libp2p safely: identity, connections, streams, limits and back-off.

Modules (C: pure, S: does I/O):

    addresses.py      C  Parse, clean and rank the addresses at which peers may be dialled.
    backoff.py        C  Rest after failures before the next try, and ban peers that break the
                         protocol.
    bootstrap.py      S  Connect to the named peers and stay connected: retry for ever, report every
                         try, never fail.
    client.py         S  Send requests to peers: dial them, keep streams open, wait no longer than a
                         deadline.
    clocks.py         C  Say whose clock is wrong, from the hellos of connected peers.
    closing.py        S  Close connections quickly and completely, and raise errors without the
                         wrapping of nurseries.
    connections.py    S  Greet, ping, watch and drop the connections of this host.
    dialback.py       S  Ask peers to dial this node anew, and dial those that ask: so that a node
                         knows who can reach it.
    handshake.py      C  Read the hello of a new connection and decide whether to keep the
                         connection.
    identity.py       S  Load or create the key of this node, and lock its home for one process at a
                         time.
    libp2p_patches.py S  Subclasses of libp2p's classes that close off every crash, hang and leak we
                         found.
    links.py          S  Connections of this host, by connection and by peer, and what is known of
                         each.
    listen.py         S  Find the addresses to listen on, and the ones to announce.
    memory_quota.py   C  Limit what is held for other peers, per peer and in total: requests,
                         replies, unread bytes, streams.
    meter.py          S  Measure the processor time that a task takes, step by step, while it runs.
    noise.py          S  Noise session that moves many messages per turn of the event loop.
    outbound.py       C  Choose the peers that a node stays connected to by its own choice, and when
                         to dial each of them.
    paces.py          C  Bound what strangers cost this node: a part of one core for each place that
                         they come from, and for all.
    pacing.py         S  Charge what a connection costs this node to where it comes from, and let it
                         wait when that is too much.
    peer_ids.py       C  Convert the two ids of a peer: ours, which is its key, and libp2p's.
    places.py         C  Share the places for connections among the networks that they come from, by
                         standing and use.
    ports.py          S  Name what packages above need of a host: ask peers, answer them, and note
                         their faults.
    quota.py          S  Hold bytes of peers within a budget, and end who has to make room for
                         others.
    reachability.py   C  Decide who can reach this node, from what peers say that dialled it anew.
    roaming.py        S  Go on after this machine has moved to another network, with connections
                         from where it is now.
    sealing.py        C  Bytes on their way to a socket: sealed as it takes them, a few messages at
                         a time.
    server.py         S  Answer requests of peers within limits and deadlines, and blame faults.
    service.py        S  Entry point of the network: open a host, send requests to peers, answer
                         theirs.
    streams.py        S  Send and receive length-prefixed frames, in order, over one stream.
    twins.py          C  Tell two processes with one key from a restart, and which of the two is to
                         stop.
    uplink.py         C  Pace what a node sends, so that it leaves the rest of a line to others: an
                         upload limit.
    whereabouts.py    C  Tell when a machine has moved to another network, by the addresses of its
                         interfaces.
    yamux.py          S  Yamux that copies received bytes once, sent bytes not at all, and holds
                         none that have no room.
    relay/               Reach nodes that nobody can dial: circuit relay v2 of libp2p, and hole
                         punching.
    upnp/                Ask the router of a home to forward the port of this node: UPnP, as far as
                         that takes.
"""
