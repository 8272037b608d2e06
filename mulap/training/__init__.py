"""Training: from settings and tracks to a checkpoint."""
