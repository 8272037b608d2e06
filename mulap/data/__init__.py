"""From a folder of tracks and sentences to batches.

Reading order: `manifest` (rows), `captions` (cleaning and making sentences), `dataset` (clips and items),
`collator` (items and batches), `corpora` and `demo` (making a corpus).
"""
