"""Find peers: signed records, announcements and the peer map.

Modules (C: pure, S: does I/O):

    announcer.py S  Exchange announcements with connected peers, and look up those of the others in
                    the DHT.
    directory.py C  Read announcements of peers and fold them into the peer map.
    messages.py  C  Bound the messages of the table before libp2p parses them: length, fields,
                    records, peers and addresses.
    records.py   C  Sign, read and check records of peers: expiring, sequenced statements in the
                    DHT.
    service.py   S  Entry point of the DHT: libp2p's Kademlia under our own protocol id.
"""
