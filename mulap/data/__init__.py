"""From a folder of tracks and sentences to batches.

Reading order: `manifest` (rows), `captions` (cleaning and making sentences), `dataset` (clips and
batches), `corpora` (demo corpora).
"""
