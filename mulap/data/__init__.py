"""From a folder of tracks and sentences to batches.

Reading order: `manifest` (rows, with `tables`, `tars` and `splits`), `captions` (cleaning),
`dataset` (`clips` and items), `collator` (items and batches); `prepare` decodes a corpus once (by a
`recipe`, in `workers`, into `shards`), `prepared` reads that; `corpora` makes a corpus of a folder
of music, `demo` one from nothing; `pools` ends their processes.
"""
