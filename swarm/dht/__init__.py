"""Find peers: signed records, announcements and the peer map.

Modules (C: pure, S: does I/O):

    announcer.py S  Exchange announcements with connected peers, and look up those of the others in
                    the DHT.
    directory.py C  Read announcements of peers and fold them into the peer map.
    lookup.py    C  Look up the peers closest to a place, or the newest record there, over disjoint
                    paths.
    messages.py  C  Bound the messages of the table before libp2p parses them: length, fields,
                    records, peers and addresses.
    records.py   C  Sign, read and check records of peers: expiring, sequenced statements in the
                    DHT.
    service.py   S  Entry point of the DHT: records, providers and the peer map of one node.
    table.py     S  Ask the peers of the table and answer them: records, providers, closer peers.
"""
