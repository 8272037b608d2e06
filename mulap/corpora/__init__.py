"""Corpora made here: folders of tracks with captions, as any audiofolder reader takes them."""
