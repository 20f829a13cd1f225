"""Store and fetch content-addressed chunks from many peers: data, checkpoints, logs.

Modules (C: pure, S: does I/O):

    chunks.py   C  Bytes as numbered, hashed chunks, and back.
    disk.py     S  The folder of blobs: whole ones, ones on their way, and their manifests.
    download.py C  Fetch a blob's chunks from many peers: which chunk next, from whom, and who is
                   not asked again.
    service.py  S  Content-addressed chunks from many peers: data, checkpoints, logs.
"""
