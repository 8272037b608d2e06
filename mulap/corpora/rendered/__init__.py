"""A demo corpus of real music writing, rendered from packages; see docs/demo-corpus.md."""
