"""Evaluating a frozen encoder by shallow classifiers on its embeddings."""
