"""Find peers: signed records, announcements and the peer map.

Modules (C: pure, S: does I/O):

    announcer.py S  Announcements passed around, and looked up for those we cannot ask.
    directory.py C  What a peer announces; announcements folded into the peer map.
    records.py   C  Signed, expiring, sequenced records and the rules that judge them.
    service.py   S  The door: libp2p's Kademlia under our own protocol id.
"""
