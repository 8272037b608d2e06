"""From a folder of tracks and captions to batches."""
