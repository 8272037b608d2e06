"""Captions for music that has none: from its texts, what taggers hear, and what is measured."""
