"""Embeddings on disk: a store that survives kills, and its exports.

    keys      what is in an audio file, whatever its tags, name or place
    store     key -> the vectors of that content, appended to by any number of writers
    output    what `mulap embed` writes: one table of files, made of a store
    table     .parquet, .npz and .jsonl

Nothing in here imports torch or transformers.
"""
