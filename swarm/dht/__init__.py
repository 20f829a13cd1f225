"""Find: who is there, where, doing what.

records.py     C  signed, expiring, sequenced records and the rules that judge them
directory.py   C  what a peer announces; announcements folded into the peer map
announcing.py  S  announcements passed around, and looked up for those we cannot ask
service.py     S  the door: libp2p's Kademlia under our own protocol id
"""
