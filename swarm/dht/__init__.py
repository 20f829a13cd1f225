"""Find peers: their addresses, their state, and what they announce.

records.py     C  signed, expiring, sequenced records and the rules that judge them
directory.py   C  announcements of peers, folded into the peer map
announcing.py  S  announcements exchanged with connected peers, and looked up for the others
service.py     S  the entry point: libp2p's Kademlia under our own protocol id
"""
