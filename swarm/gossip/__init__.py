"""Move: fragments between partners, blobs between all.

pairing.py   C  who averages with whom, from the beacon and the roster
consensus.py C  who trades with whom at the end of a run, until all are one
quantize.py  C  blockwise int8, bfloat16 and zstandard: fewer bytes for the same weights
levels.py    C  blockwise levels in one pass, where the C extension was built
int4.py      C  half the bytes again, with error feedback
signals.py   C  what crosses a stage boundary: bfloat16, or blockwise int8
chunks.py    C  bytes as numbered, hashed chunks, and back
messages.py  C  what is said on a stream, and what its signatures cover
exchange.py  C  ask one partner for one fragment, as a machine
gather.py    C  bring in the chunks of one offer, several requests at a time
lines.py     C  how fast what we gave has arrived, and whether fewer bytes are worth their time
desk.py      C  what this node has to give: published, handed out, receipted
download.py  C  which chunk of a blob next, from whom, and who is not asked again
shelf.py     S  the folder of blobs, whole and partial
giving.py    S  answers whoever asks for a fragment: packed before it asks, given to nobody else
fetching.py  S  brings in one fragment, its first chunks before there is an offer
service.py   S  the door of trades: carries pulls, sends receipts, blames
blobs.py     S  the door of blobs: serves, adds, fetches from many peers
"""
