"""From a folder of tracks and sentences to batches."""
