"""Judging a frozen encoder by shallow classifiers on its features.

Reading order: `settings` (the protocol as numbers), `features` (every segment of every track,
embedded once, on disk), `mlp` (one classifier), `probe` (features and labels -> a
scored result).
"""
