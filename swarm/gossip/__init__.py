"""Fragment trades between partners, and content-addressed blobs between all peers.

pairing.py   C  partners of a round, from the beacon and the roster
consensus.py C  partners of the final averaging, round by round
quantize.py  C  blockwise int8, bfloat16, float32 and zstandard encodings
levels.py    C  blockwise quantization in one pass, if the C extension was built
int4.py      C  blockwise int4 with error feedback
signals.py   C  encodings of activations and gradients: bfloat16 or blockwise int8
chunks.py    C  numbered, hashed chunks of bytes, and their manifests
messages.py  C  messages of the protocols, and what their signatures cover
exchange.py  C  state machine that requests one fragment from one partner
gather.py    C  windowed download of the chunks of one offer
lines.py     C  link speed estimates, to choose whether to compress
desk.py      C  outbox: fragments published, sent, acknowledged
download.py  C  scheduler of a blob's chunks: next chunk, peer to ask, peers excluded
shelf.py     S  blob store: the folder of whole and partial blobs
giving.py    S  trade server: answers requests for fragments
fetching.py  S  trade client: fetches one fragment, its first chunks before the offer
service.py   S  entry point of trades: publishes, pulls, sends receipts, blames
blobs.py     S  entry point of blobs: serves, adds, fetches from many peers
"""
