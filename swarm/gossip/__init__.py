"""Move weights and blobs between peers: pairing, trades, codecs and content-addressed chunks.

Modules (C: pure, S: does I/O):

    pairing.py C  Pair the seats of a stage for trades and for the final averaging, from finalised
                  state alone.
    blobs/        Store and fetch content-addressed chunks from many peers: data, checkpoints, logs.
    codecs/       Encode tensors in fewer bytes: int8, int4, bfloat16, and activations between
                  stages.
    news/         Bring small statements to all peers: checked before they are passed on, by a mesh
                  of a few peers each.
    trade/        Exchange one fragment with one partner: the outbox, the pull machine, the wire
                  messages.
"""
