"""Turn documents into token files, and sample ids into windows of tokens.

Modules (C: pure, S: does I/O):

    build.py     S  Build a dataset: find documents, assign them to the halves, encode them, and
                    publish the complete folder.
    chat.py      C  Write a conversation of JSON, a list of messages with a role and a content, as
                    one text.
    dataset.py   C  Datasets: the manifest that names two token files and their tokenizer, and the
                    half of each document.
    disk.py      S  Token files and datasets on this disk: write, open, list and check them, one
                    chunk in memory at a time.
    documents.py S  Find the documents of a corpus in text, JSON Lines and Parquet files, and the
                    files of a data source.
    kinds.py     C  Tell by its bytes what a file holds: text and its encoding, or one of the kinds
                    that are left out.
    packed.py    S  Read gzip and zstandard files, and text in UTF-16 or UTF-32, as a stream of
                    UTF-8 of bounded memory.
    parquet.py   S  Read a column of text or conversations from Parquet, in a process of its own
                    whose memory has a bound.
    pieces.py    C  Some chunks of a token file in place of the whole file, and which of them the
                    log of a window reads.
    samples.py   C  Split text into training and held-out halves, and draw the windows of tokens of
                    a micro-batch by its ids.
    tokenizer.py C  Convert text to token ids and back, by bytes or by a ``tokenizers`` file, also
                    while text is generated.
"""
