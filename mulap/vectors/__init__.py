"""Embeddings on disk: a store that survives kills, and its exports. No torch, no transformers."""
