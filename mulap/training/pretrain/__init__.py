"""Pre-training on tracks and sentences."""
