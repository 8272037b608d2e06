"""Evaluating a frozen encoder by shallow classifiers on its embeddings.

Reading order: `settings` (the protocol as numbers), `features` (every segment of every track,
embedded once, on disk), `mlp` (one classifier), `probe` (features and labels -> predictions),
`rows` (results as JSON lines), `pair` (one encoder on one task -> a row), `printing` (its numbers).
"""
