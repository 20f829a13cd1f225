"""Move: fragments between partners, blobs between all.

pairing.py   C  who averages with whom, from the beacon and the roster
consensus.py C  who trades with whom at the end of a run, until all are one
quantize.py  C  blockwise int8, bfloat16 and zstandard: fewer bytes for the same weights
int4.py      C  half the bytes again, with error feedback
signals.py   C  what crosses a stage boundary: bfloat16, or blockwise int8
chunks.py    C  bytes as numbered, hashed chunks, and back
messages.py  C  what is said on a stream, and what its signatures cover
exchange.py  C  pull one fragment from one partner, as a machine
desk.py      C  what this node has to give: published, handed out, receipted
download.py  C  which chunk of a blob next, from whom, and who is not asked again
shelf.py     S  the folder of blobs, whole and partial
service.py   S  the door of trades: carries pulls, answers asks, blames
blobs.py     S  the door of blobs: serves, adds, fetches from many peers
"""
