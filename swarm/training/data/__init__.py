"""Turn documents into token files, and sample ids into windows of tokens.

Modules (C: pure, S: does I/O):

    build.py     S  Build a dataset: find documents, deal them to the halves, encode them, and show
                    the folder when it is whole.
    corpus.py    S  Find and read the files a corpus is made of.
    dataset.py   C  What a dataset is: two token files, the tokenizer they were made with, and a
                    manifest that names them.
    disk.py      S  Write and check token files, one chunk in memory at a time.
    documents.py S  Find documents in text, JSON Lines and Parquet files, one after another.
    parquet.py   S  Read one column of text from a Parquet file, in a process of its own whose
                    memory has a bound.
    samples.py   C  Text to tokens, and a sample id to the window of tokens it names.
    tokenizer.py C  Text to token ids and back: bytes as they are, or by a ``tokenizers`` file.
"""
