"""Turn documents into token files, and sample ids into windows of tokens.

Modules (C: pure, S: does I/O):

    build.py     S  Build a dataset: find documents, assign them to the halves, encode them, and
                    publish the complete folder.
    corpus.py    S  Find and read the files of a corpus.
    dataset.py   C  The manifest of a dataset: it names two token files and the tokenizer that
                    encoded them.
    disk.py      S  Write and check token files, one chunk in memory at a time.
    documents.py S  Find documents in text, JSON Lines and Parquet files, one after another.
    parquet.py   S  Read one column of text from a Parquet file, in a process of its own whose
                    memory has a bound.
    samples.py   C  Convert text to tokens, and sample ids to the windows of tokens that they name.
    tokenizer.py C  Text to token ids and back: bytes as they are, or by a ``tokenizers`` file.
"""
