"""Store and fetch content-addressed chunks from many peers: data, checkpoints, logs.

Modules (C: pure, S: does I/O):

    chunks.py   C  Split bytes into numbered, hashed chunks, and verify them.
    disk.py     S  Store blobs in a folder: whole ones, partial ones, and their manifests.
    download.py C  Schedule the download of one blob from many peers: the next chunk, and the peer
                   to ask for it.
    service.py  S  Serve, add and fetch content-addressed blobs: data, checkpoints, logs.
"""
